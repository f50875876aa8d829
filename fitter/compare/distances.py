"""Distances and angles per point, under a transform of the surface: what every comparison and benchmark counts."""

from __future__ import annotations

import numpy as np

from fitter.compare.align import Similarity
from fitter.compare.surface import Surface


def scan_to_mesh(points: np.ndarray, surface: Surface, pose: Similarity | None = None) -> np.ndarray:
    """Distance [P] (mm) of points [P, 3] to the closest point of `surface` moved by `pose` (libigl; exact)."""
    pose = pose or Similarity.identity()
    return surface.closest(pose.inverse()(points)).distances * pose.scale


def point_to_plane(points: np.ndarray, surface: Surface, pose: Similarity | None = None) -> np.ndarray:
    """Distance [P] (mm) of points [P, 3] to the tangent plane at their closest point (Chen and Medioni 1992).

    The plane's normal is the vertex normals', interpolated: a closest point on an edge belongs to two triangles, and a
    face normal would leave it to chance which. Smaller than `scan_to_mesh`, most of all at the surface's border.
    """
    pose = pose or Similarity.identity()
    local = pose.inverse()(points)
    found = surface.closest(local)
    return np.abs(((local - found.points) * surface.normals_at(found)).sum(1)) * pose.scale


def root_mean_square(distances: np.ndarray) -> float:
    """sqrt(mean(d²)): the 3D-RMSE of one face (Feng et al. 2018, the FG 2018 challenge), mm."""
    return float(np.sqrt((np.asarray(distances) ** 2).mean()))


def angles_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees [P] between unit vectors [P, 3]."""
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1.0, 1.0)))
