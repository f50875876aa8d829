"""Error measures of face reconstruction, each with the paper or the code that it follows.

Distances are in millimetres when the surfaces are. What `hrn compare` counts too has one implementation, in
`fitter.compare`, and is only named here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.distances import angles_between, point_to_plane, root_mean_square, scan_to_mesh
from fitter.compare.surface import Surface

__all__ = [
    "Interval",
    "angles_between",
    "bootstrap_interval",
    "chamfer_distance",
    "chamfer_points",
    "cumulative_curve",
    "mapped_angles",
    "mean_normal_error",
    "normalised_mean_error",
    "point_to_plane",
    "root_mean_square",
    "scan_to_mesh",
]

RESAMPLES = 2000


def chamfer_distance(first: Surface, second: Surface) -> float:
    """Symmetric Chamfer distance of FaceScape's benchmark (Zhu et al. 2021; facescape:benchmark/code/mesh_util.py).

    The mean over *all* vertices of both meshes taken together (not the mean of two means), each to the closest point of
    the other surface, not squared.
    """
    return float(np.concatenate([scan_to_mesh(first.vertices, second), scan_to_mesh(second.vertices, first)]).mean())


def chamfer_points(first: np.ndarray, second: np.ndarray) -> float:
    """Chamfer distance of point sets [P, 3], [Q, 3]: the mean of both directions' mean distances (Fan et al. 2017, L1).

    For meshes use `chamfer_distance`; this one depends on how densely the points lie.
    """
    from scipy.spatial import cKDTree

    there, back = cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]
    return float(0.5 * (there.mean() + back.mean()))


def mapped_angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles [P] in radians between normals [P, 3] after FaceScape's mapping n -> (n + 1) / |n + 1|.

    The mapping (facescape:benchmark/code/evaluator.py, compute_mne_full) squeezes all directions into one octant, so
    these angles are smaller than the true ones and not invariant under rotation. They serve comparison with published
    figures only; a normal of exactly (-1, -1, -1) has no image and gives NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (n + 1.0 for n in (first, second))
        a, b = (n / np.linalg.norm(n, axis=-1, keepdims=True) for n in (a, b))
    return np.arccos(np.clip((a * b).sum(-1), -1.0, 1.0))


def mean_normal_error(first: np.ndarray, second: np.ndarray, *, mapped: bool) -> float:
    """Mean angle in radians between unit normals [P, 3]: FaceScape's mapped one, or the true one."""
    angles = mapped_angles(first, second) if mapped else np.radians(angles_between(first, second))
    return float(np.nanmean(angles))


def normalised_mean_error(predicted: np.ndarray, truth: np.ndarray, size: float | None = None) -> float:
    """Mean distance of landmarks [L, 2 or 3] over the face's size: NME, a share, not per cent.

    Args:
        predicted: Landmarks, or dense vertices in correspondence.
        truth: The same points.
        size: What to divide by; by default sqrt(width × height) of the bounding box of the truth in x and y, as for
            AFLW2000-3D (Zhu et al. 2016; Feng et al. 2018, PRNet).
    """
    if size is None:
        size = float(np.sqrt(np.prod(np.ptp(truth[:, :2], axis=0))))
    return float(np.linalg.norm(predicted - truth, axis=1).mean() / size)


@dataclass(frozen=True)
class Interval:
    """A figure and where it would lie with other subjects."""

    value: float
    low: float
    high: float

    def text(self, decimals: int = 2) -> str:
        """As in `1.23 [1.10, 1.38]`."""
        return f"{self.value:.{decimals}f} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"


def bootstrap_interval(
    values: np.ndarray,
    subjects: np.ndarray,
    *,
    statistic=np.mean,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap over *subjects* (Efron 1979): all values of a drawn subject come along.

    Images of one person are no independent samples, so drawing images would make the interval too narrow.

    Args:
        values: [N] one number per image (or per subject).
        subjects: [N] whom each belongs to.
        statistic: Of an array of values.
        level: Share of the resamples inside.
        seed: Of the draws.
        resamples: How many.

    Returns:
        The statistic of all values, and the interval; it is one point where there is one subject only.
    """
    values, subjects = np.asarray(values, np.float64), np.asarray(subjects)
    value = float(statistic(values))
    _, owner = np.unique(subjects, return_inverse=True)
    groups = [values[owner == number] for number in range(owner.max() + 1)]
    if len(groups) < 2:
        return Interval(value, value, value)
    random = np.random.default_rng(seed)
    draws = random.integers(len(groups), size=(resamples, len(groups)))
    drawn = [statistic(np.concatenate([groups[number] for number in draw])) for draw in draws]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def cumulative_curve(distances: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share [T] of the distances that are not above each threshold [T] (NoW's cumulative error curve)."""
    ordered = np.sort(np.asarray(distances).ravel())
    return np.searchsorted(ordered, at, side="right") / max(len(ordered), 1)
