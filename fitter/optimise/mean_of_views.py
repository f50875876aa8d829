"""The canonical start of MV-HRN: every view fitted by itself, then one face of their mean (Lei et al. 2023, §3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from fitter.hierarchy.face import FaceState
from fitter.optimise.config import Stage
from fitter.optimise.observation import Observation
from fitter.optimise.problem import Problem, StageLog

RunStages = Callable[[FaceState, Observation, tuple[Stage, ...]], FaceState]
"""Runs stages on one view: (state of the view, its observation, stages) -> its state."""
Solver = Callable[[Problem, FaceState, Stage], tuple[FaceState, StageLog]]


def single_view(state: FaceState, observation: Observation, view: int) -> tuple[FaceState, Observation]:
    """One view of a session as a session of its own."""
    row = state.expression_row(view)
    alone = slice(view, view + 1)
    state = replace(
        state,
        expression=state.expression[row : row + 1].clone(),
        intrinsics=state.intrinsics[alone],
        cam_from_world=state.cam_from_world[alone],
        lighting=state.lighting[alone],
        mixtures=state.mixtures[:0],
    )
    seen = Observation(
        observation.pyramids[alone],
        None if observation.landmarks is None else observation.landmarks[alone],
        None if observation.landmark_confidence is None else observation.landmark_confidence[alone],
        observation.landmark_scheme,
        observation.masks[alone],
    )
    return state, seen


def mean_of_views(
    state: FaceState,
    observation: Observation,
    stages: tuple[Stage, ...],
    run: RunStages,
    *,
    cameras_known: bool,
) -> FaceState:
    """Fit each view alone and average what all views share: identity, albedo and maps.

    Expression and light stay with their view; where the session has one expression, it is the mean. Known cameras and
    the head's place among them stay as they are: a single view knows its head's distance only up to the head's size.
    Unknown cameras follow the views' own fits.

    Args:
        state: Poses for all views; coefficients and maps where the single fits start.
        observation: All views.
        stages: What is run on each view.
        run: How stages are run on one view; given by the caller, who owns the loop over stages.
        cameras_known: Whether the cameras are measured, or estimates of the fit.

    Returns:
        The state of all views in canonical space.
    """
    fits = [run(*single_view(state, observation, view), stages) for view in range(state.view_count)]
    shared = {
        name: torch.stack([getattr(fit, name) for fit in fits]).mean(0)
        for name in ("identity", "albedo", "deformation", "displacement")
    }
    expression = torch.cat([fit.expression for fit in fits])
    if state.expression.shape[0] == 1:
        expression = expression.mean(0, keepdim=True)
    canonical = replace(state, expression=expression, lighting=torch.cat([fit.lighting for fit in fits]), **shared)
    if cameras_known:
        return canonical
    # Each camera such that the canonical head stands before it as the view's own head did.
    to_model = torch.linalg.inv(canonical.world_from_model)
    cameras = [fit.cam_from_world[0] @ fit.world_from_model @ to_model for fit in fits]
    return replace(canonical, cam_from_world=torch.stack(cameras))


def run_mean_of_views(
    problem: Problem, state: FaceState, stage: Stage, solvers: Mapping[str, Solver]
) -> tuple[FaceState, StageLog]:
    """The solver `mean_of_views`: the configuration's stages marked `views: one` are run on every view alone.

    Args:
        problem: All views.
        state: After the stages before this one, which have placed head and cameras.
        stage: Of this solver.
        solvers: The runner's solvers by name.

    Returns:
        The canonical state; the log holds each single fit's last residuals, marked with the view's number.
    """
    stages = tuple(
        single
        for single in problem.configuration.stages
        if single.views == "one" and (single.cameras == "any" or (single.cameras == "known") == problem.cameras_known)
    )
    log = StageLog()
    views = problem.observation.view_count

    def run(alone: FaceState, seen: Observation, chosen: tuple[Stage, ...]) -> FaceState:
        view_problem = replace(problem, observation=seen, on_step=lambda *_: None)
        for single in chosen:
            alone, single_log = solvers[single.solver](view_problem, alone, single)
            residuals = {f"{name}_view_{log.steps}": value for name, value in single_log.residuals.items()}
            log.residuals.update(residuals)
        log.steps += 1
        problem.on_step(stage.name, log.steps, views, 0.0)
        return alone

    return mean_of_views(state, problem.observation, stages, run, cameras_known=problem.cameras_known), log
