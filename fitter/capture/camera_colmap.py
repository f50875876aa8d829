"""Cameras from a COLMAP model, text or binary (`cameras`, `images`); COLMAP's axes and pixel centres are ours."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from fitter.capture.camera_entries import CameraEntry, CameraFile, Lens
from fitter.capture.undistort import Distortion
from fitter.errors import InputError

# Number in binary files -> (name, number of parameters), from COLMAP's camera model list.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
}
_SUPPORTED = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_COUNTS = dict(_MODELS.values())
_UNDISTORT = "Run `colmap image_undistorter` and give its output."


def is_colmap_folder(folder: Path) -> bool:
    """Whether a folder holds a COLMAP model."""
    return any((folder / f"cameras{end}").is_file() and (folder / f"images{end}").is_file() for end in (".bin", ".txt"))


def read_colmap(folder: str | Path) -> CameraFile:
    """Read a COLMAP model; the binary form wins where both are there, as in COLMAP itself.

    Args:
        folder: Folder with `cameras.bin` and `images.bin`, or `cameras.txt` and `images.txt`.

    Returns:
        Cameras of the registered images, world unit unknown.

    Raises:
        InputError: Missing or damaged files, or a camera model that is not supported.
    """
    folder = Path(folder)
    if not is_colmap_folder(folder):
        raise InputError(folder, "no COLMAP model", "cameras and images, .bin or .txt", "Give the `sparse/0` folder.")
    binary = (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file()
    end = ".bin" if binary else ".txt"
    cameras_path, images_path = folder / f"cameras{end}", folder / f"images{end}"
    try:
        lenses = _cameras_binary(cameras_path) if binary else _cameras_text(cameras_path)
    except (struct.error, ValueError, IndexError, OSError, OverflowError) as error:
        raise _damaged(cameras_path, error) from error
    try:
        entries = _images_binary(images_path, lenses) if binary else _images_text(images_path, lenses)
    except (struct.error, ValueError, IndexError, OSError, OverflowError) as error:
        raise _damaged(images_path, error) from error
    if not entries:
        raise InputError(images_path, "no registered image", "at least one", "Run COLMAP's mapper again.")
    return CameraFile(path=folder, entries=tuple(entries))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(path, f"a damaged or truncated file ({error})", "a COLMAP model file", "Export the model again.")


def _lens(path: Path, model: str, width: int, height: int, parameters: list[float]) -> Lens:
    """Intrinsics of one COLMAP camera; parameter order as in COLMAP's `models.h`."""
    if model not in _SUPPORTED:
        raise InputError(path, f"the camera model {model}", f"one of {', '.join(_SUPPORTED)}", _UNDISTORT)
    if width <= 0 or height <= 0:
        raise InputError(
            path, f"a camera of {width} x {height} pixels", "its size in pixels", "Export the model again."
        )
    if len(parameters) != _COUNTS[model]:
        raise InputError(
            path, f"{len(parameters)} parameters of {model}", f"{_COUNTS[model]}", "Export the model again."
        )
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        parameters = [parameters[0], *parameters]
    fx, fy, cx, cy, *rest = parameters
    names = ("k1", "k2") if model in ("SIMPLE_RADIAL", "RADIAL") else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    distortion = Distortion(**dict(zip(names, rest, strict=False)))
    return Lens(fx, fy, cx, cy, size=(height, width), distortion=distortion)


def _transform(quaternion: list[float], translation: list[float]) -> np.ndarray:
    """[4, 4] from a (w, x, y, z) quaternion; one that is not a unit leaves a scaled rotation for the rigidity check."""
    w, x, y, z = quaternion
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    matrix[:3, 3] = translation
    return matrix


def _entry(
    path: Path, name: str, camera: int, lenses: dict[int, Lens], quaternion: list[float], translation: list[float]
) -> CameraEntry:
    if camera not in lenses:
        raise InputError(path, f"camera {camera} for {name}", "a camera of the cameras file", "Export the model again.")
    return CameraEntry(name, lenses[camera], _transform(quaternion, translation))


def _cameras_text(path: Path) -> dict[int, Lens]:
    lenses = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *parameters = line.split()
            lenses[int(number)] = _lens(path, model, int(width), int(height), [float(value) for value in parameters])
    return lenses


def _images_text(path: Path, lenses: dict[int, Lens]) -> list[CameraEntry]:
    """Two lines per image; the second (2D points) may be empty, so blank lines count once images begin."""
    entries = []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    for line in lines[::2]:
        if not line.strip():
            continue
        _, *pose, camera, name = line.split(maxsplit=9)
        values = [float(value) for value in pose]
        entries.append(_entry(path, name.strip(), int(camera), lenses, values[:4], values[4:]))
    return entries


class _Reader:
    """Little-endian values from a byte string; raises struct.error past its end."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.position = 0

    def take(self, form: str) -> tuple:
        """Unpack the next values of a struct format."""
        values = struct.unpack_from(f"<{form}", self.data, self.position)
        self.position += struct.calcsize(f"<{form}")
        return values

    def text(self) -> str:
        """Next zero-terminated string."""
        end = self.data.index(b"\0", self.position)
        value = self.data[self.position : end].decode("utf-8")
        self.position = end + 1
        return value

    def skip(self, count: int) -> None:
        """Pass over `count` bytes that must be there."""
        if count > len(self.data) - self.position:
            raise struct.error("the file ends early")
        self.position += count


def _cameras_binary(path: Path) -> dict[int, Lens]:
    reader = _Reader(path)
    lenses = {}
    for _ in range(reader.take("Q")[0]):
        number, model, width, height = reader.take("IiQQ")
        if model not in _MODELS:
            raise InputError(path, f"camera model number {model}", f"one of {', '.join(_SUPPORTED)}", _UNDISTORT)
        name, count = _MODELS[model]
        parameters = list(reader.take(f"{count}d")) if name in _SUPPORTED else []
        lenses[number] = _lens(path, name, width, height, parameters)
    return lenses


def _images_binary(path: Path, lenses: dict[int, Lens]) -> list[CameraEntry]:
    reader = _Reader(path)
    entries = []
    for _ in range(reader.take("Q")[0]):
        _, *pose, camera = reader.take("I7dI")
        name = reader.text()
        reader.skip(24 * reader.take("Q")[0])
        entries.append(_entry(path, name, camera, lenses, list(pose[:4]), list(pose[4:])))
    return entries
