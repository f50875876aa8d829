"""Curves on a face in 3D: splines through points near landmarks, drawn onto the surface, and the distance to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

SAMPLE_MM = 0.25


@dataclass(frozen=True, eq=False)
class SurfaceCurve:
    """A curve that lies on the surface, sampled every `SAMPLE_MM`."""

    points: np.ndarray
    """[M, 3] mm."""
    sideways: np.ndarray
    """[M, 3] unit, across the curve and along the surface."""

    @property
    def length(self) -> float:
        """Length, mm."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())


class SurfaceDrawer:
    """Draws curves on a surface given as dense points with normals."""

    def __init__(self, points: np.ndarray, normals: np.ndarray) -> None:
        """Points [N, 3] mm of the outer skin and their normals [N, 3]."""
        self._points, self._normals = points, normals
        self._tree = cKDTree(points)
        facing = normals[:, 2] > 0.15
        self._front = np.flatnonzero(facing)
        self._front_tree = cKDTree(points[facing, :2])

    def onto_front(self, points: np.ndarray) -> np.ndarray:
        """Surface points [M, 3] seen from the front at x, y of points [M, 2 or 3]."""
        return self._points[self._front[self._front_tree.query(points[:, :2])[1]]]

    def draw(
        self, stations: np.ndarray, random: np.random.Generator, wobble_mm: float = 0.4, from_front: bool = False
    ) -> SurfaceCurve:
        """A curve on the surface near stations [S, 3], with a natural wobble.

        Args:
            stations: [S >= 2, 3] mm, near the surface.
            random: Source of the wobble.
            wobble_mm: Standard deviation across the curve.
            from_front: Project along z instead of to the closest point.
        """
        chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(stations, axis=0), axis=1))])
        if from_front:
            stations = self.onto_front(stations)
        spline = CubicSpline(chord, stations, bc_type="natural")
        count = max(int(chord[-1] / SAMPLE_MM), 8)
        points = spline(np.linspace(0.0, chord[-1], count))
        for _ in range(2):
            nearest = (
                self._front[self._front_tree.query(points[:, :2])[1]] if from_front else self._tree.query(points)[1]
            )
            points = gaussian_filter1d(self._points[nearest], 1.2 / SAMPLE_MM, axis=0, mode="nearest")
        nearest = self._tree.query(points)[1]
        sideways = _sideways(points, self._normals[nearest])
        # Slow waves and small kinks: several low-pass filtered random walks.
        wave = sum(
            share * _unit(gaussian_filter1d(random.normal(size=count), width / SAMPLE_MM, mode="nearest"))
            for share, width in ((0.8, 6.0), (0.5, 2.0))
        )
        points = points + wobble_mm * wave[:, None] * sideways
        nearest = self._tree.query(points)[1]
        normal = self._normals[nearest]
        points = points + ((self._points[nearest] - points) * normal).sum(1, keepdims=True) * normal
        points = gaussian_filter1d(points, 0.5 / SAMPLE_MM, axis=0, mode="nearest")
        return SurfaceCurve(points, _sideways(points, normal))


def _unit(signal: np.ndarray) -> np.ndarray:
    return (signal - signal.mean()) / max(float(signal.std()), 1e-9)


def _sideways(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    across = np.cross(normals, np.gradient(points, axis=0))
    return across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)


def along_and_across(
    curve: SurfaceCurve, points: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place of points with respect to a curve.

    Args:
        curve: The curve.
        points: [N, 3] mm.
        reach: Farther points are left out, mm.

    Returns:
        Numbers [K] of the points within reach, their place along the curve [K] in [0, 1], and their signed distance
        across it [K], mm (positive where `sideways` points).
    """
    lower, upper = curve.points.min(0) - reach, curve.points.max(0) + reach
    boxed = np.flatnonzero(((points > lower) & (points < upper)).all(1))
    distance, nearest = cKDTree(curve.points).query(points[boxed], distance_upper_bound=reach)
    found = np.isfinite(distance)
    boxed, distance, nearest = boxed[found], distance[found], nearest[found]
    side = ((points[boxed] - curve.points[nearest]) * curve.sideways[nearest]).sum(1)
    return boxed, nearest / (len(curve.points) - 1.0), np.copysign(distance, side)
