"""The Gauss-Newton solver of a stage: dense parameters and maps in turn, coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fitter.camera import transform_points
from fitter.energies.channel import GREY, discriminant_channels, highlight_trust
from fitter.energies.consistency import ConsistencyTerms, consistency_terms
from fitter.hierarchy.dense import DenseSurface, dense_samples, dense_surface
from fitter.hierarchy.face import FaceState, deformation_offsets, m1_vertices
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.kernels.surface import vertex_normals
from fitter.optimise.config import Pass, Stage
from fitter.optimise.dense_terms import (
    NormalEquations,
    consistency_equations,
    landmark_equations,
    prior_equations,
    solve_step,
)
from fitter.optimise.map_solver import (
    MAP_BORDER,
    BlockField,
    MapWeights,
    clamp_step,
    deformation_blocks,
    displacement_blocks,
    fade_border,
    map_step,
    roughness,
    softened,
)
from fitter.optimise.observation import Signal
from fitter.optimise.parameters import (
    DENSE,
    Layout,
    SurfacePoints,
    build_layout,
    surface_points,
    take_step,
)
from fitter.optimise.problem import Problem, StageLog, frontal_cosine, landmark_embedding, setting
from fitter.optimise.scan_energies import SCAN_SETTINGS, add_scan_equations, deformation_data
from fitter.optimise.views import SampledViews, SurfaceGeometry, sample_views, sampled_colours, surface_geometry

SETTINGS: dict[str, frozenset[str]] = {
    "consistency": frozenset({"weight", "map_weight", "mode", "channel", "lowpass", "window", "sigma", "robust"}),
    "landmark": frozenset({"weight", "sigma_mm", "jaw"}),
    "identity_prior": frozenset({"weight", "sigma", "around"}),
    "expression_prior": frozenset({"weight", "sigma", "around"}),
    "scale_prior": frozenset({"weight", "sigma", "around"}),
    "smoothness": frozenset({"bilaplacian", "laplacian", "magnitude", "tangential", "step_mm", "noise", "roughness"}),
} | SCAN_SETTINGS
"""Energies that Gauss-Newton can minimise, with their settings."""

LEAST_VARIANCE = 0.05
"""Of the residual, in squares of the expected disagreement: no photographs agree better than that."""
REFERENCE_SAMPLES = 192
"""Sampling at which the widths of the consistency filters are stated."""


def landmark_points(problem: Problem, state: FaceState) -> SurfacePoints:
    """The model's landmarks as points that ride on M1."""
    embedding = landmark_embedding(problem.model, problem.observation)
    offsets = deformation_offsets(problem.model, state)
    at_landmarks = embedding(offsets)
    return surface_points(problem.model, state, embedding.vertices, embedding.weights, at_landmarks)


def landmark_weights(problem: Problem, state: FaceState, jaw: float) -> Tensor:
    """Confidence times visibility [N, L]; the jaw line counts little, and only in views from the front."""
    embedding = landmark_embedding(problem.model, problem.observation)
    weights = []
    geometry = surface_geometry(problem.model, state, problem.topology)
    for view in range(state.view_count):
        surface = geometry[state.expression_row(view)]
        cam = transform_points(state.cam_from_world[view], embedding(surface.vertices))
        normals = embedding(surface.normals) @ state.cam_from_world[view, :3, :3].T
        normalise = torch.nn.functional.normalize
        cosine = -(normalise(normals, dim=-1) * normalise(cam, dim=-1)).sum(-1)
        weight = ((cosine - 0.05) / 0.3).clamp(0.0, 1.0)
        if problem.observation.landmark_scheme == "ibug68":
            weight = weight.clone()
            weight[:17] = jaw * (frontal_cosine(state, view) > 0.93)
        weights.append(weight)
    return torch.stack(weights) * problem.observation.landmark_confidence


@dataclass(frozen=True)
class Compared:
    """What a pass compares."""

    signals: tuple[Signal, ...]
    """The channels of every view."""
    trust: Tensor | None
    """[N, S, S] in [0, 1]: low in highlights; None where all is compared alike."""


def compared_channels(
    problem: Problem, state: FaceState, stage: Stage, samples: SurfaceSamples, image: int
) -> tuple[Tensor, Tensor | None]:
    """The mixtures [C, 3] of red, green and blue that a stage compares, and which of its samples to trust [N, S, S].

    Args:
        problem: Its photographs, and the channels where they are decided already.
        state: Where the surface is.
        stage: Its settings.
        samples: Surface samples.
        image: Level of the photographs, px.
    """
    if problem.channels is not None:
        return problem.channels, None
    wanted = setting(stage, "consistency", "channel", "best")
    if wanted == "grey":
        return state.identity.new_tensor(GREY)[None], None
    geometry = surface_geometry(problem.model, state, problem.topology)
    seen, weight = sampled_colours(state, problem.observation, samples, geometry, problem.topology, image)
    colours = samples.to_grid(seen.transpose(0, 1)).permute(2, 3, 0, 1)
    weight = samples.to_grid(weight.T).permute(2, 0, 1)
    width = ("window", 8.0) if setting(stage, "consistency", "mode", "gain") == "lcn" else ("lowpass", 16.0)
    lowpass = setting(stage, "consistency", *width) * samples.resolution / REFERENCE_SAMPLES
    channels = discriminant_channels(colours, weight, lowpass)
    return (channels[:1] if wanted == "single" else channels), highlight_trust(colours, weight)


def compare_views(
    stage: Stage, samples: SurfaceSamples, sampled: Sequence[SampledViews], trust: Tensor | None, progress: float
) -> list[ConsistencyTerms]:
    """Photo-consistency at the samples, channel by channel, with the stage's settings as they are after a share
    `progress` of its steps."""
    factor = samples.resolution / REFERENCE_SAMPLES
    weight = samples.to_grid(sampled[0].weight.T).permute(2, 0, 1)
    if trust is not None:
        # Found on a coarser grid where the samples are dense.
        side = (samples.resolution, samples.resolution)
        weight = weight * (trust if trust.shape[1:] == side else interpolate(trust[None], side, mode="bilinear")[0])
    found: list[ConsistencyTerms] = []
    for channel in sampled:
        values = samples.to_grid(channel.signal.T).permute(2, 0, 1)
        terms = consistency_terms(
            values,
            weight,
            mode=setting(stage, "consistency", "mode", "gain"),
            lowpass=setting(stage, "consistency", "lowpass", 16.0, progress) * factor,
            window=setting(stage, "consistency", "window", 8.0, progress) * factor,
            sigma=setting(stage, "consistency", "sigma", 0.3, progress),
            robust=setting(stage, "consistency", "robust", 3.0, progress),
            beside=found[0] if found else None,
        )
        found.append(terms)
    return found


def _dense_step(
    problem: Problem,
    state: FaceState,
    stage: Stage,
    layout: Layout,
    start: FaceState,
    compared: Compared,
    samples: SurfaceSamples | None,
    progress: float,
    log: StageLog,
) -> FaceState:
    """One Gauss-Newton step of the dense parameters."""
    model, observation = problem.model, problem.observation
    equations = NormalEquations.zeros(layout.size, state.identity)
    geometry = surface_geometry(model, state, problem.topology)
    add_scan_equations(equations, problem, state, layout, stage, geometry[0], progress, log)
    if "consistency" in stage.energies and samples is not None:
        sampled = sample_views(state, compared.signals, samples, geometry, problem.topology)
        terms = compare_views(stage, samples, sampled, compared.trust, progress)
        offsets = samples.interpolate(deformation_offsets(model, state))
        points = surface_points(model, state, samples.vertices, samples.weights, offsets)
        # Stated for 96 samples a side, whatever the pass: the balance with the priors stays.
        per_sample = setting(stage, "consistency", "weight", 0.5) * (96.0 / samples.resolution) ** 2
        data = consistency_equations(state, layout, points, sampled, terms, samples.texel, per_sample)
        equations.add(data, 1.0)
        log.energy("consistency", data.energy)
        log.residuals["consistency_grey"] = float(terms[0].grey)
        log.residuals["consistency"] = sum(float(one.energy) for one in terms)
    if "landmark" in stage.energies and observation.landmarks is not None and state.view_count:
        weights = landmark_weights(problem, state, setting(stage, "landmark", "jaw", 0.15))
        data, distance = landmark_equations(
            state,
            layout,
            landmark_points(problem, state),
            observation.landmarks,
            weights,
            setting(stage, "landmark", "sigma_mm", 2.0),
        )
        weight = setting(stage, "landmark", "weight", 1.0)
        equations.add(data, weight)
        log.energy("landmark", weight * data.energy)
        log.residuals["landmark_px"] = float(distance[weights > 0.01].median())
    _add_priors(equations, layout, state, stage, start, progress, log)
    step = solve_step(equations, layout, state, model.expressions_are_named)
    return take_step(state, layout, step, model.expressions_are_named)


def _add_priors(
    equations: NormalEquations,
    layout: Layout,
    state: FaceState,
    stage: Stage,
    start: FaceState,
    progress: float,
    log: StageLog,
) -> None:
    """Gaussian priors of the stage; `around: start` centres one on the value that the stage began with."""
    for name, energy, default in (
        ("identity", "identity_prior", 1.0),
        ("expression", "expression_prior", 0.3),
        ("scale", "scale_prior", 0.05),
    ):
        if energy not in stage.energies or name not in layout:
            continue
        value, began = (getattr(s, "log_scale" if name == "scale" else name) for s in (state, start))
        centre = began if setting(stage, energy, "around", "zero") == "start" else torch.zeros_like(value)
        prior = prior_equations(layout, name, value, centre, setting(stage, energy, "sigma", default))
        weight = setting(stage, energy, "weight", 1.0, progress)
        equations.add(prior, weight)
        log.energy(energy, weight * prior.energy)


def _map_weights(stage: Stage, resolution: int, reference: int, progress: float = 1.0) -> MapWeights:
    """The stage's regularisation, stated for a map of `reference` texels a side.

    A smooth field sampled n times finer has a Laplacian n² times smaller at n² times as many nodes.
    """
    factor = resolution / reference

    def weight(name: str, default: float) -> float:
        return setting(stage, "smoothness", name, default, progress)

    return MapWeights(
        bilaplacian=weight("bilaplacian", 0.01) * factor**2,
        laplacian=weight("laplacian", 0.01),
        magnitude=weight("magnitude", 0.001) / factor**2,
        tangential=weight("tangential", 0.01) / factor**2,
    )


def _noise_weight(problem: Problem, stage: Stage, resolution: int, reference: int) -> float:
    """Bilaplacian that a scan's noise asks for: noise on vertices a distance e apart has a spectrum of σ² e²."""
    spectrum = (problem.scan.noise_mm * problem.scan.edge_mm) ** 2
    return setting(stage, "smoothness", "noise", 0.0) * spectrum * (resolution / reference) ** 2


def _tangent_projector(problem: Problem, state: FaceState, geometry: SurfaceGeometry) -> Tensor:
    """[3, 3, R, R] projector onto the tangent plane at each texel of the deformation map, model axes."""
    samples = surface_samples(problem.model, state.deformation.shape[-1])
    normals = torch.nn.functional.normalize(samples.interpolate(geometry.normals), dim=-1)
    normals = normals @ state.world_from_model[:3, :3]
    identity = torch.eye(3, device=normals.device, dtype=normals.dtype)
    return samples.to_grid(identity - normals[:, :, None] * normals[:, None, :]).permute(2, 3, 0, 1)


def _deformation_step(
    problem: Problem,
    state: FaceState,
    stage: Stage,
    compared: Compared,
    samples: SurfaceSamples | None,
    progress: float,
    log: StageLog,
) -> FaceState:
    """One Gauss-Newton step of the deformation map."""
    geometry = surface_geometry(problem.model, state, problem.topology)
    resolution = state.deformation.shape[-1]
    data = deformation_data(problem, state, stage, geometry[0], progress, log)
    if samples is not None:
        sampled = sample_views(state, compared.signals, samples, geometry, problem.topology)
        terms = compare_views(stage, samples, sampled, compared.trust, progress)
        per_sample = setting(stage, "consistency", "map_weight", 1.0) * (64.0 / samples.resolution) ** 2
        per_sample *= float(sampled[0].density) / noise_of(terms)
        blocks = [
            deformation_blocks(state, channel, one, samples.texel, per_sample)
            for channel, one in zip(sampled, terms, strict=True)
        ]
        sampling = GridSampling.build(resolution, samples.resolution, state.deformation.device)
        data.append((BlockField.sum_of(blocks), sampling))
        _log_consistency(log, terms)
    if not data:
        return state
    weights = _map_weights(stage, resolution, 64, progress)
    if samples is not None:
        weights = _softened(weights, stage, state.deformation, terms, 64, log)
    if problem.scan is not None:
        weights = replace(weights, bilaplacian=weights.bilaplacian + _noise_weight(problem, stage, resolution, 64))
    step = map_step(state.deformation, data, weights, _tangent_projector(problem, state, geometry[0]))
    step = clamp_step(step, setting(stage, "smoothness", "step_mm", 3.0)) * fade_border(resolution, MAP_BORDER, step)
    log.residuals["map_step_mm"] = float(step.norm(dim=0).mean())
    return replace(state, deformation=state.deformation + step)


def _displacement_step(
    problem: Problem,
    state: FaceState,
    stage: Stage,
    compared: Compared,
    dense: DenseSurface,
    samples: SurfaceSamples,
    progress: float,
    log: StageLog,
) -> FaceState:
    """One Gauss-Newton step of the displacement map, on the subdivided M1."""
    resolution = state.displacement.shape[-1]
    sampling = GridSampling.build(resolution, samples.resolution, state.displacement.device)
    amount = samples.from_grid(sampling.apply(state.displacement))[:, None]
    geometry, points, directions = [], [], None
    for row in range(state.expression.shape[0]):
        base = dense.positions(m1_vertices(problem.model, state, row))
        normals = vertex_normals(base[None], dense.topology)[0]
        direction = torch.nn.functional.normalize(samples.interpolate(normals), dim=-1)
        directions = direction if directions is None else directions
        geometry.append(SurfaceGeometry(base, normals))
        points.append(samples.interpolate(base) + direction * amount)
    sampled = sample_views(state, compared.signals, samples, geometry, dense.topology, points=points)
    terms = compare_views(stage, samples, sampled, compared.trust, progress)
    per_sample = setting(stage, "consistency", "map_weight", 1.0) * (256.0 / samples.resolution) ** 2
    per_sample *= float(sampled[0].density) / noise_of(terms)
    blocks = [
        displacement_blocks(state, channel, directions, one, samples.texel, per_sample)
        for channel, one in zip(sampled, terms, strict=True)
    ]
    weights = _softened(_map_weights(stage, resolution, 256), stage, state.displacement[None], terms, 256, log)
    step = map_step(state.displacement[None], [(BlockField.sum_of(blocks), sampling)], weights)
    step = clamp_step(step, setting(stage, "smoothness", "step_mm", 0.5)) * fade_border(resolution, MAP_BORDER, step)
    _log_consistency(log, terms)
    log.residuals["map_step_mm"] = float(step.norm(dim=0).mean())
    return replace(state, displacement=state.displacement + step[0])


def noise_of(terms: Sequence[ConsistencyTerms]) -> float:
    """What the maps' data are divided by, so that photographs with noise are smoothed more than clean ones.

    Of the first channel; the others were scaled to disagree as much.

    Early on, texture that is not yet in place counts as noise too: the maps then begin stiff and become free.
    """
    return max(float(terms[0].variance), LEAST_VARIANCE)


def _softened(
    weights: MapWeights, stage: Stage, grid: Tensor, terms: Sequence[ConsistencyTerms], reference: int, log: StageLog
) -> MapWeights:
    """The weights for a face as rough as the map [C, R, R] found so far, if the stage says how rough the usual one is.

    The first step of a stage has no map of its own yet and keeps the weights.
    """
    usual = setting(stage, "smoothness", "roughness", 0.0)
    if usual == 0.0 or log.steps == 0:
        return weights
    scale = (grid.shape[-1] / reference) ** 2
    found = roughness(grid, terms[0].weight.sum(0)) * scale
    log.residuals["map_roughness"] = found
    return softened(weights, found, usual)


def _log_consistency(log: StageLog, terms: Sequence[ConsistencyTerms]) -> None:
    log.energy("consistency", sum(float(one.energy) for one in terms))
    log.residuals["consistency_grey"] = float(terms[0].grey)


def run_gauss_newton(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Run a Gauss-Newton stage: each step does the dense parameters, then the deformation, then the displacement map."""
    log = StageLog()
    start = state
    layout = build_layout(tuple(name for name in stage.free if name in DENSE), problem.model, state)
    passes = stage.passes or (Pass(steps=stage.steps),)
    total = sum(one.steps for one in passes)
    several = state.view_count > 1
    wants_views = "consistency" in stage.energies and several
    dense = None
    for now in passes:
        samples = surface_samples(problem.model, now.samples) if wants_views else None
        compared = Compared((), None)
        if samples is not None:
            coarse = surface_samples(problem.model, min(now.samples, REFERENCE_SAMPLES))
            channels, trust = compared_channels(problem, state, stage, coarse, now.image)
            compared = Compared(problem.observation.signals(now.image, channels), trust)
            best = dict(zip(("red", "green", "blue"), channels[0].tolist(), strict=True))
            log.residuals |= {f"channel_{colour}": value for colour, value in best.items()}
        fine = None
        if "displacement" in stage.free and wants_views:
            dense = dense or dense_surface(problem.model, problem.configuration.maps.dense_levels)
            # At least one sample per texel, whatever the map's size.
            fine = dense_samples(dense, max(now.samples, state.displacement.shape[-1]))
        for _ in range(now.steps):
            progress = log.steps / max(total - 1, 1)
            if layout.size:
                state = _dense_step(problem, state, stage, layout, start, compared, samples, progress, log)
            if "deformation" in stage.free:
                state = _deformation_step(problem, state, stage, compared, samples, progress, log)
            if fine is not None:
                state = _displacement_step(problem, state, stage, compared, dense, fine, progress, log)
            log.steps += 1
            problem.on_step(stage.name, log.steps, total, log.total)
    if "consistency" in stage.energies and not several:
        log.note = "one view: photo-consistency has nothing to compare"
    return state, log
