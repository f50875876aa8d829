"""The scan: read in millimetres, and the part of it that counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.errors import InputError
from fitter.export.normals import vertex_normals
from fitter.obj import read_obj

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
NOSE_TIP = 30
PLANE_POINTS = (36, 39, 42, 45, 48, 54)
"""iBUG-68 eye and mouth corners: their plane's normal is the face's forward direction."""


@dataclass(frozen=True)
class Scan:
    """A scanned surface in millimetres."""

    vertices: np.ndarray
    """[V, 3]."""
    triangles: np.ndarray
    """[F, 3]."""
    normals: np.ndarray
    """[V, 3] area-weighted unit normals; zero for vertices that no triangle uses."""


@dataclass(frozen=True)
class FaceFrame:
    """Where a face is and where it looks; what a crop hangs on."""

    nose_tip: np.ndarray
    """[3] mm."""
    forward: np.ndarray
    """[3] unit vector out of the face."""


def load_scan(path: str | Path, unit: str = "mm") -> Scan:
    """Read a scan (PLY, OBJ, STL, …) and bring it to millimetres.

    Raises:
        InputError: The unit is unknown, the file cannot be read, or it has no triangles or no finite coordinates.
    """
    path = Path(path)
    if unit not in MM_PER_UNIT:
        raise InputError("--unit", repr(unit), "mm, cm or m")
    if not path.is_file():
        raise InputError(path, "no such file", "a scan (PLY, OBJ or STL)")
    if path.suffix.lower() == ".obj":
        mesh = read_obj(path)
        vertices, triangles = mesh.vertices, mesh.triangles
    else:
        vertices, triangles = _load_with_trimesh(path)
    if len(triangles) == 0:
        raise InputError(path, "points without triangles", "a triangle mesh", "Mesh the point cloud first.")
    if not np.isfinite(vertices).all():
        raise InputError(path, "coordinates that are not finite", "a clean mesh")
    vertices = vertices * MM_PER_UNIT[unit]
    extent = float(np.ptp(vertices, axis=0).max())
    if not 20.0 <= extent <= 5000.0:
        remedy = "Give the scan's unit with --unit."
        raise InputError(path, f"a scan {extent:.3g} mm large when read in {unit}", "a face or head", remedy)
    return Scan(vertices, triangles, vertex_normals(vertices, triangles))


def _load_with_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    try:
        loaded = trimesh.load(str(path), process=False)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_geometry()
        vertices = np.asarray(loaded.vertices, np.float64)
        triangles = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))), np.int64)
    except Exception as error:  # trimesh's readers raise whatever the malformed file provokes
        raise InputError(path, "a file that cannot be read as a mesh", "PLY, OBJ or STL") from error
    return vertices, triangles


def load_scan_landmarks(path: str | Path, unit: str = "mm") -> np.ndarray:
    """Read 68 iBUG landmarks [68, 3] on a scan: a text file with x y z per line, .npy, or .json (a list).

    Raises:
        InputError: The file cannot be read or does not hold 68 finite points.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            points = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".json":
            points = np.array(json.loads(path.read_text(encoding="utf-8")), np.float64)
        else:
            points = np.loadtxt(path, delimiter="," if "," in path.read_text(encoding="utf-8") else None)
    except (OSError, ValueError) as error:
        raise InputError(path, "a file that cannot be read as points", "68 lines of x y z") from error
    if points.shape != (68, 3) or not np.isfinite(points).all():
        raise InputError(path, f"an array of shape {points.shape}", "68 finite points (iBUG-68), x y z each")
    return points.astype(np.float64) * MM_PER_UNIT[unit]


def face_frame(landmarks: np.ndarray) -> FaceFrame:
    """Nose tip and forward direction of 68 landmarks [68, 3]: the normal of the plane of eye and mouth corners."""
    corners = landmarks[list(PLANE_POINTS)]
    normal = np.linalg.svd(corners - corners.mean(0))[2][2]
    if normal @ (landmarks[NOSE_TIP] - corners.mean(0)) < 0:
        normal = -normal
    return FaceFrame(landmarks[NOSE_TIP], normal)


def crop(scan: Scan, frame: FaceFrame, radius: float) -> np.ndarray:
    """Numbers of the scan vertices within `radius` mm of the nose tip whose normal points forward (within 90°)."""
    near = np.linalg.norm(scan.vertices - frame.nose_tip, axis=1) <= radius
    return np.flatnonzero(near & (scan.normals @ frame.forward > 0.0))
