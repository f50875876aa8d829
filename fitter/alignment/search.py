"""The search for a face in any pose: candidates, coarse to fine, a two-way score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.alignment.candidates import nose_candidates, starts_at
from fitter.alignment.icp import Stage, run_stage, tree_lookup
from fitter.alignment.poses import Poses, distinct
from fitter.alignment.samples import NearestField, Samples
from fitter.alignment.score import forward_scores, two_way_scores
from fitter.alignment.template import Template

CANDIDATES = 48
COARSE = Stage(points=60, steps=6, gates=(40.0, 20.0))
MIDDLE = Stage(points=120, steps=8, gates=(25.0, 12.0))
FINE = Stage(points=400, steps=15, gates=(15.0, 6.0))
KEPT = (64, 24)
"""Poses, no two alike, that go on to the middle and to the fine stage."""
TAU = (12.0, 8.0, 5.0)
"""mm at which a point costs everything, per stage."""


@dataclass(frozen=True, eq=False)
class Found:
    """Poses that a search ended in, best first, no two alike."""

    poses: Poses
    scores: np.ndarray
    """[B] two-way scores in [0, 1], lower is better."""


def search(template: Template, samples: Samples) -> Found:
    """Find where the template may lie on a scan.

    Args:
        template: The face to look for.
        samples: The scan.
    """
    field = NearestField.of_points(samples.points)
    places, forward = nose_candidates(samples, CANDIDATES)
    poses = starts_at(places, forward)
    poses = run_stage(template.spread, samples, field, poses, COARSE)
    scores = forward_scores(template.spread, samples, field, poses, 2 * COARSE.points, TAU[0])
    best = distinct(poses, scores, 6.0, 6.0, 2 * KEPT[0])
    poses = poses[best]
    scores = two_way_scores(template, samples, field, poses, MIDDLE.points, TAU[0])
    poses = poses[np.argsort(scores, kind="stable")[: KEPT[0]]]
    poses = run_stage(template.spread, samples, field, poses, MIDDLE)
    scores = two_way_scores(template, samples, field, poses, MIDDLE.points, TAU[1])
    poses = poses[distinct(poses, scores, 6.0, 6.0, KEPT[1])]
    lookup = tree_lookup(samples)
    poses = run_stage(template.spread, samples, lookup, poses, FINE)
    scores = two_way_scores(template, samples, lookup, poses, FINE.points, TAU[2])
    best = distinct(poses, scores, 4.0, 4.0, KEPT[1])
    return Found(poses[best], scores[best])
