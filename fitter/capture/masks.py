"""Masks beside a photograph: `<stem>_mask.png`, `<stem>.mask.png` or `masks/<stem>.png`, white = the subject's face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fitter.capture.image import read_image
from fitter.errors import InputError

_MARKS = ("_mask", ".mask")


def mask_owner(path: Path) -> str | None:
    """Stem of the photograph that a file named as a mask belongs to, or None for any other file."""
    for mark in _MARKS:
        if path.stem.endswith(mark) and len(path.stem) > len(mark):
            return path.stem[: -len(mark)]
    return None


def find_mask(image: str | Path) -> Path | None:
    """The mask file of a photograph, or None.

    Raises:
        InputError: There are several.
    """
    image = Path(image)
    names = [f"{image.stem}{mark}.png" for mark in _MARKS] + [f"masks/{image.stem}.png"]
    found = [path for name in names if (path := image.parent / name).is_file()]
    if len(found) > 1:
        listed = ", ".join(path.relative_to(image.parent).as_posix() for path in found)
        raise InputError(image, f"several masks ({listed})", "one", "Remove those that are not meant.")
    return found[0] if found else None


def read_mask(path: str | Path, size: tuple[int, int], orientation: int = 1) -> np.ndarray:
    """Read a mask of any bit depth.

    Args:
        path: The PNG file; a transparency is used where the picture itself is of one colour.
        size: (height, width) of the upright photograph, px.
        orientation: EXIF orientation of the photograph, to recognise masks painted before it was turned.

    Returns:
        [H, W] float32 in [0, 1].

    Raises:
        InputError: Unreadable, of another size, or black everywhere.
    """
    path = Path(path)
    picture = read_image(path, min_side=1)  # its size is compared below
    mask = picture.image.mean(axis=2)
    if mask.min() == mask.max() and picture.alpha is not None:
        mask = picture.alpha
    if mask.shape != tuple(size):
        remedy = "Paint or export the mask in the photograph's own size."
        if orientation >= 5 and mask.shape == tuple(size[::-1]):
            remedy = f"It was made before the photograph was turned upright as its EXIF tag says. {remedy}"
        raise InputError(
            path,
            f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels",
            f"{size[1]} x {size[0]}, the size of the upright photograph",
            remedy,
        )
    if mask.max() <= 0:
        raise InputError(
            path, "a mask that is black everywhere", "white on the face", "Paint the face white or remove it."
        )
    return mask.astype(np.float32)
