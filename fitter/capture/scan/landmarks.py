"""Landmarks on a scan: text, `.npy`, `.json`, MeshLab's `.pp`, and the `.lnd` of the FG 2018 challenge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fitter.capture.scan.picked_points import read_picked_points
from fitter.capture.types import ScanLandmarks
from fitter.errors import InputError

SUFFIXES = (".pp", ".lnd", ".json", ".npy", ".txt")
"""In order of preference where several lie beside one scan."""
ENDINGS = ("", "_landmarks", "_ibug68")
"""What may follow the scan's stem in the name of its landmark file."""
ALL, INNER, SEVEN = 68, 51, 7
SEVEN_POINTS = (36, 39, 42, 45, 33, 48, 54)
"""iBUG numbers of the seven points that NoW and the FG 2018 challenge use, in their order."""
LARGEST_FILE = 10_000_000

_EXPECTED = "68 iBUG points, the 51 inner ones, the 7 of FG 2018, or points with iBUG numbers; x y z each"
_REMEDY = "Make the landmarks again."


def read_scan_landmarks(path: str | Path, mm_per_unit: float = 1.0) -> ScanLandmarks:
    """Read the landmarks of a scan; rows of NaN are points that were not set, and are left out.

    Formats:
        text (`.txt`, `.csv`, any other suffix): lines of x y z, apart by blanks or commas; 68 lines, the 51 inner ones
            (iBUG 17 to 67), or the 7 below.
        `.npy`: array [68, 3], [51, 3] or [7, 3].
        `.json`: a list of 68, 51 or 7 points, `null` for one that was not set; {"indices": [...], "points": [...]};
            or {"17": [x, y, z], ...}.
        `.pp`: MeshLab's picked points. Names that are numbers are iBUG numbers; see `read_picked_points` for MeshLab's
            own running numbers.
        `.lnd`: seven lines `number x y z` (or x y z): right eye's outer corner, right eye's inner, left eye's inner,
            left eye's outer, bottom of the nose, right and left corner of the mouth; from the annotations and the
            docstring of `compute_vertices_to_mesh_distances.py` in the challenge's repository,
            patrikhuber/fg2018-competition (Feng et al., "Evaluation of Dense 3D Reconstruction from 2D Face Images in
            the Wild", FG 2018). NoW uses the same seven, in `.pp` files.

    Args:
        path: The landmark file, in the scan's unit and frame.
        mm_per_unit: Millimetres per unit of the scan's file.

    Returns:
        Points in mm with their iBUG-68 numbers, ascending.

    Raises:
        InputError: The file is missing, is none of these, or holds another number of points.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "landmarks of a scan", "Check the path.")
    readers = {".npy": _read_npy, ".json": _read_json, ".pp": read_picked_points, ".lnd": _read_lnd}
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(path, f"a file of {path.stat().st_size} bytes", "landmarks of a scan", _REMEDY)
        points, indices = readers.get(path.suffix.lower(), _read_text)(path)
    except OSError as error:
        raise InputError(path, f"a file that cannot be read ({error.strerror})", _EXPECTED, "Check it.") from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(path, f"a file that cannot be read as points ({error})", _EXPECTED, _REMEDY) from error
    points, indices = numbered(path, points, indices)
    given = np.isfinite(points).all(1)
    if not given.any():
        raise InputError(path, "no point that is set", _EXPECTED, _REMEDY)
    points, indices = points[given], indices[given]
    if indices.min() < 0 or indices.max() >= ALL:
        raise InputError(path, f"the numbers {indices.min()} to {indices.max()}", "iBUG numbers 0 to 67", _REMEDY)
    if len(np.unique(indices)) != len(indices):
        raise InputError(path, "two points of one number", "each iBUG number once", _REMEDY)
    order = np.argsort(indices)
    return ScanLandmarks(points[order] * mm_per_unit, indices[order], path.name)


def find_scan_landmarks(path: str | Path) -> Path | None:
    """The landmark file that lies beside a scan, or None.

    Looked for are the scan's stem, then the stem with `_landmarks`, then with `_ibug68`, each with `.pp`, `.lnd`,
    `.json`, `.npy`, `.txt`. Files called just as the scan that hold no points (a `.json` or `.txt` may hold anything)
    are passed over; `.pp`, `.lnd` and names that say what they are, are not.

    Args:
        path: The scan's file.
    """
    path = Path(path)
    for ending in ENDINGS:
        for suffix in SUFFIXES:
            candidate = path.with_name(path.stem + ending + suffix)
            if not candidate.is_file() or candidate == path:
                continue
            if ending or suffix in (".pp", ".lnd") or _holds_points(candidate):
                return candidate
    return None


def _holds_points(path: Path) -> bool:
    try:
        read_scan_landmarks(path)
    except InputError:
        return False
    return True


def numbered(path: Path, points: np.ndarray, indices: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Points [L, 3] and their iBUG numbers [L]; where none are given, they follow from how many points there are."""
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(path, f"points of shape {points.shape}", _EXPECTED, _REMEDY)
    if indices is not None:
        if len(indices) != len(points):
            raise InputError(path, f"{len(indices)} numbers for {len(points)} points", "one each", _REMEDY)
        return points, np.asarray(indices, np.int64)
    by_count = {ALL: np.arange(ALL), INNER: np.arange(ALL - INNER, ALL), SEVEN: np.array(SEVEN_POINTS)}
    if len(points) not in by_count:
        raise InputError(path, f"{len(points)} points without numbers", _EXPECTED, _REMEDY)
    return points, by_count[len(points)]


def _read_npy(path: Path) -> tuple[np.ndarray, None]:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header makes numpy's parser raise its own types
        raise ValueError(str(error)) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError("no numeric array")
    return array, None


def _read_json(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(document, dict) and "points" in document:
        indices = document.get("indices")
        points = _rows(document["points"])
        return points, None if indices is None else _whole(indices)
    if isinstance(document, dict):
        return _rows(list(document.values())), _whole([int(name) for name in document])
    if not isinstance(document, list):
        raise ValueError("neither a list nor an object")
    return _rows(document), None


def _rows(values: list) -> np.ndarray:
    """Points of a JSON list; `null` for a point, or for a number of it, is NaN."""
    rows = [[np.nan] * 3 if value is None else value for value in values]
    if not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise ValueError("entries that are not three numbers")
    return np.array([[np.nan if number is None else float(number) for number in row] for row in rows]).reshape(-1, 3)


def _whole(values: list) -> np.ndarray:
    numbers = np.array(values, np.float64)
    if numbers.ndim != 1 or not (numbers == np.round(numbers)).all():
        raise ValueError("numbers of points that are not whole")
    return numbers.astype(np.int64)


def _read_lnd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path)
    if len(table) == 0 or table.shape[1] not in (3, 4) or len(table) > SEVEN:
        raise ValueError(f"{len(table)} lines")
    if table.shape[1] == 4:
        place = _whole(table[:, 0].tolist()) - 1
        if place.min() < 0 or place.max() >= SEVEN:
            raise ValueError("numbers that are not 1 to 7")
        return table[:, 1:], np.array(SEVEN_POINTS)[place]
    if len(table) != SEVEN:
        raise ValueError(f"{len(table)} lines without numbers")
    return table, np.array(SEVEN_POINTS)


def _read_text(path: Path) -> tuple[np.ndarray, None]:
    return _table(path), None


def _table(path: Path) -> np.ndarray:
    """Numbers of a text file, line by line; `#` begins a comment."""
    lines = (line.partition("#")[0] for line in path.read_text(encoding="utf-8-sig").splitlines())
    rows = [[float(number) for number in line.replace(",", " ").replace(";", " ").split()] for line in lines]
    rows = [row for row in rows if row]
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError("lines of different lengths" if rows else "no lines")
    return np.array(rows, np.float64)
