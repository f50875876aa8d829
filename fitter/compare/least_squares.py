"""Alignment that minimises the plain sum of squared point-to-surface distances, to its minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.align import Linearised, Similarity, linearise, thinned, updated
from fitter.compare.surface import ClosestPoints, Surface

COARSE_POINTS, QUICK_STEPS, COARSE_STEPS = 3000, 12, 80
NEAR_MM, CLOSE_MM = 0.05, 1e-4
"""Movement below which the second derivative is measured, and below which the coarse search ends."""
DIFFERENCE_MM = 0.02
"""Step of the differences; facets of a mesh average out over it."""
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
    scan2mesh_computations.py: scale, rotation, translation, every vertex of the cropped scan, L2). Steps use the
    distances' exact derivative: Gauss-Newton over an even choice of the points first, then Newton.

    Args:
        points: [P, 3] mm, where the surface is to go (the scan).
        surface: What is moved (the prediction).
        start: Its transform to begin with.
        scale: Whether it may grow or shrink.
        tolerance: Movement in mm below which the search ends.
        steps: Most steps over all points.
    """
    # A few points find the place and, where that goes slowly, tell how the gradient bends; all points then need a
    # handful of steps.
    coarse = thinned(points, COARSE_POINTS)
    near = _descend(coarse, surface, start, scale, CLOSE_MM, QUICK_STEPS)
    curvature = None
    if not near.converged:
        near = _descend(coarse, surface, near.pose, scale, NEAR_MM, COARSE_STEPS)
        curvature = _curvature(coarse, surface, near.pose, scale)
        near = _descend(coarse, surface, near.pose, scale, CLOSE_MM, COARSE_STEPS, curvature)
    if curvature is not None:
        curvature = curvature * (len(points) / len(coarse))
    return _descend(points, surface, near.pose, scale, tolerance, steps, curvature)


def _closest(points: np.ndarray, surface: Surface, pose: Similarity) -> tuple[ClosestPoints, float]:
    """Closest points in the surface's frame, and the summed squared distance in the points'."""
    found = surface.closest(pose.inverse()(points))
    return found, float(((found.distances * pose.scale) ** 2).sum())


def _curvature(points: np.ndarray, surface: Surface, pose: Similarity, scale: bool) -> np.ndarray | None:
    """Second derivative of half the summed squares by the pose, from differences of the gradient.

    Gauss-Newton leaves out how distances bend as the surface turns, and where a surface does not fit closely it then
    creeps. None where the measured matrix is not clearly positive definite: far from a minimum, or on a sphere.
    """

    def gradient(at: Similarity) -> tuple[np.ndarray, Linearised]:
        system = linearise(points, surface, at, surface.closest(at.inverse()(points)), scale=scale)
        return system.jacobian.T @ system.residual, system

    here, system = gradient(pose)
    columns = []
    for axis in np.eye(len(here)):
        forward = gradient(updated(pose, DIFFERENCE_MM * axis, system)[0])[0]
        backward = gradient(updated(pose, -DIFFERENCE_MM * axis, system)[0])[0]
        columns.append((backward - forward) / (2 * DIFFERENCE_MM))
    matrix = 0.5 * (np.array(columns) + np.array(columns).T)
    values = np.linalg.eigvalsh(matrix)
    return matrix if values[0] > 1e-4 * values[-1] else None


def _descend(
    points: np.ndarray,
    surface: Surface,
    pose: Similarity,
    scale: bool,
    tolerance: float,
    steps: int,
    curvature: np.ndarray | None = None,
) -> LeastSquares:
    """Steps by `curvature` where it is given, else by Gauss-Newton; damped as soon as one makes things worse."""
    found, cost = _closest(points, surface, pose)
    damping, taken, converged = FIRST_DAMPING, 0, False
    while taken < steps and not converged:
        system = linearise(points, surface, pose, found, scale=scale)
        matrix = system.jacobian.T @ system.jacobian if curvature is None else curvature
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
