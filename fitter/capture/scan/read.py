"""A mesh file as vertices and triangles in the file's own unit, and which unit that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.capture.scan.formats import EXPECTED, check_file, no_triangles
from fitter.errors import InputError
from fitter.obj import read_obj

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
UNIT_RANGES = (("m", 0.08, 1.6), ("cm", 8.0, 80.0), ("mm", 80.0, 1600.0))
"""Unit and the extents (largest side of the bounding box, in the file's numbers) that speak for it: 8 cm to 1.6 m."""
PLAUSIBLE_MM = (20.0, 5000.0)
"""Extents that are believed when the unit is given."""


@dataclass(frozen=True)
class RawMesh:
    """A mesh as its file holds it."""

    vertices: np.ndarray
    """[V, 3] float64, finite, in the file's unit; only vertices that a triangle uses."""
    triangles: np.ndarray
    """[F, 3] int64."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unit:
    """The unit of a file."""

    name: str
    """`mm`, `cm` or `m`."""
    mm: float
    """Millimetres per unit."""
    warnings: tuple[str, ...] = ()


def read_mesh(path: str | Path) -> RawMesh:
    """Read a scan (PLY, OBJ, STL, GLB, glTF) as it is, but for vertices that are not finite or that nothing uses.

    Scenes are joined, with their transforms. Polygons are cut into triangles.

    Raises:
        InputError: The file is missing, empty, truncated, no mesh, without triangles, or more than half of its
            triangles have coordinates that are not finite.
    """
    path = Path(path)
    check_file(path)
    vertices, triangles = _read_obj(path) if path.suffix.lower() == ".obj" else _read_with_trimesh(path)
    if len(triangles) == 0:
        raise no_triangles(path)
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise InputError(path, "triangles of vertices that are not there", EXPECTED, "Export the scan again.")
    warnings = []
    good = np.isfinite(vertices).all(1)[triangles].all(1)
    bad = len(good) - int(good.sum())
    if 2 * bad > len(good):
        found = f"coordinates that are not finite in {bad} of {len(good)} triangles"
        raise InputError(path, found, EXPECTED, "Export the scan again.")
    if bad:
        warnings.append(f"{bad} triangles of the scan had coordinates that are not finite; they were left out.")
        triangles = triangles[good]
    return RawMesh(*compacted(vertices, triangles), tuple(warnings))


def compacted(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices that a triangle uses, in their order, and the triangles over them."""
    used = np.zeros(len(vertices), bool)
    used[triangles.ravel()] = True
    if used.all():
        return vertices, triangles
    return vertices[used], (np.cumsum(used) - 1)[triangles]


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        mesh = read_obj(path)
    except InputError as error:
        if "no faces" in error.found:
            raise no_triangles(path) from error
        raise
    return mesh.vertices, mesh.triangles


def _read_with_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    try:
        loaded = trimesh.load(str(path), process=False)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_geometry()
        vertices = np.asarray(loaded.vertices, np.float64).reshape(-1, 3)
        triangles = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))), np.int64).reshape(-1, 3)
    except Exception as error:  # trimesh's readers raise whatever the malformed file provokes
        remedy = "The file may be damaged or cut short, or mix triangles with other polygons; export triangles."
        raise InputError(path, "a file that cannot be read as a mesh", EXPECTED, remedy) from error
    return vertices, triangles


def find_unit(path: str | Path, vertices: np.ndarray, unit: str | None = None) -> Unit:
    """The unit of a scan: as given, or the one in which it is 8 cm to 1.6 m large.

    A face, a head or a bust lies in the middle of that range in one unit only; sizes from 1.6 to 8 in the file's
    numbers, and everything below 0.08 or above 1600, are not judged.

    Args:
        path: For messages.
        vertices: [V, 3] in the file's unit.
        unit: `mm`, `cm`, `m`, or None to find it.

    Raises:
        InputError: The unit is unknown, the scan has no extent, or its size fits no unit or not the given one.
    """
    if unit is not None and unit not in MM_PER_UNIT:
        raise InputError("--unit", repr(unit), "mm, cm or m")
    extent = float(np.ptp(vertices, axis=0).max())
    if not extent > 0:
        raise InputError(path, "a mesh without extent: all its vertices are one point", "a face or head")
    if unit is not None:
        size = extent * MM_PER_UNIT[unit]
        if not PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1]:
            remedy = "Give the scan's unit with --unit."
            raise InputError(path, f"a scan {size:.3g} mm large when read in {unit}", "a face or head", remedy)
        return Unit(unit, MM_PER_UNIT[unit])
    for name, least, most in UNIT_RANGES:
        if least <= extent <= most:
            scale = MM_PER_UNIT[name]
            note = (
                f"The scan is {extent:.3g} units large; the unit is taken to be {name} ({extent * scale:.0f} mm). "
                "Give --unit if that is wrong."
            )
            return Unit(name, scale, () if name == "mm" else (note,))
    found = f"a scan {extent:.3g} units large, which is no face or head in mm, cm or m"
    raise InputError(path, found, "8 cm to 1.6 m", "Give the scan's unit with --unit.")
