"""How well the template lies on a scan, asked from both sides."""

from __future__ import annotations

import numpy as np

from fitter.alignment.icp import Lookup
from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples
from fitter.alignment.template import FacePoints, Template
from fitter.threads import in_threads

BEYOND = 0.6
"""Cost of a template point where the scan has ended: worse than a fair match, better than a bad one."""
PAST = 2.0
"""mm sideways of the scan's border from which a point lies past it."""
BOX_RADIUS = 75.0
"""mm around the nose tip within which the scan's own points are asked."""
BOX_BACK = -45.0
"""mm: points of the scan this far behind the nose tip are not asked; heads differ in depth."""
FEWEST_IN_BOX = 40


def forward_costs(face: FacePoints, samples: Samples, lookup: Lookup, poses: Poses, points: int, tau: float):
    """Face to scan: costs of the first `points` points of a face under each pose.

    A point costs its distance from the scan's plane, or half of its distance from the scan, over `tau` (mm), at most
    1; and 1 where the normals oppose.

    Returns:
        Costs [B, P] in [0, 1], and [B, P] bool: the scan shows the place; where it does not, its border is closest and
        the point lies past it, and the cost says nothing.
    """
    moved, turned = poses.points(face.points[:points]), poses.directions(face.normals[:points])
    rows = lookup(moved, np.inf)
    normals = samples.normals[rows]
    offsets = moved - samples.points[rows]
    plane = np.abs((offsets * normals).sum(-1))
    distance = np.linalg.norm(offsets, axis=-1)
    cost = np.minimum(np.maximum(plane, 0.5 * distance) / tau, 1.0)
    cost = np.where((normals * turned).sum(-1) < 0, 1.0, cost)
    sideways = np.sqrt(np.maximum(distance**2 - plane**2, 0.0))
    return cost, ~(samples.border[rows] & (sideways > PAST))


def backward_costs(face: FacePoints, samples: Samples, poses: Poses, row: int, points: int, tau: float) -> np.ndarray:
    """Scan to face: cost [P] in [0, 1] of at most `points` samples that lie in the face's box under one of the poses.

    As `forward_costs`; samples beside the face's own end are not asked.
    """
    # Any prefix of the samples is a sample: a few points need not look for themselves among all.
    local = poses.back(row, samples.points[: 20 * points])
    inside = np.flatnonzero(((local[:, :2] ** 2).sum(1) < BOX_RADIUS**2) & (local[:, 2] > BOX_BACK))[:points]
    turned = samples.normals[inside] @ poses.rotations[row]
    distance, nearest = face.tree.query(local[inside])
    normals = face.normals[nearest]
    plane = np.abs(((local[inside] - face.points[nearest]) * normals).sum(1))
    cost = np.minimum(np.maximum(plane, 0.5 * distance) / tau, 1.0)
    cost = np.where((turned * normals).sum(1) < 0, 1.0, cost)
    return cost[~(face.border[nearest] & (distance > 4.0))]


def forward_scores(face: FacePoints, samples: Samples, lookup: Lookup, poses: Poses, points: int, tau: float):
    """Mean cost [B] from face to scan, `BEYOND` where the scan shows nothing."""
    cost, seen = forward_costs(face, samples, lookup, poses, points, tau)
    return np.where(seen, cost, BEYOND).mean(1)


def two_way_scores(template: Template, samples: Samples, lookup: Lookup, poses: Poses, points: int, tau: float):
    """Half of the mean cost from each side, [B] in [0, 1]; lower is better."""
    forward = forward_scores(template.spread, samples, lookup, poses, points, tau)
    costs = in_threads(
        lambda row: backward_costs(template.dense, samples, poses, row, 3 * points, tau), range(len(poses))
    )
    backward = np.array([cost.mean() if len(cost) >= FEWEST_IN_BOX else 1.0 for cost in costs])
    return 0.5 * forward + 0.5 * backward
