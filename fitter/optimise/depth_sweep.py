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
from torch.nn.functional import normalize

from fitter.camera import project, transform_points
from fitter.energies.consistency import common_scale, disagreement, paired_weight, robust_energy
from fitter.energies.depth_cost import estimate_depth
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.grid import GridSampling, masked_blur
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.optimise.comparison import (
    REFERENCE_SAMPLES,
    Compared,
    compare_views,
    compared_at,
    comparison_filters,
    noise_of,
    trusted_weight,
)
from fitter.optimise.config import Stage
from fitter.optimise.map_settings import map_weights, tangent_projector
from fitter.optimise.map_solver import MAP_BORDER, BlockField, clamp_step, fade_border, map_step
from fitter.optimise.observation import sample_image
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.views import SampledViews, SurfaceGeometry, sample_views, surface_geometry

SWEEP_SETTINGS: dict[str, frozenset[str]] = {
    "consistency": frozenset({"map_weight", "mode", "channel", "lowpass", "window", "sigma", "robust"}),
    "depth": frozenset({"reach_mm", "step_mm", "patch"}),
    "smoothness": frozenset({"bilaplacian", "laplacian", "magnitude", "tangential", "step_mm"}),
}
"""Energies of a sweep, with their settings."""
WIDEST = 2.5
"""Samples: wider low-passes are made on a coarser grid. A search is not as delicate as a slope."""
AT_ONCE = 6
"""Depths that are compared in one go: more would not fit the processor's cache."""


def run_depth_sweep(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Run a stage of sweeps: each step searches all depths within reach, and moves the deformation map."""
    log = StageLog()
    if state.view_count < 2:
        log.note = "one view: photo-consistency has nothing to compare"
        return state, log
    total = sum(one.steps for one in stage.passes)
    for now in stage.passes:
        samples = surface_samples(problem.model, now.samples)
        compared = compared_at(problem, state, stage, now, log)
        for _ in range(now.steps):
            progress = log.steps / max(total - 1, 1)
            state = _sweep_step(problem, state, stage, compared, samples, progress, log)
            log.steps += 1
            problem.on_step(stage.name, log.steps, total, log.total)
    return state, log


def _sweep_step(
    problem: Problem,
    state: FaceState,
    stage: Stage,
    compared: Compared,
    samples: SurfaceSamples,
    progress: float,
    log: StageLog,
) -> FaceState:
    geometry = surface_geometry(problem.model, state, problem.topology)
    sampled = sample_views(state, compared.signals, samples, geometry, problem.topology)
    terms = compare_views(stage, samples, sampled, compared.trust, progress)
    log.energy("consistency", sum(float(one.energy) for one in terms))
    step = setting(stage, "depth", "step_mm", 0.25, progress)
    reach = max(round(setting(stage, "depth", "reach_mm", 2.0, progress) / step), 1)
    depths = torch.arange(-reach, reach + 1, device=state.identity.device, dtype=state.identity.dtype) * step
    # Towards the head's axes of the first expression: the map moves all of them alike.
    normals = normalize(samples.interpolate(geometry[0].normals), dim=-1)
    cost = depth_cost(state, stage, compared, samples, sampled, geometry, normals, depths, progress)
    found = estimate_depth(cost)
    log.residuals["depth_found"] = float((found.curvature > 0).sum() / (cost[0] > 0).sum().clamp_min(1))
    per_sample = setting(stage, "consistency", "map_weight", 1.0) * (64.0 / samples.resolution) ** 2
    per_sample *= float(sampled[0].density) / noise_of(terms)
    stiffness = found.curvature * (per_sample / step**2)
    direction = samples.to_grid(normals @ state.world_from_model[:3, :3]).permute(2, 0, 1)
    blocks = BlockField(
        direction[:, None] * direction[None] * stiffness, -direction * (stiffness * found.offset * step)
    )
    resolution = state.deformation.shape[-1]
    sampling = GridSampling.build(resolution, samples.resolution, state.deformation.device)
    weights = map_weights(stage, resolution, 64, progress)
    move = map_step(state.deformation, [(blocks, sampling)], weights, tangent_projector(problem, state, geometry[0]))
    move = clamp_step(move, setting(stage, "smoothness", "step_mm", 3.0)) * fade_border(resolution, MAP_BORDER, move)
    log.residuals["map_step_mm"] = float(move.norm(dim=0).mean())
    return replace(state, deformation=state.deformation + move)


def depth_cost(
    state: FaceState,
    stage: Stage,
    compared: Compared,
    samples: SurfaceSamples,
    sampled: tuple[SampledViews, ...],
    geometry: list[SurfaceGeometry],
    normals: Tensor,
    depths: Tensor,
    progress: float,
) -> Tensor:
    """What the views disagree by [D, S, S] with the surface moved along `normals` [K, 3] by each of `depths` [D], mm.

    The robust disagreement of photo-consistency, in the mean over a patch around each sample. Who sees what, exposure and
    contrast are those of the surface as it is (`sampled`), so that depths are judged alike.
    """
    filters = comparison_filters(stage, samples, progress)
    robust = setting(stage, "consistency", "robust", 3.0, progress)
    patch = setting(stage, "depth", "patch", 0.75, progress) * samples.resolution / REFERENCE_SAMPLES
    weight = trusted_weight(samples, sampled[0].weight, compared.trust)
    seen = (weight > 0).to(weight.dtype)
    weight = paired_weight(weight)
    first = samples.to_grid(sampled[0].signal.T).permute(2, 0, 1)
    scale = common_scale(first, weight, filters["mode"], filters["window"])
    compares = (weight.sum(0) > 0).to(weight.dtype)
    kept = samples.from_grid(compares).nonzero()[:, 0]
    texels, surfaces = samples.texel[kept], [samples.interpolate(one.vertices)[kept] for one in geometry]
    costs = []
    for chunk in depths.split(AT_ONCE):
        moves = chunk[:, None, None] * normals[kept]
        values = weight.new_zeros(compared.signals[0].channel_count, len(chunk), weight.shape[0], weight[0].numel())
        for view, signal in enumerate(compared.signals):
            world = surfaces[state.expression_row(view)] + moves
            cam = transform_points(state.cam_from_world[view], world.flatten(0, 1))
            pixels = project(cam, state.intrinsics[view]) * signal.scale
            looked_up = sample_image(signal.image[: signal.channel_count], pixels)
            values[:, :, view, texels] = looked_up.T.unflatten(1, (len(chunk), -1))
        energy, slope = torch.zeros(()), None
        for channel in values.unflatten(-1, weight.shape[1:]):
            residual, own = disagreement(channel, weight, seen, scale, slope=slope, widest=WIDEST, **filters)
            slope = own if slope is None else slope
            energy = energy + (weight * robust_energy(residual, robust)).sum(1)
        costs.append(masked_blur(energy, compares, patch) * compares)
    return torch.cat(costs)
