"""The scan: read in millimetres, and the part of it that counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.capture.scan.clean import merge_vertices
from fitter.capture.scan.landmarks import read_scan_landmarks
from fitter.capture.scan.read import MM_PER_UNIT, find_unit, read_mesh
from fitter.errors import InputError
from fitter.mesh_normals import vertex_normals

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
    """[V, 3] area-weighted unit normals; zero where only empty triangles meet."""


@dataclass(frozen=True)
class FaceFrame:
    """Where a face is and where it looks; what a crop hangs on."""

    nose_tip: np.ndarray
    """[3] mm."""
    forward: np.ndarray
    """[3] unit vector out of the face."""


def load_scan(path: str | Path, unit: str = "mm") -> Scan:
    """Read a scan (PLY, OBJ, STL, GLB, glTF) and bring it to millimetres, uncleaned: every vertex counts, once.

    Raises:
        InputError: The unit is unknown or does not fit, the file cannot be read, or it has no triangles.
    """
    mesh = read_mesh(path)
    vertices, triangles = merge_vertices(mesh.vertices, mesh.triangles)
    vertices = vertices * find_unit(path, vertices, unit).mm
    return Scan(vertices, triangles, vertex_normals(vertices, triangles))


def load_scan_landmarks(path: str | Path, unit: str = "mm") -> np.ndarray:
    """Read all 68 iBUG landmarks [68, 3] of a scan, in mm; formats as in `read_scan_landmarks`.

    Raises:
        InputError: The file cannot be read or does not hold 68 finite points.
    """
    if unit not in MM_PER_UNIT:
        raise InputError("--unit", repr(unit), "mm, cm or m")
    landmarks = read_scan_landmarks(path, MM_PER_UNIT[unit])
    if len(landmarks.points) != 68:
        raise InputError(path, f"{len(landmarks.points)} points", "68 finite points (iBUG-68), x y z each")
    return landmarks.points


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
