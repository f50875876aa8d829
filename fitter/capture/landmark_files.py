"""Landmarks beside a photograph: `.pts`, `.json`, `.npy`; docs of the formats in `read_landmarks`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.atomic import write_text
from fitter.capture.types import Landmarks
from fitter.errors import InputError

LANDMARK_SUFFIXES = (".json", ".npy", ".pts")
"""In order of preference where several lie beside one photograph."""

_SCHEMES = {68: "ibug68", 468: "mediapipe478", 478: "mediapipe478"}
_INDEX_TO_CENTRE = 0.5
"""Detectors of 68 points count pixels: coordinate 0 is the *middle* of the first pixel, which is 0.5 here."""
_OUTSIDE_MARGIN = 0.05
_OUTSIDE_FRACTION = 0.1
_EXPECTED = "68 iBUG points or 468/478 MediaPipe points"


@dataclass(frozen=True)
class _Raw:
    """Numbers of a landmark file before they are checked against the photograph."""

    points: np.ndarray
    confidence: np.ndarray | None
    scheme: str | None
    size: tuple[int, int] | None
    offset: float | None
    """Added to get the engine's pixel convention; None = what is usual for the scheme."""


def find_landmark_files(image: str | Path) -> list[Path]:
    """Landmark files beside a photograph with its stem, preferred first."""
    image = Path(image)
    return [path for suffix in LANDMARK_SUFFIXES if (path := image.with_suffix(suffix)).is_file()]


def read_landmarks(path: str | Path, size: tuple[int, int], stored_size: tuple[int, int] | None = None) -> Landmarks:
    """Read the landmarks of one photograph.

    Formats:
        `.pts`: iBUG's text format (`version`, `n_points`, points between braces), 68 points.
        `.npy`: float array [68, 2], [68, 3] (third column: confidence), [468 or 478, 2 or 3] (third column: depth,
            ignored).
        `.json`: {"scheme": "ibug68" or "mediapipe478", "points": [[x, y], ...], "confidence": [...],
            "image_size": [height, width]}, the last two optional; or the bare list of points.

    Pixel convention: our `.json` object has (0.5, 0.5) at the centre of the top-left pixel. `.pts`, `.npy` and bare
    lists come from detectors: 68 points are taken as pixel indices (dlib, face-alignment: 0 is the centre of the first
    pixel) and moved by +0.5; MediaPipe points are fractions of the image's size (all within [0, 1]) or multiples of
    them, whose origin is the corner, and stay. Files in the one-based convention of the original iBUG annotations come
    out one pixel to the right and below, which is less than a detector can tell.

    Args:
        path: The landmark file.
        size: (height, width) of the upright photograph, px.
        stored_size: (height, width) before the EXIF rotation, to recognise landmarks made for it.

    Returns:
        Landmarks; of 468 MediaPipe points the 10 of the irises are added with confidence 0.

    Raises:
        InputError: Not such a file, another number of points, NaN, points for another picture or outside of it.
    """
    path = Path(path)
    readers = {".pts": _read_pts, ".json": _read_json, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise InputError(path, f"the suffix {path.suffix!r}", "one of .pts, .json, .npy", "Convert the landmarks.")
    try:
        raw = readers[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(path, f"a file that cannot be read ({error})", "a landmark file", "Check the file.") from error
    return _checked(path, raw, size, stored_size or size)


def looks_like_landmarks(path: Path) -> bool:
    """Whether a file holds landmarks, to tell an orphan from any other `.json` or `.npy`."""
    if path.suffix.lower() == ".pts":
        return True
    try:
        raw = _read_json(path) if path.suffix.lower() == ".json" else _read_npy(path)
    except (InputError, OSError):
        return False
    return raw.points.ndim == 2 and raw.points.shape[0] in _SCHEMES


def write_landmarks(path: str | Path, landmarks: Landmarks, size: tuple[int, int]) -> None:
    """Write our `.json` format, whole or not at all.

    Args:
        path: File to write.
        landmarks: Points in px, (0.5, 0.5) = centre of the top-left pixel.
        size: (height, width) of the photograph they belong to, px.
    """
    document = {
        "scheme": landmarks.scheme,
        "image_size": [int(size[0]), int(size[1])],
        "points": [[round(float(x), 4), round(float(y), 4)] for x, y in landmarks.points],
        "confidence": [round(float(value), 4) for value in landmarks.confidence],
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def _read_pts(path: Path) -> _Raw:
    text = path.read_text(encoding="utf-8", errors="replace")
    head, opening, rest = text.partition("{")
    body, closing, _ = rest.partition("}")
    if not opening or not closing or "n_points" not in head:
        remedy = "Write the points in iBUG's .pts format."
        raise InputError(path, "no `n_points` and braces", "`version: 1`, `n_points: 68`, { points }", remedy)
    try:
        points = np.array([[float(value) for value in line.split()] for line in body.split("\n") if line.strip()])
        declared = int(head.split("n_points")[1].split(":")[1].split()[0])
    except (ValueError, IndexError) as error:
        raise InputError(path, f"lines that are not two numbers ({error})", "x y in each line") from error
    if declared != len(points):
        raise InputError(path, f"{len(points)} points", f"the {declared} that `n_points` says", "Make them again.")
    return _Raw(points, None, None, None, None)


def _read_npy(path: Path) -> _Raw:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a damaged header makes numpy's parser raise its own types
        raise InputError(path, f"no plain numeric array ({error})", _EXPECTED, "Save it with numpy.save.") from error
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "fiu"
        or array.ndim != 2
        or array.shape[1] not in (2, 3)
    ):
        shape = getattr(array, "shape", "no array")
        raise InputError(path, f"an array of shape {shape}", f"{_EXPECTED}, 2 or 3 columns", "Save x, y per point.")
    array = array.astype(np.float64)
    confidence = array[:, 2] if array.shape == (68, 3) else None
    return _Raw(array[:, :2], confidence, None, None, None)


def _read_json(path: Path) -> _Raw:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(path, f"no readable JSON ({error})", "a landmark file", "Make the landmarks again.") from error
    ours = isinstance(document, dict)
    values = document if ours else {"points": document}
    try:
        points = np.array(values["points"], dtype=np.float64)
        confidence = None if values.get("confidence") is None else np.array(values["confidence"], dtype=np.float64)
        size = None if values.get("image_size") is None else tuple(int(value) for value in values["image_size"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            path, f"no usable `points` ({error})", "`points`: [[x, y], ...]", "Make them again."
        ) from error
    if points.ndim == 2 and points.shape[1:] == (3,) and len(points) in (468, 478):
        points = points[:, :2]
    if size is not None and len(size) != 2:
        raise InputError(path, f"`image_size` {list(size)}", "[height, width]", "Correct the file.")
    return _Raw(points, confidence, values.get("scheme"), size, 0.0 if ours else None)


def _checked(path: Path, raw: _Raw, size: tuple[int, int], stored_size: tuple[int, int]) -> Landmarks:
    """Landmarks in the engine's convention, once they fit the photograph."""
    points = raw.points
    if points.ndim != 2 or points.shape[1] != 2 or len(points) not in _SCHEMES:
        found = (
            f"{len(points)} points" if points.ndim == 2 and points.shape[1] == 2 else f"points of shape {points.shape}"
        )
        raise InputError(path, found, _EXPECTED, "Make the landmarks again.")
    scheme = _SCHEMES[len(points)]
    if raw.scheme is not None and raw.scheme != scheme:
        raise InputError(
            path, f"the scheme {raw.scheme!r} with {len(points)} points", f"{scheme!r}", "Correct the file."
        )
    confidence = np.ones(len(points)) if raw.confidence is None else raw.confidence
    if confidence.shape != (len(points),):
        raise InputError(path, f"{confidence.size} confidences", f"{len(points)}, one per point", "Correct the file.")
    if not np.isfinite(points).all() or not np.isfinite(confidence).all():
        raise InputError(path, "NaN or infinite landmarks", "finite numbers", "Make the landmarks again.")
    if raw.size is not None and raw.size != size:
        raise _other_size(path, raw.size, size, stored_size)
    normalised = scheme == "mediapipe478" and raw.offset is None and np.abs(points).max() <= 1.5
    if normalised:
        points = points * (size[1], size[0])
    offset = raw.offset if raw.offset is not None else (_INDEX_TO_CENTRE if scheme == "ibug68" else 0.0)
    points = points + offset
    _check_inside(path, points, size, stored_size)
    if len(points) == 468:
        points = np.concatenate([points, np.repeat(points.mean(0, keepdims=True), 10, axis=0)])
        confidence = np.concatenate([confidence, np.zeros(10)])
    return Landmarks(points=points, confidence=confidence.clip(0, 1), scheme=scheme)


def _other_size(path: Path, stated: tuple, size: tuple[int, int], stored_size: tuple[int, int]) -> InputError:
    remedy = "Make the landmarks again for this photograph (`hrn landmarks`)."
    if stated == stored_size:
        remedy = f"They were made before the photograph was turned upright as its EXIF tag says. {remedy}"
    return InputError(
        path,
        f"landmarks for a picture of {stated[1]} x {stated[0]} pixels",
        f"{size[1]} x {size[0]}, the size of the upright photograph",
        remedy,
    )


def _outside_fraction(points: np.ndarray, size: tuple[int, int]) -> float:
    limit = np.array([size[1], size[0]], dtype=np.float64)
    outside = (points < -_OUTSIDE_MARGIN * limit) | (points > (1 + _OUTSIDE_MARGIN) * limit)
    return float(outside.any(axis=1).mean())


def _check_inside(path: Path, points: np.ndarray, size: tuple[int, int], stored_size: tuple[int, int]) -> None:
    fraction = _outside_fraction(points, size)
    if fraction <= _OUTSIDE_FRACTION:
        return
    remedy = "They belong to another picture or size; make them again (`hrn landmarks`)."
    if stored_size != size and _outside_fraction(points, stored_size) <= _OUTSIDE_FRACTION:
        remedy = (
            "They were made before the photograph was turned upright as its EXIF tag says; make them again "
            "(`hrn landmarks`)."
        )
    raise InputError(
        path,
        f"{fraction:.0%} of the landmarks outside the photograph",
        f"points within {size[1]} x {size[0]} pixels",
        remedy,
    )
