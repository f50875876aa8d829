"""Errors of a fit's levels against the truth, raw and after alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.sessions.levels import LEVELS, Levels
from benchmarks.sessions.truth import Truth
from fitter.compare.align import Similarity, icp, procrustes
from fitter.compare.metrics import PointErrors, point_errors, summarise
from fitter.compare.surface import Surface

INNER = slice(17, 68)
KEPT = ("median", "mean", "p90", "normal_median", "normal_mean")
UNITS = {"median": "median_mm", "mean": "mean_mm", "p90": "p90_mm"}


@dataclass(frozen=True, eq=False)
class LevelErrors:
    """One level under one alignment."""

    errors: PointErrors
    pose: Similarity
    """Transform of the fit onto the truth."""


def level_errors(levels: Levels, triangles: dict[str, np.ndarray], truth: Truth, alignment: str) -> dict:
    """Level -> `LevelErrors`; `alignment` is raw or similarity (each level by its own ICP, from the landmarks)."""
    found = {}
    for level in LEVELS:
        surface = Surface(levels.vertices[level], triangles[level])
        pose = Similarity.identity()
        if alignment == "similarity":
            marks = levels.landmarks["M0" if level == "M0" else "M1"]
            start = procrustes(marks[INNER], truth.landmarks[INNER], scale=True)
            pose = icp(truth.points, surface, start, normals=truth.normals, scale=True)
        found[level] = LevelErrors(point_errors(truth.points, truth.normals, surface, pose), pose)
    return found


def numbers(errors: dict[str, LevelErrors]) -> dict[str, dict[str, float]]:
    """Level -> median, mean and 90th percentile of distances in mm, median and mean of normal angles in degrees."""
    return {
        level: {UNITS.get(name, name): round(float(getattr(summarise(entry.errors), name)), 4) for name in KEPT}
        for level, entry in errors.items()
    }
