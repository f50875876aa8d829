"""What speaks for a pose once a few identity modes have adjusted to the scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.alignment.icp import tree_lookup
from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples
from fitter.alignment.score import BEYOND, FEWEST_IN_BOX, backward_costs, forward_costs
from fitter.alignment.template import POINTS, Template

TAU = 4.0
"""mm at which a point costs everything: a face that has adjusted lies within a millimetre or two."""
SCAN_POINTS = 3000


@dataclass(frozen=True)
class Evidence:
    """How well the adjusted face and the scan agree under one pose."""

    score: float
    """Half of the mean cost from each side, in [0, 1]; lower is better."""
    seen: float
    """Share of the face that the scan shows (the rest lies beyond the scan's border)."""
    cost_of_seen: float
    """Mean cost of that part."""


def gather(template: Template, samples: Samples, poses: Poses, coefficients: np.ndarray) -> list[Evidence]:
    """Evidence of each pose.

    Args:
        template: The face.
        samples: The scan.
        poses: B poses of the adjusted face.
        coefficients: [B, K] identity coefficients.
    """
    lookup = tree_lookup(samples)
    found = []
    for row in range(len(poses)):
        face = template.adjusted(coefficients[row])
        forward = forward_costs(face, samples, lookup, poses[row : row + 1], POINTS, TAU)[0]
        backward = backward_costs(face, samples, poses, row, SCAN_POINTS, TAU)
        seen = forward != BEYOND
        found.append(
            Evidence(
                score=float(0.5 * forward.mean() + 0.5 * (backward.mean() if len(backward) >= FEWEST_IN_BOX else 1.0)),
                seen=float(seen.mean()),
                cost_of_seen=float(forward[seen].mean()) if seen.any() else 1.0,
            )
        )
    return found
