"""Find a session's camera file, read it, and match its entries to photographs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fitter.capture.camera_colmap import is_colmap_folder, read_colmap
from fitter.capture.camera_entries import CameraEntry, CameraFile
from fitter.capture.camera_metashape import is_metashape_file, read_metashape
from fitter.capture.camera_transforms import read_transforms
from fitter.capture.image import IMAGE_SUFFIXES
from fitter.errors import InputError

_COLMAP_FOLDERS = (".", "sparse/0", "sparse", "colmap/sparse/0")


def find_camera_file(folder: str | Path) -> Path | None:
    """The camera file or COLMAP folder of a session's folder, or None.

    Raises:
        InputError: There are several; the user has to say which.
    """
    folder = Path(folder)
    found = [path for path in (folder / "transforms.json",) if path.is_file()]
    found += [path for path in sorted(folder.glob("*.xml")) if is_metashape_file(path)]
    found += [folder / name for name in _COLMAP_FOLDERS if is_colmap_folder(folder / name)][:1]
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise InputError(
            folder, f"several camera files ({names})", "one", "Say which with --cameras, or none with --cameras none."
        )
    return found[0] if found else None


def read_camera_file(path: str | Path) -> CameraFile:
    """Read a camera file of any supported kind.

    Args:
        path: `transforms.json`, Metashape XML, a COLMAP folder, or a folder that holds one of them.

    Raises:
        InputError: No such file, an unknown kind, or contents that cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        found = find_camera_file(path)
        if found is None:
            raise InputError(
                path,
                "no camera file",
                "transforms.json, a COLMAP model or Metashape's cameras.xml",
                "Give the file itself.",
            )
        path = found
    if path.is_dir():
        return read_colmap(path)
    if not path.is_file():
        raise InputError(path, "no such file", "a camera file or folder", "Check the path.")
    if path.suffix.lower() == ".json":
        return read_transforms(path)
    if path.suffix.lower() == ".xml":
        return read_metashape(path)
    if path.name in ("cameras.txt", "images.txt", "cameras.bin", "images.bin"):
        return read_colmap(path.parent)
    raise InputError(path, "a file of unknown kind", "transforms.json, Metashape .xml or a COLMAP folder")


@dataclass(frozen=True)
class CameraMatch:
    """Entries of a camera file, matched to photographs."""

    by_image: dict[Path, CameraEntry]
    absent: tuple[str, ...]
    """Names in the camera file without a photograph."""


def match_cameras(file: CameraFile, images: Sequence[Path], present: Iterable[Path] = ()) -> CameraMatch:
    """Match camera entries to photographs by file name, then by stem.

    Args:
        file: The camera file.
        images: Photographs of the session.
        present: Further photographs that are there but not asked for; entries that name them are not absent.

    Raises:
        InputError: None of the entries has a photograph, or two name the same photograph.
    """
    wanted = set(images)
    everything = list(dict.fromkeys([*images, *present]))
    by_name: dict[str, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    for image in everything:
        by_name.setdefault(image.name, []).append(image)
        by_stem.setdefault(image.stem, []).append(image)
    matched: dict[Path, CameraEntry] = {}
    absent = []
    for entry in file.entries:
        path = PurePosixPath(re.sub(r"\\", "/", entry.name))
        # A name with a dot that is no suffix of a photograph ("cam.01") is a stem as it stands.
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        candidates = by_name.get(path.name) or by_stem.get(stem) or by_stem.get(path.stem) or []
        if not candidates:
            absent.append(entry.name)
        for image in candidates:
            if image in matched:
                raise InputError(
                    file.path,
                    f"two cameras for {image.name} ({matched[image].name} and {entry.name})",
                    "one camera for each photograph, by file name",
                    "Give the photographs of different cameras different names.",
                )
            matched[image] = entry
    chosen = {image: entry for image, entry in matched.items() if image in wanted}
    if matched and not chosen:
        raise InputError(
            file.path,
            f"no camera for {', '.join(image.name for image in list(images)[:3])}",
            "a camera for each photograph of a calibrated session",
            "Choose other photographs, or --cameras none to go without.",
        )
    if not chosen:
        named = ", ".join(entry.name for entry in file.entries[:3])
        here = ", ".join(image.name for image in list(images)[:3])
        raise InputError(
            file.path,
            f"cameras for photographs that are not there ({named}{', ...' if len(file.entries) > 3 else ''})",
            f"cameras for {here}",
            "Rename the photographs, give the matching camera file, or --cameras none to go without.",
        )
    return CameraMatch(by_image=chosen, absent=tuple(absent))
