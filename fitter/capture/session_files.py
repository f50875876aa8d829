"""Which files of a folder or list belong to a session: photographs, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fitter.capture.image import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from fitter.capture.landmark_files import LANDMARK_SUFFIXES, looks_like_landmarks
from fitter.capture.masks import mask_owner
from fitter.errors import InputError

OVERLAY_MARK = "_landmarks"
"""Ending of the stem of pictures that `hrn landmarks` draws; they are not photographs of a session."""


@dataclass(frozen=True)
class SessionFiles:
    """Photographs of a session and where its other files lie."""

    name: str
    root: Path
    """Folder in which a camera file is looked for."""
    images: tuple[Path, ...]
    """Sorted by name; unique stems."""
    foreign: tuple[Path, ...]
    """Photographs in formats that are not read."""
    warnings: tuple[str, ...]


def collect_files(paths: str | Path | Sequence[str | Path]) -> SessionFiles:
    """Find the photographs of a session.

    Args:
        paths: A folder (its photographs, or those of its `images` subfolder), one photograph, or a list of both.

    Raises:
        InputError: Nothing there, no photograph, or two photographs of the same stem.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not given:
        raise InputError("the session", "no path", "a folder or photographs", "Give a folder or photographs.")
    images: list[Path] = []
    foreign: list[Path] = []
    warnings: list[str] = []
    for path in given:
        if path.is_dir():
            folder = _image_folder(path)
            inside = sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
            chosen = _photographs(inside)
            images += chosen
            foreign += [item for item in inside if item.suffix.lower() in FOREIGN_SUFFIXES]
            warnings += _orphans(inside, chosen)
        elif path.is_file() and path.suffix.lower() in FOREIGN_SUFFIXES:
            foreign.append(path)
        elif path.is_file():
            images.append(path)
        else:
            raise InputError(path, "no such file or folder", "a folder or photographs", "Check the path.")
    images = sorted(dict.fromkeys(images), key=lambda path: (path.name, path.as_posix()))
    if not images:
        found = f"only formats that are not read ({', '.join(item.name for item in foreign[:3])})" if foreign else ""
        raise InputError(
            given[0] if len(given) == 1 else given[0].parent,
            found or "no photograph",
            "at least one JPEG, PNG or TIFF",
            "Convert the photographs to JPEG." if foreign else "Give the folder that holds the photographs.",
        )
    _refuse_duplicates(images)
    name, root = _name_and_root(given, images)
    return SessionFiles(name, root, tuple(images), tuple(foreign), tuple(warnings))


def photographs_beside(images: Sequence[Path]) -> list[Path]:
    """All photographs in the folders of the given ones."""
    folders = sorted({image.parent for image in images})
    return [item for folder in folders for item in _photographs(sorted(folder.iterdir()))]


def _image_folder(path: Path) -> Path:
    """The folder itself, or its `images` subfolder where only that holds photographs (COLMAP, nerfstudio)."""
    if not any(item.suffix.lower() in IMAGE_SUFFIXES for item in path.iterdir()) and (path / "images").is_dir():
        return path / "images"
    return path


def _photographs(inside: Sequence[Path]) -> list[Path]:
    pictures = [item for item in inside if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file()]
    stems = {item.stem for item in pictures}
    kept = []
    for item in pictures:
        overlay = item.stem.endswith(OVERLAY_MARK) and item.stem[: -len(OVERLAY_MARK)] in stems
        if mask_owner(item) is None and not overlay:
            kept.append(item)
    return kept


def _orphans(inside: Sequence[Path], images: Sequence[Path]) -> list[str]:
    """Warnings for landmarks and masks whose photograph is not there."""
    stems = {item.stem for item in images}
    warnings = []
    for item in inside:
        if item.suffix.lower() in LANDMARK_SUFFIXES and item.stem not in stems and looks_like_landmarks(item):
            warnings.append(f"{item.name}: landmarks without their photograph {item.stem}.* were left out")
        owner = mask_owner(item) if item.suffix.lower() in IMAGE_SUFFIXES else None
        if owner is not None and owner not in stems:
            warnings.append(f"{item.name}: a mask without its photograph {owner}.* was left out")
    return warnings


def _refuse_duplicates(images: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for image in images:
        if image.stem in seen:
            other = seen[image.stem]
            same_name = other.name == image.name
            raise InputError(
                image.parent,
                f"two photographs of the same name ({other if same_name else other.name} and "
                f"{image if same_name else image.name})",
                "different names without their suffix, since landmarks and cameras are found by them",
                "Remove or rename one of them.",
            )
        seen[image.stem] = image


def _name_and_root(given: Sequence[Path], images: Sequence[Path]) -> tuple[str, Path]:
    if len(given) == 1 and given[0].is_dir():
        folder = given[0].resolve()
        return folder.name or "session", given[0]
    folder = images[0].resolve().parent
    root = images[0].parent
    if root.name == "images" and all(image.parent == root for image in images):
        folder, root = folder.parent, root.parent
    return (images[0].stem if len(images) == 1 else folder.name or "session"), root
