"""How well the surface is known: from parallax, or from the scan; never from photographs that had no say in it."""

from __future__ import annotations

import numpy as np

from fitter.optimise.problem import Problem
from fitter.optimise.run import applies
from fitter.result.types import ScanOutcome

SHAPE = {"identity", "deformation", "displacement"}
PICTURE_ENERGIES = {
    "consistency",
    "contour",
    "perceptual",
    "photometric",
    "recognition",
    "robust_photometric",
    "silhouette",
}
"""Energies in which photographs say where the surface lies; landmarks alone do not."""


def photographs_shape(problem: Problem) -> bool:
    """Whether some stage of this fit lets the photographs move the surface."""
    return any(
        SHAPE & set(stage.free) and PICTURE_ENERGIES & set(stage.energies)
        for stage in problem.configuration.stages
        if applies(stage, problem)
    )


def scan_shapes(problem: Problem) -> bool:
    """Whether some stage of this fit draws the surface to the scan; a configuration for photographs does not."""
    return any(
        stage.solver == "ray_cast" or "scan" in stage.energies
        for stage in problem.configuration.stages
        if applies(stage, problem)
    )


def surface_confidence(problem: Problem, from_photographs: np.ndarray, outcome: ScanOutcome | None) -> np.ndarray:
    """[S, S] float32 in [0, 1]: 1 where the surface was measured on the scan, if the fit used it.

    Args:
        problem: The fit's.
        from_photographs: [S, S] what parallax determines.
        outcome: Of the scan, or None without one.
    """
    if outcome is None or not scan_shapes(problem):
        return from_photographs
    measured = outcome.valid.astype(np.float32)
    return np.maximum(from_photographs, measured) if photographs_shape(problem) else measured
