"""Fit one case of a capture, and the naive average of single-view fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.sessions.cases import Case
from benchmarks.sessions.levels import LEVELS, Levels, key_of, read_levels, save_levels, source_digest
from fitter.capture.session import load_session
from fitter.compare.align import procrustes
from fitter.fit import FitOptions, solve_session
from fitter.hierarchy.dense import dense_surface
from fitter.hierarchy.face import m0_vertices, m1_vertices
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model
from fitter.optimise.config import Configuration, configuration_to_dict
from fitter.result.build import reference_view

INNER = slice(17, 68)
"""iBUG landmarks without the jaw line."""


@lru_cache(maxsize=1)
def model() -> MorphableModel:
    """The open model, read once per process."""
    return load_open_model()


def fit_case(capture: Path, case: Case, configuration: Configuration, device: str = "cpu") -> Levels:
    """Fit some photographs of a capture (cameras in millimetres); raises as `load_session` and `fit_session` do."""
    session = load_session(
        capture,
        unit="mm" if case.calibrated else None,
        cameras=None if case.calibrated else "none",
        kind="rig",
        views=list(case.views),
    )
    began = time.perf_counter()
    problem, state, _ = solve_session(session, model(), configuration, FitOptions(device=device))
    seconds = time.perf_counter() - began
    row = state.expression_row(reference_view(state))
    with torch.no_grad():
        first, second = m0_vertices(problem.model, state, row), m1_vertices(problem.model, state, row)
        surface = dense_surface(problem.model, configuration.maps.dense_levels)
        third, _ = surface.displace(second, state.displacement)
        marks = [problem.model.landmarks(vertices) for vertices in (first, second)]
    vertices = {name: array.double().cpu().numpy() for name, array in zip(LEVELS, (first, second, third), strict=True)}
    landmarks = {name: array.double().cpu().numpy() for name, array in zip(LEVELS, marks, strict=False)}
    return Levels(vertices, landmarks, seconds)


def triangles_of(level: str, configuration: Configuration) -> np.ndarray:
    """[F, 3] of a level's surface, as far as it can be seen."""
    if level == "M2":
        return dense_surface(model(), configuration.maps.dense_levels).outer_triangles.numpy()
    return model().outer_triangles.numpy()


def kept_fit(
    work: Path, capture: Path, content: str, case: Case, configuration: Configuration, device: str
) -> tuple[Levels, str]:
    """The fit of a case, from the work folder where it was made before by this source, and its key.

    Args:
        work: Folder of kept fits.
        capture: The photographs.
        content: Checksum of the capture's files.
        case: Which of them.
        configuration: How.
        device: Where.
    """
    key = key_of(content, case.views, case.calibrated, configuration_to_dict(configuration), device, source_digest())
    path = work / "fits" / f"{capture.name}-{case.name}-{key}.npz"
    found = read_levels(path)
    if found is None:
        found = fit_case(capture, case, configuration, device)
        save_levels(path, found)
    return found, key


def naive_average(fits: Sequence[Levels]) -> Levels:
    """The mean of several fits' shapes, each laid on the first by its landmarks (with scale): HRN's table 4."""
    first = fits[0]
    vertices: dict[str, list[np.ndarray]] = {level: [] for level in LEVELS}
    landmarks: dict[str, list[np.ndarray]] = {level: [] for level in first.landmarks}
    for fit in fits:
        move = procrustes(fit.landmarks["M1"][INNER], first.landmarks["M1"][INNER], scale=True)
        for level in LEVELS:
            vertices[level].append(move(fit.vertices[level]))
        for level in landmarks:
            landmarks[level].append(move(fit.landmarks[level]))
    return Levels(
        {level: np.mean(arrays, 0) for level, arrays in vertices.items()},
        {level: np.mean(arrays, 0) for level, arrays in landmarks.items()},
        sum(fit.seconds for fit in fits),
    )
