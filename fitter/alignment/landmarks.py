"""A pose from landmarks, some of which may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fitter.alignment.poses import Poses
from fitter.alignment.template import Template
from fitter.capture.types import ScanLandmarks
from fitter.errors import InputError

CONTOUR = 17
"""iBUG numbers below this lie on the contour, which is another line on every view: never fixed points of a surface."""
FEWEST = 4
FLAT = 8.0
"""mm: root mean square distance from their best line below which points fix no pose."""
WIDTH = 8.0
"""mm at which a landmark counts half: faces differ from the mean by about as much."""
WRONG = 20.0
"""mm off the pose of the others at which a landmark is reported."""
TRIPLETS = 400


@dataclass(frozen=True, eq=False)
class LandmarkPose:
    """A pose that landmarks ask for."""

    pose: Poses
    """A batch of one."""
    numbers: np.ndarray
    """[L] iBUG numbers of the landmarks that were asked."""
    points: np.ndarray
    """[L, 3] mm, in the scan's frame."""
    off: np.ndarray
    """[L] mm between each and the mean face's."""
    mirrored: bool
    """Whether the points fit a mirrored face far better."""


def usable(landmarks: ScanLandmarks) -> tuple[np.ndarray, np.ndarray, str]:
    """Numbers [L] and points [L, 3] that can fix a pose, and why they cannot (empty where they can).

    Raises:
        InputError: The numbers are no iBUG-68 numbers, or the shapes do not belong together.
    """
    points = np.asarray(landmarks.points, np.float64)
    numbers = np.asarray(landmarks.indices).astype(int).ravel()
    if points.ndim != 2 or points.shape != (len(numbers), 3) or ((numbers < 0) | (numbers > 67)).any():
        raise InputError(
            landmarks.source or "landmarks",
            f"points of shape {points.shape} with numbers {numbers.min(initial=0)} to {numbers.max(initial=0)}",
            "three coordinates for each of the iBUG-68 numbers 0 to 67",
        )
    kept = (numbers >= CONTOUR) & np.isfinite(points).all(1)
    numbers, points = numbers[kept], points[kept]
    if len(numbers) < FEWEST:
        return numbers, points, f"only {len(numbers)} landmarks are inside the face's contour, {FEWEST} are needed"
    singular = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if np.sqrt((singular[1:] ** 2).sum() / len(points)) < FLAT:
        return numbers, points, "the landmarks lie almost on one line"
    return numbers, points, ""


def pose_of_landmarks(template: Template, numbers: np.ndarray, points: np.ndarray, seed: int) -> LandmarkPose:
    """Rigid pose of the mean face at landmarks, with outliers let go.

    The best of many triplets by its median distance, then reweighted least squares (Geman-McClure).

    Args:
        template: The face.
        numbers: [L] iBUG numbers, L >= 4.
        points: [L, 3] mm.
        seed: Of the triplets, where there are too many to try them all.
    """
    model = template.landmarks[numbers]
    rotation, shift, off = _robust(model, points, seed)
    mirrored = _robust(model * [-1.0, 1.0, 1.0], points, seed)[2]
    return LandmarkPose(
        pose=Poses(rotation[None], shift[None]),
        numbers=numbers,
        points=points,
        off=off,
        mirrored=bool(np.median(off) > 6.0 and np.median(mirrored) < 0.5 * np.median(off)),
    )


def _robust(model: np.ndarray, points: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triplets = np.array(list(combinations(range(len(points)), 3)))
    if len(triplets) > TRIPLETS:
        triplets = triplets[np.random.default_rng(seed).choice(len(triplets), TRIPLETS, replace=False)]
    starts = [procrustes(model[rows], points[rows], np.ones(3)) for rows in triplets]
    starts.append(procrustes(model, points, np.ones(len(points))))
    rotation, shift = min(starts, key=lambda pose: float(np.median(_off(model, points, *pose))))
    for _ in range(20):
        weights = 1.0 / (1.0 + (_off(model, points, rotation, shift) / WIDTH) ** 2) ** 2
        rotation, shift = procrustes(model, points, weights)
    return rotation, shift, _off(model, points, rotation, shift)


def _off(model: np.ndarray, points: np.ndarray, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.linalg.norm(model @ rotation.T + shift - points, axis=1)


def procrustes(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and shift [3] of weighted points [P, 3] onto others (Umeyama 1991, without scale or mirror)."""
    share = (weights / weights.sum())[:, None]
    source_mean, target_mean = (share * source).sum(0), (share * target).sum(0)
    u, _, vt = np.linalg.svd((share * (target - target_mean)).T @ (source - source_mean))
    rotation = (u * [1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0]) @ vt
    return rotation, target_mean - rotation @ source_mean
