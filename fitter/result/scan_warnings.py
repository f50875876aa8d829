"""What a user should know about a fit to a scan, in plain sentences."""

from __future__ import annotations

import numpy as np

from fitter.capture.types import Scan
from fitter.optimise.scan_target import COARSE_EDGE_MM
from fitter.result.types import ScanOutcome

POOR_MM = 0.3
"""Median distance of M1 from which on the scan and the face do not go together."""
LITTLE_VALID = 0.5
"""Share of the face's texels below which the scan holds only a part of it."""
LANDMARK_DOUBT_MM = 6.0


def scan_warnings(scan: Scan, outcome: ScanOutcome) -> tuple[str, ...]:
    """Plain sentences about alignment, correspondence, noise and what is missing."""
    found = [*scan.warnings, *outcome.alignment.get("warnings", ())]
    found.append(_correspondence(outcome))
    m1 = outcome.residuals["M1"]["skin"]
    if not m1.median_mm <= POOR_MM:
        found.append(
            f"The fit lies {m1.median_mm:.2f} mm from the scan in the median, more than a fitted face does: look at "
            "the pictures, and give landmarks on the scan if the face was found in the wrong place."
        )
    if outcome.edge_mm > COARSE_EDGE_MM:
        found.append(
            f"The scan's triangles are large ({outcome.edge_mm:.1f} mm): it holds shape, but no pores or wrinkles. The "
            "displacement map was left empty, and M2 is M1: copying would copy facets."
        )
    elif outcome.noise_mm > 0.05:
        found.append(
            f"The scan's noise is about {outcome.noise_mm:.2f} mm; the displacement map was smoothed accordingly."
        )
    if outcome.flipped_triangles:
        found.append(
            f"{outcome.flipped_triangles} of {outcome.counted_triangles} triangles of the face are folded over: look "
            "at M1 there."
        )
    return tuple(found)


def _correspondence(outcome: ScanOutcome) -> str:
    if outcome.landmark_mm is None:
        return (
            "The scan has no landmarks: distances cannot tell whether lips, lids and brows lie on the right place of "
            "the surface; an open mouth or closed eyes may be modelled as closed or open. Landmarks help: --landmarks."
        )
    # M1 is drawn to the landmarks; M0, which cannot bend everywhere, tells how well they go with the surface.
    error = float(np.median(outcome.landmark_mm["M0"]))
    if error > LANDMARK_DOUBT_MM:
        return f"The landmarks lie {error:.1f} mm from where the model has them: look whether they belong to this scan."
    return f"The scan's landmarks lie {error:.1f} mm (median) from where the face model alone has them."
