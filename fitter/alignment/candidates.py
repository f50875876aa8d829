"""Where a nose tip may be, and the poses to begin with."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples

SPACING = 3.6
"""mm between the points that are looked at."""
MOST_POINTS = 30_000
TIP = 22.0
"""mm around a point over which it has to stand out."""
APART = 15.0
"""mm between candidates."""
FORWARD = 45.0
"""mm around a candidate whose mean normal is where the face looks."""
ROLLS = 12


def nose_candidates(samples: Samples, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points that stand out of their surroundings as a nose tip does, the most outstanding first.

    The height of a point is its mean height over the plane of its neighbourhood of 22 mm: high at convex tips, and
    hardly touched by noise or holes.

    Returns:
        Places [C, 3] mm and forward directions [C, 3], unit.
    """
    total = len(samples.points)
    spread = min(total, MOST_POINTS, max(3000, total // 4))
    points, normals = samples.points[:spread], samples.normals[:spread]
    tree = cKDTree(points)
    pairs = tree.query_pairs(TIP, output_type="ndarray")
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    neighbours = np.maximum(np.bincount(first, minlength=spread), 1)
    middle = np.stack([np.bincount(first, points[second, k], spread) for k in range(3)], 1) / neighbours[:, None]
    mean = np.stack([np.bincount(first, normals[second, k], spread) for k in range(3)], 1) + normals
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    heights = ((points - middle) * mean).sum(1)
    heights[neighbours < 8] = -np.inf
    places: list[int] = []
    order = np.argsort(-heights, kind="stable")
    while len(order) and len(places) < count:
        best = int(order[0])
        places.append(best)
        order = order[((points[order] - points[best]) ** 2).sum(1) > APART**2]
    forward = np.stack([normals[tree.query_ball_point(points[row], FORWARD)].mean(0) for row in places])
    length = np.linalg.norm(forward, axis=1, keepdims=True)
    forward = np.where(length > 1e-6, forward / np.maximum(length, 1e-12), normals[places])
    return points[places], forward


def starts_at(places: np.ndarray, forward: np.ndarray) -> Poses:
    """The template's nose at each place, looking forward, in twelve rolls: 12 C poses."""
    helper = np.eye(3)[np.abs(forward).argmin(1)]
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(forward, right)
    angle = 2 * np.pi * np.arange(ROLLS) / ROLLS
    cosine, sine = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    x = cosine * right[:, None] + sine * up[:, None]
    y = cosine * up[:, None] - sine * right[:, None]
    z = np.broadcast_to(forward[:, None], x.shape)
    rotations = np.stack([x, y, z], -1).reshape(-1, 3, 3)
    return Poses(rotations, np.repeat(places, ROLLS, axis=0))
