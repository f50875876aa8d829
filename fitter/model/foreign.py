"""What the files of published face models have in common: opening, checking, and our conventions.

Nothing here unpickles: MATLAB files are read by scipy (version 7.3 by h5py), HDF5 by h5py, the rest as plain numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fitter.errors import InputError

Progress = Callable[[str, float], None]
"""Receives a label and a fraction in [0, 1]."""

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
EYE_CORNER_DISTANCE_MM = (60.0, 120.0)
"""Plausible distance of a mean face's outer eye corners (about 90 mm); outside of it the unit is another one."""
HEAD_SIZE_MM = (100.0, 600.0)
"""Plausible largest extent of a face mask or head with neck."""


@dataclass(frozen=True)
class PartialModel:
    """A published model as its files give it, in our frame and units: mm, +y up, +z out of the face, linear RGB."""

    name: str
    mean: np.ndarray
    """[V, 3] mm."""
    identity_basis: np.ndarray
    """[V, 3, I] mm per standard deviation."""
    expression_basis: np.ndarray
    """[V, 3, E] mm per unit."""
    expression_names: tuple[str, ...]
    expressions_are_named: bool
    triangles: np.ndarray
    """[F, 3] int64, counter-clockwise from outside."""
    albedo_mean: np.ndarray | None = None
    """[V, 3] linear RGB, or None: a neutral skin is made."""
    albedo_basis: np.ndarray | None = None
    """[V, 3, A] per standard deviation."""
    uv: np.ndarray | None = None
    """[T, 2], origin bottom-left."""
    uv_triangles: np.ndarray | None = None
    """[F, 3] rows of `uv`."""
    landmark_vertices: np.ndarray | None = None
    """[68] iBUG landmarks as vertex numbers."""
    anchors: dict[int, np.ndarray] = field(default_factory=dict)
    """Known positions (mm) of single iBUG landmarks, where the file has some but not all."""
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    """Boolean [V] masks that the documentation of the model gives; the others are carried over."""
    map_surface: np.ndarray | None = None
    """Boolean [V]: the skin that is flattened into the atlas, or None: the largest component."""
    source: dict[str, str] = field(default_factory=dict)
    """File, checksum, licence, assumptions."""


def files_checksum(paths: Iterable[Path]) -> str:
    """SHA-256 (hexadecimal) over the names and contents of files.

    Raises:
        InputError: A file cannot be read.
    """
    total = hashlib.sha256()
    for path in sorted(paths):
        try:
            with open(path, "rb") as file:
                total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(path, f"no readable file ({error.strerror})", "a file of a face model") from error
    return total.hexdigest()


def _head_of(path: Path, remedy: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1024)
    except OSError as error:
        raise InputError(path, f"no readable file ({error.strerror})", "a file of a face model", remedy) from error


def _refuse_other_formats(path: Path, head: bytes, expected: str, remedy: str) -> None:
    """Say what a file is when it is plainly not what its name says; download pages are the usual case."""
    start = head.lstrip().lower()
    kinds = {b"<": "a web page (HTML)", b"pk\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive"}
    kinds[b"version https://git-lfs"] = "a Git LFS pointer instead of the file itself"
    for magic, kind in kinds.items():
        if start.startswith(magic):
            raise InputError(path, kind, expected, remedy)
    if not head:
        raise InputError(path, "an empty file", expected, remedy)


def mat_keys(path: Path, remedy: str = "") -> frozenset[str]:
    """Names of the variables in a MATLAB file, without reading them.

    Raises:
        InputError: Not a MATLAB file, or a damaged one.
    """
    expected = "a MATLAB file (.mat)"
    head = _head_of(path, remedy)
    _refuse_other_formats(path, head, expected, remedy)
    try:
        if HDF5_MAGIC in (head[:8], head[512:520]):
            import h5py

            with h5py.File(path, "r") as file:
                return frozenset(file.keys())
        from scipy.io import whosmat

        return frozenset(name for name, _, _ in whosmat(str(path)))
    except Exception as error:  # scipy's and HDF5's readers raise nearly anything on damaged bytes
        raise InputError(path, f"a file that cannot be read ({error})", expected, remedy) from error


def read_mat(path: Path, required: Iterable[str], remedy: str, optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Numeric variables of a MATLAB file, version 4 to 7.3.

    Args:
        path: The file.
        required: Variables that must be there.
        remedy: Where the right file comes from.
        optional: Variables that may be there.

    Raises:
        InputError: Not a MATLAB file, damaged or truncated, a variable missing, or not numeric.
    """
    present, required = mat_keys(path, remedy), tuple(required)
    missing = [name for name in required if name not in present]
    if missing:
        held = ", ".join(sorted(present)[:12]) or "none"
        raise InputError(path, f"the variables {held}", f"also {', '.join(missing)}", remedy)
    wanted = [*required, *(name for name in optional if name in present)]
    head = _head_of(path, remedy)
    try:
        if HDF5_MAGIC in (head[:8], head[512:520]):
            import h5py

            with h5py.File(path, "r") as file:
                # Version 7.3 stores columns first: what h5py sees is the transpose.
                values = {name: np.asarray(file[name]).T for name in wanted}
        else:
            from scipy.io import loadmat

            values = loadmat(str(path), variable_names=wanted)
            values = {name: values[name] for name in wanted}
    except Exception as error:  # as in mat_keys
        raise InputError(path, f"a damaged or truncated file ({error})", "the whole file", remedy) from error
    for name, value in values.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise InputError(path, f"no numbers in the variable {name}", "a numeric array", remedy)
    return values


@contextmanager
def open_h5(path: Path, remedy: str) -> Iterator[Mapping]:
    """Open an HDF5 file; whatever its reader raises inside becomes an InputError."""
    expected = "an HDF5 file (.h5)"
    _refuse_other_formats(path, _head_of(path, remedy), expected, remedy)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # HDF5's reader raises OSError, KeyError, RuntimeError, ValueError on damaged bytes
        found = " ".join(str(error).split())[:160]
        raise InputError(path, f"a damaged or truncated file ({found})", expected, remedy) from error


def check_numbers(path: Path, name: str, values: np.ndarray, size: int | None, remedy: str) -> np.ndarray:
    """The array as it is, if it has `size` elements and all are finite.

    Raises:
        InputError: Another size, or NaN or infinite entries.
    """
    if size is not None and values.size != size:
        raise InputError(path, f"{values.size} numbers in {name}", str(size), remedy)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(path, f"NaN or infinite numbers in {name}", "finite numbers", remedy)
    return values


def check_indices(path: Path, name: str, indices: np.ndarray, count: int, remedy: str, *, base: int) -> np.ndarray:
    """Indices as int64 counted from 0.

    Args:
        path: File they come from.
        name: Their name in the file.
        indices: Whole numbers in any numeric type.
        count: Number of things they may name.
        remedy: Where the right file comes from.
        base: 1 where the file counts from one (MATLAB), else 0.

    Raises:
        InputError: Fractions, or an index out of range.
    """
    whole = np.asarray(indices).astype(np.int64)
    if not np.array_equal(whole, indices):
        raise InputError(path, f"fractions in {name}", "whole numbers", remedy)
    if whole.size and (whole.min() < base or whole.max() >= count + base):
        found = f"indices {whole.min()} to {whole.max()} in {name}"
        raise InputError(path, found, f"{base} to {count + base - 1}", remedy)
    return whole - base


def oriented_outwards(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles [F, 3], all turned round if most of the surface's area looks inwards.

    Outside is away from a point at the back of the head's bounding box, which lies inside of masks and heads alike.
    """
    used = vertices[np.unique(triangles)]
    low, high = used.min(0), used.max(0)
    inside = np.array([*(0.5 * (low + high))[:2], low[2] + 0.25 * (high[2] - low[2])])
    a, b, c = (vertices[triangles[:, corner]] - inside for corner in range(3))
    outwards = (np.cross(b - a, c - a) * (a + b + c)).sum()
    return triangles if outwards >= 0 else np.ascontiguousarray(triangles[:, ::-1])


def linearise(mean: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sRGB-encoded colours to linear RGB: the mean exactly, the basis to first order around it (IEC 61966-2-1).

    Args:
        mean: [V, 3] in [0, 1], sRGB-encoded.
        basis: [V, 3, A] in the same unit.
    """
    encoded = np.clip(np.asarray(mean, np.float64), 0.0, 1.0)
    curve = ((encoded + 0.055) / 1.055) ** 2.4
    linear = np.where(encoded <= 0.04045, encoded / 12.92, curve)
    slope = np.where(encoded <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((encoded + 0.055) / 1.055) ** 1.4)
    return linear, np.asarray(basis, np.float64) * slope[..., None]


def check_size(path: Path, vertices: np.ndarray, eye_corners: np.ndarray | None, unit: str, remedy: str) -> None:
    """Refuse a model whose size shows that its unit is not the documented one.

    Args:
        path: File to name.
        vertices: [V, 3] mm.
        eye_corners: [2, 3] outer eye corners (iBUG 36 and 45), mm, where known.
        unit: The unit that was assumed.
        remedy: Where the right file comes from.

    Raises:
        InputError: The eye corners or the extent cannot be those of a head in millimetres.
    """
    extent = float((vertices.max(0) - vertices.min(0)).max())
    measured, (low, high), what = extent, HEAD_SIZE_MM, "a head"
    if eye_corners is not None:
        measured, (low, high) = float(np.linalg.norm(eye_corners[1] - eye_corners[0])), EYE_CORNER_DISTANCE_MM
        what = "a distance between the outer eye corners"
    if not low <= measured <= high:
        found = f"{what} of {measured:.4g} mm when read in {unit}"
        raise InputError(path, found, f"{low:g} to {high:g} mm", remedy)
