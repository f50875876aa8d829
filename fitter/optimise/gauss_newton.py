"""The Gauss-Newton solver of a stage: dense parameters and maps in turn, coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fitter.camera import transform_points
from fitter.energies.consistency import ConsistencyTerms
from fitter.hierarchy.dense import DenseSurface, dense_surface
from fitter.hierarchy.face import FaceState, deformation_offsets
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.people import people_of
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.model.morphable import MorphableModel
from fitter.optimise.comparison import (
    COMPARISON_SETTINGS,
    Compared,
    as_fine_as_pixels,
    compare_views,
    compared_at,
    noise_of,
)
from fitter.optimise.config import Pass, Stage
from fitter.optimise.dense_terms import (
    NormalEquations,
    consistency_equations,
    landmark_equations,
    prior_equations,
    solve_step,
)
from fitter.optimise.map_settings import map_weights, softened_weights, tangent_projector
from fitter.optimise.map_solver import (
    MAP_BORDER,
    BlockField,
    clamp_step,
    deformation_blocks,
    displacement_blocks,
    fade_border,
    map_step,
)
from fitter.optimise.parameters import (
    DENSE,
    Layout,
    SurfacePoints,
    build_layout,
    surface_points,
    take_step,
)
from fitter.optimise.placed_samples import displaced_samples, displaced_surface
from fitter.optimise.problem import Problem, StageLog, frontal_cosine, landmark_embedding, setting
from fitter.optimise.scan_energies import SCAN_SETTINGS, add_scan_equations, deformation_data
from fitter.optimise.views import sample_views, surface_geometry

SETTINGS: dict[str, frozenset[str]] = {
    "consistency": COMPARISON_SETTINGS | {"weight", "map_weight"},
    "landmark": frozenset({"weight", "sigma_mm", "jaw"}),
    "identity_prior": frozenset({"weight", "sigma", "around"}),
    "expression_prior": frozenset({"weight", "sigma", "around"}),
    "scale_prior": frozenset({"weight", "sigma", "around"}),
    "smoothness": frozenset({"bilaplacian", "laplacian", "magnitude", "tangential", "step_mm", "noise", "roughness"}),
} | SCAN_SETTINGS
"""Energies that Gauss-Newton can minimise, with their settings."""


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
    _add_priors(equations, layout, problem.model, state, stage, start, progress, log)
    step = solve_step(equations, layout, state, model.expressions_are_named)
    return take_step(state, layout, step, model.expressions_are_named)


def _add_priors(
    equations: NormalEquations,
    layout: Layout,
    model: MorphableModel,
    state: FaceState,
    stage: Stage,
    start: FaceState,
    progress: float,
    log: StageLog,
) -> None:
    """Gaussian priors of the stage; `around: start` centres one on the value that the stage began with, `around: people`
    the identity's on that of scanned people."""
    for name, energy, default in (
        ("identity", "identity_prior", 1.0),
        ("expression", "expression_prior", 0.3),
        ("scale", "scale_prior", 0.05),
    ):
        if energy not in stage.energies or name not in layout:
            continue
        value, began = (getattr(s, "log_scale" if name == "scale" else name) for s in (state, start))
        around = setting(stage, energy, "around", "zero")
        centre = began if around == "start" else torch.zeros_like(value)
        if around == "people" and (people := people_of(model)) is not None and name == "identity":
            centre = people.identity
        prior = prior_equations(layout, name, value, centre, setting(stage, energy, "sigma", default))
        weight = setting(stage, energy, "weight", 1.0, progress)
        equations.add(prior, weight)
        log.energy(energy, weight * prior.energy)


def _noise_weight(problem: Problem, stage: Stage, resolution: int, reference: int) -> float:
    """Bilaplacian that a scan's noise asks for: noise on vertices a distance e apart has a spectrum of σ² e²."""
    spectrum = (problem.scan.noise_mm * problem.scan.edge_mm) ** 2
    return setting(stage, "smoothness", "noise", 0.0) * spectrum * (resolution / reference) ** 2


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
        per_sample *= float(sampled[0].density) / noise_of(terms[0])
        blocks = [
            deformation_blocks(state, channel, one, samples.texel, per_sample)
            for channel, one in zip(sampled, terms, strict=True)
        ]
        sampling = GridSampling.build(resolution, samples.resolution, state.deformation.device)
        data.append((BlockField.sum_of(blocks), sampling))
        _log_consistency(log, terms)
    if not data:
        return state
    weights = map_weights(stage, resolution, 64, progress)
    if samples is not None:
        weights = softened_weights(weights, stage, state.deformation, terms[0].weight, 64, log)
    if problem.scan is not None:
        weights = replace(weights, bilaplacian=weights.bilaplacian + _noise_weight(problem, stage, resolution, 64))
    step = map_step(state.deformation, data, weights, tangent_projector(problem, state, geometry[0]))
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
    surface = displaced_surface(problem, state, dense, samples)
    sampled = sample_views(state, compared.signals, samples, surface.geometry, surface.topology, points=surface.points)
    terms = compare_views(stage, samples, sampled, compared.trust, progress)
    per_sample = setting(stage, "consistency", "map_weight", 1.0) * (256.0 / samples.resolution) ** 2
    per_sample *= float(sampled[0].density) / noise_of(terms[0])
    blocks = [
        displacement_blocks(state, channel, surface.normals, one, samples.texel, per_sample)
        for channel, one in zip(sampled, terms, strict=True)
    ]
    weights = map_weights(stage, resolution, 256)
    weights = softened_weights(weights, stage, state.displacement[None], terms[0].weight, 256, log)
    step = map_step(state.displacement[None], [(BlockField.sum_of(blocks), sampling)], weights)
    step = clamp_step(step, setting(stage, "smoothness", "step_mm", 0.5)) * fade_border(resolution, MAP_BORDER, step)
    _log_consistency(log, terms)
    log.residuals["map_step_mm"] = float(step.norm(dim=0).mean())
    return replace(state, displacement=state.displacement + step[0])


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
    for wanted in passes:
        now = as_fine_as_pixels(problem, state, wanted) if wants_views and "deformation" in stage.free else wanted
        samples = surface_samples(problem.model, now.samples) if wants_views else None
        compared = Compared((), None)
        if samples is not None:
            compared = compared_at(problem, state, stage, now, log)
        fine = None
        if "displacement" in stage.free and wants_views:
            dense = dense or dense_surface(problem.model, problem.configuration.maps.dense_levels)
            fine = displaced_samples(dense, state, now.samples)
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
