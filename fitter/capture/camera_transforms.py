"""Cameras from `transforms.json` (nerfstudio, instant-ngp): OpenGL axes, camera-to-world."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from fitter.capture.camera_entries import CameraEntry, CameraFile, Lens
from fitter.capture.undistort import Distortion
from fitter.errors import InputError

_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def read_transforms(path: str | Path) -> CameraFile:
    """Read a nerfstudio or instant-ngp camera file.

    Intrinsics stand at the top or in a frame (the frame wins). `k4` is the r⁸ coefficient, as nerfstudio computes it.

    Args:
        path: The JSON file.

    Returns:
        Cameras with OpenCV axes, world unit unknown.

    Raises:
        InputError: Not JSON, no frames, a lens model that is not a polynomial one, or malformed entries.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            path, f"no readable JSON ({error})", "a transforms.json", "Export the cameras again."
        ) from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(path, "no list of frames", "`frames` with `file_path` and `transform_matrix`")
    shared = {key: value for key, value in document.items() if key != "frames"}
    return CameraFile(
        path=path, entries=tuple(_entry(path, index, shared, frame) for index, frame in enumerate(frames))
    )


def _entry(path: Path, index: int, shared: dict, frame: object) -> CameraEntry:
    where = f"{path} (frame {index})"
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise InputError(where, "no `file_path`", "the photograph's name", "Export the cameras again.")
    where = f"{path} ({frame['file_path']})"
    try:
        camera_to_world = np.array(frame["transform_matrix"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        camera_to_world = np.empty(0)
    if camera_to_world.shape == (3, 4):
        camera_to_world = np.vstack([camera_to_world, [0, 0, 0, 1]])
    if camera_to_world.shape != (4, 4):
        raise InputError(where, "no 4 x 4 `transform_matrix`", "a camera-to-world matrix", "Export the cameras again.")
    lens = _lens(where, {**shared, **frame})
    return CameraEntry(frame["file_path"], lens, _invert(camera_to_world @ _OPENCV_FROM_OPENGL))


def _invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse that keeps what is wrong with a matrix visible: NaN stays, a scaled rotation stays a scaled one."""
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full((4, 4), np.nan)


def _lens(where: str, values: dict) -> Lens:
    model = str(values.get("camera_model", "OPENCV")).upper()
    if model not in _MODELS or values.get("is_fisheye"):
        name = model if model not in _MODELS else "fisheye"
        raise InputError(
            where,
            f"the camera model {name}",
            f"one of {', '.join(_MODELS)}",
            "Undistort the photographs first (`colmap image_undistorter`) and export pinhole cameras.",
        )

    def number(key: str) -> float | None:
        value = values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(where, f"{key} = {value!r}", "a number", "Export the cameras again.")
        return float(value)

    width, height = number("w"), number("h")
    for key, value in (("w", width), ("h", height)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(where, f"{key} = {value}", "the photograph's size in pixels", "Export the cameras again.")
    lens = Lens(
        focal_x=number("fl_x"),
        focal_y=number("fl_y"),
        centre_x=number("cx"),
        centre_y=number("cy"),
        angle_x=number("camera_angle_x"),
        angle_y=number("camera_angle_y"),
        size=(int(height), int(width)) if width and height else None,
        distortion=Distortion(
            **{key: number(key) or 0.0 for key in ("k1", "k2", "k3", "p1", "p2")}, r8=number("k4") or 0.0
        ),
    )
    if lens.focal_x is None and lens.focal_y is None and lens.angle_x is None and lens.angle_y is None:
        raise InputError(where, "no focal length", "`fl_x` or `camera_angle_x`", "Add it to the file or to the frame.")
    return lens
