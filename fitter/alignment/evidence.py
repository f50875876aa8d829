"""What speaks for a pose once a few identity modes have adjusted to the scan.

While only the mean face is laid on a scan, right poses of whole faces score 0.31-0.47, wrong ones from 0.48: people
differ from the mean by nearly as much as a face differs from one upside down. Twenty modes bring a right pose from two
millimetres to half a millimetre and leave most wrong ones at one and a half. With them, by benchmarks/scan_alignment.py
on seven scans (the same on which the thresholds were chosen; right within 5° and 6 mm, whole ones within 2° and 2 mm):

| | runs | right | certain | certain, wrong | score |
|---|---|---|---|---|---|
| faces: turned, noisy, thinned, inside out, without nose, cut to 95 mm | 112 | 112 | 112 | 0 | 0.19-0.34 |
| parts: half a face, or cut to 60 mm | 70 | 67 | 40 | 0 | 0.32-0.47 |
| no face: solids, blobs, reliefs, limbs, the back of a head | 35 | - | 0 | 0 | 0.38-0.48, or refused (15) |

The runner-ups of whole faces score 0.44 and more. Parts of faces overlap with what is no face: a score alone proves
nothing for them, and many are called uncertain although they are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.alignment.icp import tree_lookup
from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples
from fitter.alignment.score import FEWEST_IN_BOX, backward_costs, forward_costs
from fitter.alignment.template import POINTS, Template

TAU = 4.0
"""mm at which a point costs everything: a face that has adjusted lies within a millimetre or two."""
SCAN_POINTS = 3000
UNSEEN = 0.55
"""Cost of a point of the face that the scan does not show: a little more than that of points on anything round."""
BACKWARD = 0.15
"""Weight of the cost from scan to face: scans have hair, eyeballs and mouths inside that the face has not."""


@dataclass(frozen=True)
class Evidence:
    """How well the adjusted face and the scan agree under one pose."""

    score: float
    """Weighted mean cost from both sides, in [0, 1]; lower is better."""
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
        cost, visible = forward_costs(face, samples, lookup, poses[row : row + 1], POINTS, TAU)
        seen, of_seen = float(visible.mean()), float(cost[visible].mean()) if visible.any() else 1.0
        backward = backward_costs(face, samples, poses, row, SCAN_POINTS, TAU)
        back = float(backward.mean()) if len(backward) >= FEWEST_IN_BOX else 1.0
        score = (1 - BACKWARD) * (seen * of_seen + (1 - seen) * UNSEEN) + BACKWARD * back
        found.append(Evidence(score, seen, of_seen))
    return found
