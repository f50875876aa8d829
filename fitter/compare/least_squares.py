"""Alignment that minimises the plain sum of squared point-to-surface distances, to its minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.align import Similarity, linearise, thinned, updated
from fitter.compare.surface import ClosestPoints, Surface

COARSE_POINTS, COARSE_STEPS, COARSE_TOLERANCE = 2500, 60, 1e-3
FIRST_DAMPING, MOST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True)
class LeastSquares:
    """A pose at which the squared distances are smallest, near where the search began."""

    pose: Similarity
    distances: np.ndarray
    """[P] mm at that pose."""
    steps: int
    """Steps over all points."""
    converged: bool
    """Whether the last step moved less than the tolerance."""


def least_squares_alignment(
    points: np.ndarray,
    surface: Surface,
    start: Similarity,
    *,
    scale: bool,
    tolerance: float = 1e-5,
    steps: int = 60,
) -> LeastSquares:
    """Move `surface` so that the sum of squared distances from `points` to it is smallest: no trimming, no weights.

    This is the objective of the NoW benchmark's last step (Sanyal et al. 2019; soubhiksanyal/now_evaluation,
    scan2mesh_computations.py: scale, rotation, translation, every vertex of the cropped scan, L2). Steps are
    Levenberg-Marquardt on the distances' exact derivative, first over an even choice of the points.

    Args:
        points: [P, 3] mm, where the surface is to go (the scan).
        surface: What is moved (the prediction).
        start: Its transform to begin with.
        scale: Whether it may grow or shrink.
        tolerance: Movement in mm below which the search ends.
        steps: Most steps over all points.
    """
    pose = start
    if len(points) > 2 * COARSE_POINTS:
        pose = _descend(thinned(points, COARSE_POINTS), surface, pose, scale, COARSE_TOLERANCE, COARSE_STEPS).pose
    return _descend(points, surface, pose, scale, tolerance, steps)


def _closest(points: np.ndarray, surface: Surface, pose: Similarity) -> tuple[ClosestPoints, float]:
    """Closest points in the surface's frame, and the summed squared distance in the points'."""
    found = surface.closest(pose.inverse()(points))
    return found, float(((found.distances * pose.scale) ** 2).sum())


def _descend(
    points: np.ndarray, surface: Surface, pose: Similarity, scale: bool, tolerance: float, steps: int
) -> LeastSquares:
    found, cost = _closest(points, surface, pose)
    damping, taken, converged = FIRST_DAMPING, 0, False
    while taken < steps and not converged:
        system = linearise(points, surface, pose, found, scale=scale)
        matrix = system.jacobian.T @ system.jacobian
        gradient = system.jacobian.T @ system.residual
        unit = np.trace(matrix) / len(matrix) * np.eye(len(matrix))
        accepted = False
        while not accepted and damping < MOST_DAMPING:
            tried, moved = updated(pose, np.linalg.solve(matrix + damping * unit, gradient), system)
            tried_found, tried_cost = _closest(points, surface, tried)
            taken += 1
            accepted = tried_cost <= cost
            if not accepted and moved < tolerance:
                break
            damping = max(damping / 10, FIRST_DAMPING) if accepted else max(damping * 30, 1e-3)
        converged = moved < tolerance or not accepted
        if accepted:
            pose, found, cost = tried, tried_found, tried_cost
    return LeastSquares(pose, found.distances * pose.scale, taken, converged)
