"""Alignments of benchmarks: landmarks, closest points, and ICP as MICC's and REALY's code runs it.

All return the transform of the prediction into the truth's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.align import Similarity, procrustes
from fitter.compare.least_squares import LeastSquares, least_squares_alignment
from fitter.compare.surface import Surface

__all__ = [
    "AlternatingResult",
    "LeastSquares",
    "Similarity",
    "alternating_icp",
    "is_reflection",
    "landmark_alignment",
    "least_squares_alignment",
    "norm_similarity",
    "procrustes",
    "region_icp",
]


def landmark_alignment(predicted: np.ndarray, truth: np.ndarray, *, scale: bool, reflect: bool = False) -> Similarity:
    """Least-squares transform of landmarks [L, 3] onto `truth` [L, 3] (Umeyama 1991).

    Args:
        predicted: On the prediction.
        truth: On the scan.
        scale: Similarity, or rigid.
        reflect: Whether a mirror image is allowed where it fits better, as in the code of NoW and FG 2018
            (reflection='best'): seven landmarks are nearly a plane, and bad ones may then turn a face inside out.
            `is_reflection` tells.
    """
    proper = procrustes(predicted, truth, scale=scale)
    if not reflect:
        return proper
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = procrustes(predicted @ mirror, truth, scale=scale)
    improper = Similarity(mirrored.scale, mirrored.rotation @ mirror, mirrored.translation)

    def cost(pose: Similarity) -> float:
        return float(((pose(predicted) - truth) ** 2).sum())

    return improper if cost(improper) < cost(proper) else proper


def is_reflection(pose: Similarity) -> bool:
    """Whether the transform mirrors."""
    return bool(np.linalg.det(pose.rotation) < 0)


def norm_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Similarity of points [P, 3] whose scale is the ratio of the two sets' norms about their centres.

    As menpo's AlignmentSimilarity, which GANFit's code uses (menpo:transform/homogeneous/similarity.py). Unlike the
    least-squares scale (Umeyama) it does not shrink noisy pairs.
    """
    turn = procrustes(source, target, scale=False)
    factor = float(np.linalg.norm(target - target.mean(0)) / np.linalg.norm(source - source.mean(0)))
    return Similarity(factor, turn.rotation, target.mean(0) - factor * turn.rotation @ source.mean(0))


@dataclass(frozen=True)
class AlternatingResult:
    """Where alternating ICP stopped."""

    pose: Similarity
    """Of the points."""
    distances: np.ndarray
    """[P] of the moved points to the surface."""
    steps: int


def alternating_icp(
    points: np.ndarray, surface: Surface, partners: np.ndarray, *, improvement: float = 1e-3, steps: int = 1000
) -> AlternatingResult:
    """Move `points` [P, 3] onto `surface`: similarity onto their partners, then closest points as partners, in turn.

    As GANFit's micc_evaluation.py: it begins with partners known by correspondence, and stops as soon as the mean
    distance improves by no more than `improvement`; the last step counts even if it made things worse. That is before
    the least squares' minimum, and part of that protocol: a better optimiser gives other figures.

    Args:
        points: What is moved.
        surface: Where to.
        partners: [P, 3] where each point is to go at first.
        improvement: In the surface's unit.
        steps: Most steps.
    """
    pose = Similarity.identity()
    mean, taken = float(np.linalg.norm(points - partners, axis=1).mean()), 0
    while True:
        pose = norm_similarity(points, partners)
        found = surface.closest(pose(points))
        partners, before, mean = found.points, mean, float(found.distances.mean())
        taken += 1
        if before - mean <= improvement or taken == steps:
            return AlternatingResult(pose, found.distances, taken)


def region_icp(
    region: np.ndarray,
    surface: Surface,
    region_keypoints: np.ndarray,
    predicted_keypoints: np.ndarray,
    repeat: int,
    *,
    tolerance: float = 1e-6,
    steps: int = 100,
) -> Similarity:
    """REALY's rICP: rigid ICP of the prediction onto one region of the scan (Chai et al. 2022; REALY:utils/rICP.py).

    Pairs are each region vertex with its closest point on the prediction, and the region's keypoints, `repeat` times.
    It ends when the mean squared distance of the pairs, after the step's own transform, changes by less than
    `tolerance`; the transform of that last step is not applied, as in the original.

    Args:
        region: [P, 3] vertices of the scan's region.
        surface: The prediction, after the global alignment.
        region_keypoints: [K, 3] of the scan.
        predicted_keypoints: [K, 3] of the prediction, after the global alignment.
        repeat: Weight of the keypoints.
        tolerance: In the data's unit, squared.
        steps: Most steps.

    Returns:
        Rigid transform of the prediction.
    """
    pose = Similarity.identity()
    targets = np.concatenate([region] + [region_keypoints] * repeat)
    before = 0.0
    for step in range(steps + 1):
        closest = pose(surface.closest(pose.inverse()(region)).points)
        pairs = np.concatenate([closest] + [pose(predicted_keypoints)] * repeat)
        change = procrustes(pairs, targets, scale=False)
        error = float(((change(pairs) - targets) ** 2).sum(1).mean())
        if abs(error - before) < tolerance or step == steps:
            break
        before = error
        pose = change.after(pose)
    return pose
