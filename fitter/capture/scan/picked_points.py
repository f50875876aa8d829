"""MeshLab's `.pp` (PickedPoints), an XML file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

_DOCTYPE = re.compile(r"<!DOCTYPE\s+PickedPoints\s*>", re.IGNORECASE)
"""MeshLab writes just this; entities would need a subset in brackets, or an address."""


def read_picked_points(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read points and, from their names, iBUG numbers; points with `active="0"` are NaN.

    Names that are numbers are iBUG numbers, 0 to 67. MeshLab itself numbers points as they are picked, from 0 (some
    writers from 1); such running numbers say nothing but the order, so exactly 7, 51 or 68 points that are named 0, 1,
    2, … or 1, 2, 3, … in any order are taken as the seven points of NoW, the inner 51 or all 68, in the order of their
    names (for 68 from 0 that is the same).

    Args:
        path: The file.

    Returns:
        Points [L, 3] in the file's unit, and their numbers [L], or None where the order says which they are.

    Raises:
        ValueError: No such XML, other document types or entities, or names that are not numbers.
        OSError: The file cannot be read.
    """
    text = _DOCTYPE.sub("", path.read_bytes().decode("utf-8-sig"), count=1)
    # Entities could swell a small file to gigabytes; no picked points need them.
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ValueError("a document type other than PickedPoints, which is not read for safety")
    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise ValueError(f"no readable XML: {error}") from error
    elements = list(root.iter("point"))
    if root.tag != "PickedPoints" or not elements:
        raise ValueError("no PickedPoints with points")
    names = [element.get("name", "").strip() for element in elements]
    if not all(re.fullmatch(r"\d{1,3}", name) for name in names):
        wrong = next(name for name in names if not re.fullmatch(r"\d{1,3}", name))
        raise ValueError(f"a point called {wrong!r}, which is no iBUG number")
    points = np.array([[float(element.get(axis, "nan")) for axis in "xyz"] for element in elements])
    points[[element.get("active", "1").strip() in ("0", "false") for element in elements]] = np.nan
    numbers = np.array([int(name) for name in names])
    order = np.argsort(numbers, kind="stable")
    for start in (0, 1):
        if len(numbers) in (7, 51, 68) and (numbers[order] == np.arange(start, start + len(numbers))).all():
            return points[order], None
    return points, numbers
