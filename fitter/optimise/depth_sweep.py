"""Depth by search: every patch of the surface is tried in and out along its normal, and moves to where the views agree.

Gauss-Newton follows the slope of the photographs, which says nothing beyond a pixel or two: in a groove that the model
does not have, raw photographs disagree alike over half of the way. A sweep over depths (Collins 1996, "A space-sweep
approach to true multi-image matching", here along the normals of the current surface instead of planes) sees the whole
way, as long as it is within reach.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fitter.energies.consistency import Agreement
from fitter.energies.depth_cost import estimate_depth
from fitter.hierarchy.dense import dense_surface
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.samples import surface_samples
from fitter.optimise.comparison import COMPARISON_SETTINGS, Compared, as_fine_as_pixels, compared_at, noise_of
from fitter.optimise.config import Stage
from fitter.optimise.map_settings import map_weights, softened_weights, tangent_projector
from fitter.optimise.map_solver import MAP_BORDER, BlockField, clamp_step, fade_border, map_step
from fitter.optimise.placed_samples import PlacedSamples, deformed_surface, displaced_samples, displaced_surface
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.swept_cost import ViewComparison, depth_cost
from fitter.optimise.views import sample_views

SWEEP_SETTINGS: dict[str, frozenset[str]] = {
    "consistency": COMPARISON_SETTINGS | {"map_weight"},
    "depth": frozenset({"reach_mm", "step_mm", "patch"}),
    "smoothness": frozenset({"bilaplacian", "laplacian", "magnitude", "tangential", "step_mm", "roughness"}),
}
"""Energies of a sweep, with their settings."""


def run_depth_sweep(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Run a stage of sweeps: each step searches all depths within reach, and moves the maps that are free."""
    log = StageLog()
    if state.view_count < 2:
        log.note = "one view: photo-consistency has nothing to compare"
        return state, log
    total = sum(one.steps for one in stage.passes)
    dense = None
    if "displacement" in stage.free:
        dense = dense_surface(problem.model, problem.configuration.maps.dense_levels)
    for wanted in stage.passes:
        now = as_fine_as_pixels(problem, state, wanted) if "deformation" in stage.free else wanted
        coarse = surface_samples(problem.model, now.samples) if "deformation" in stage.free else None
        fine = displaced_samples(dense, state, now.samples) if dense is not None else None
        compared = compared_at(problem, state, stage, now, log)
        for _ in range(now.steps):
            progress = log.steps / max(total - 1, 1)
            if coarse is not None:
                surface = deformed_surface(problem, state, coarse)
                state = _deformation_step(problem, state, stage, compared, surface, progress, log)
            if fine is not None:
                surface = displaced_surface(problem, state, dense, fine)
                state = _displacement_step(state, stage, compared, surface, progress, log)
            log.steps += 1
            problem.on_step(stage.name, log.steps, total, log.total)
    return state, log


def _deformation_step(
    problem: Problem,
    state: FaceState,
    stage: Stage,
    compared: Compared,
    surface: PlacedSamples,
    progress: float,
    log: StageLog,
) -> FaceState:
    """Search from M1, and move the deformation map."""
    current = state.deformation
    first, pull = _search(state, stage, compared, surface, 64, progress, log)
    # Along the head's axes: the map moves all expressions alike.
    normals = surface.normals @ state.world_from_model[:3, :3]
    direction = surface.samples.to_grid(normals).permute(2, 0, 1)
    blocks = BlockField(direction[:, None] * direction[None] * pull.matrix, direction * pull.gradient)
    weights = softened_weights(
        map_weights(stage, current.shape[-1], 64, progress), stage, current, first.weight, 64, log
    )
    sampling = GridSampling.build(current.shape[-1], surface.samples.resolution, current.device)
    step = map_step(current, [(blocks, sampling)], weights, tangent_projector(problem, state, surface.geometry[0]))
    return replace(state, deformation=current + _bounded(step, stage, 3.0, log))


def _displacement_step(
    state: FaceState, stage: Stage, compared: Compared, surface: PlacedSamples, progress: float, log: StageLog
) -> FaceState:
    """Search from M2, and move the displacement map."""
    current = state.displacement[None]
    first, pull = _search(state, stage, compared, surface, 256, progress, log)
    weights = softened_weights(
        map_weights(stage, current.shape[-1], 256, progress), stage, current, first.weight, 256, log
    )
    sampling = GridSampling.build(current.shape[-1], surface.samples.resolution, current.device)
    step = map_step(current, [(pull, sampling)], weights)
    return replace(state, displacement=(current + _bounded(step, stage, 0.5, log))[0])


def _bounded(step: Tensor, stage: Stage, limit: float, log: StageLog) -> Tensor:
    """A map's step [C, R, R], nowhere longer than the stage allows (`limit` mm by default), and fading at the border."""
    step = clamp_step(step, setting(stage, "smoothness", "step_mm", limit)) * fade_border(
        step.shape[-1], MAP_BORDER, step
    )
    log.residuals["map_step_mm"] = float(step.norm(dim=0).mean())
    return step


def _search(
    state: FaceState,
    stage: Stage,
    compared: Compared,
    surface: PlacedSamples,
    reference: int,
    progress: float,
    log: StageLog,
) -> tuple[Agreement, BlockField]:
    """Compare the views at all depths within reach.

    Returns:
        How they agree on the first channel where the surface is, and what draws its samples along the normals
        [1, 1, S, S], in the unit of a map of `reference` texels a side.
    """
    samples = surface.samples
    sampled = sample_views(state, compared.signals, samples, surface.geometry, surface.topology, points=surface.points)
    step = setting(stage, "depth", "step_mm", 0.25, progress)
    reach = max(round(setting(stage, "depth", "reach_mm", 2.0, progress) / step), 1)
    depths = torch.arange(-reach, reach + 1, device=state.identity.device, dtype=state.identity.dtype) * step
    comparison = ViewComparison.of(stage, compared, samples, sampled, progress)
    here = comparison.agreements(sampled)
    cost = depth_cost(state, compared, surface, comparison, depths)
    log.energy("consistency", sum(float(one.energy) for one in here))
    found = estimate_depth(cost)
    log.residuals["depth_found"] = float((found.curvature > 0).sum() / (cost[0] > 0).sum().clamp_min(1))
    per_sample = setting(stage, "consistency", "map_weight", 1.0) * (reference / samples.resolution) ** 2
    per_sample *= float(sampled[0].density) / noise_of(here[0])
    stiffness = found.curvature * (per_sample / step**2)
    return here[0], BlockField(stiffness[None, None], (-stiffness * found.offset * step)[None])
