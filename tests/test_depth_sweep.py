"""Depth sweeps on a known face: a dent is taken out, and what the cost of a depth is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.camera import project, transform_points
from fitter.energies.consistency import common_scale, consistency_terms, disagreement, paired_weight, robust_energy
from fitter.fit import FitOptions, build_problem
from fitter.hierarchy.face import m1_vertices
from fitter.hierarchy.samples import surface_samples
from fitter.optimise import swept_cost
from fitter.optimise.comparison import (
    PIXELS_PER_SAMPLE,
    as_fine_as_pixels,
    compared_at,
    compared_channels,
    comparison_filters,
)
from fitter.optimise.config import Pass, Stage, load_configuration
from fitter.optimise.depth_sweep import run_depth_sweep
from fitter.optimise.placed_samples import deformed_surface
from fitter.optimise.problem import StageLog
from fitter.optimise.run import run_stages
from fitter.optimise.views import sample_views
from tests.recovery_scene import KnownFace, known_face, surface_error

DENT_MM, WIDTH = 4.0, 0.025
"""Depth of the dent, and its radius as a share of the atlas."""


@pytest.fixture(scope="module")
def face(open_model) -> KnownFace:
    return known_face(open_model)


@pytest.fixture(scope="module")
def dented(face, open_model):
    """The problem; the true face but for a dent under the lower lip; and which of the face's vertices are in it."""
    preset = load_configuration("session")
    stage = next(stage for stage in preset.stages if stage.name == "m1")
    stage = replace(stage, passes=(replace(stage.passes[0], image=320, steps=3),))
    problem, state = build_problem(face.session, open_model, preset, FitOptions())
    state = replace(state, **{name: getattr(face.state, name) for name in ("identity", "world_from_model")})
    # Below the middle of the lower lip, halfway to the chin.
    spot = torch.cat([open_model.landmarks(open_model.mean)[[57]], open_model.landmarks(open_model.mean)[[8]]]).mean(0)
    nearest = (open_model.mean - spot).norm(dim=1).argmin()
    uv = open_model.atlas_uv[nearest]
    centre = (torch.arange(64) + 0.5) / 64
    bump = torch.exp(-0.5 * ((centre[:, None] - uv[1]) ** 2 + (centre[None] - uv[0]) ** 2) / WIDTH**2)
    deformation = face.state.deformation.clone()
    deformation[2] -= DENT_MM * bump
    inside = ((open_model.atlas_uv - uv).norm(dim=1) < WIDTH)[open_model.regions["face"]].numpy()
    assert inside.sum() > 10
    return problem, replace(state, deformation=deformation), stage, inside


def test_a_dent_is_left(face, dented, open_model):
    """Three sweeps take most of it out, and leave the rest of the face alone."""
    problem, state, stage, inside = dented

    def error(found) -> np.ndarray:
        return surface_error(open_model, face.vertices, m1_vertices(open_model, found))

    before = error(state)
    assert np.median(before[inside]) > 2.0 and np.median(before) < 0.01
    swept, log = run_depth_sweep(problem, state, stage)
    after = error(swept)
    assert np.median(after[inside]) < 0.2
    assert np.median(after) < 0.12
    assert log.steps == 3 and log.residuals["depth_found"] > 0.5


def test_one_view_has_nothing_to_compare(face, dented, open_model):
    problem, _, stage, _ = dented
    session = replace(face.session, views=face.session.views[:1])
    alone, state = build_problem(session, open_model, replace(problem.configuration, stages=(stage,)), FitOptions())
    same, log = run_depth_sweep(alone, state, stage)
    assert same is state and log.steps == 0 and "one view" in log.note
    assert run_stages(alone, state)[1] == []


@pytest.mark.parametrize("mode", ["gain", "lcn"])
def test_many_depths_at_once_are_each_alone(mode):
    """The disagreement of a stack of values is that of each, and its energy the one of `consistency_terms`."""
    random = torch.Generator().manual_seed(5)
    stack = 0.4 + 0.1 * torch.randn(4, 3, 40, 40, generator=random, dtype=torch.float64)
    weight = torch.rand(3, 40, 40, generator=random, dtype=torch.float64)
    weight[:, :6] = 0.0
    filters = {"mode": mode, "lowpass": 3.0, "window": 4.0, "sigma": 0.3}
    paired, seen = paired_weight(weight), (weight > 0).double()
    scale = common_scale(stack[1], paired, mode, 4.0)
    together, _ = disagreement(stack, paired, seen, scale, **filters)
    for values, residual in zip(stack, together, strict=True):
        alone, _ = disagreement(values, paired, seen, scale, **filters)
        assert torch.allclose(residual, alone, atol=1e-12)
    terms = consistency_terms(stack[1], weight, robust=4.0, **filters)
    assert torch.allclose(terms.residual, together[1], atol=1e-12)
    energy = (paired * robust_energy(together[1], 4.0)).sum() / paired.sum()
    assert float(terms.energy) == pytest.approx(float(energy))
    # Where one view sees, or none, there is nothing to disagree with.
    assert float(together[..., :6, :].abs().max()) == 0.0


def test_mixtures_have_a_width_of_their_own(dented, open_model):
    """`mixture_width` decides which colours are compared as `lowpass` alone would, and leaves the filters as they are."""
    problem, state, stage, _ = dented
    samples = surface_samples(open_model, 192)

    def stage_with(**settings) -> Stage:
        return replace(stage, energies=stage.energies | {"consistency": {"window": 8.0, "sigma": 0.3} | settings})

    def channels(**settings) -> torch.Tensor:
        return compared_channels(problem, state, stage_with(**settings), samples, 320)[0]

    narrow, wide, both = {"lowpass": 1.0}, {"lowpass": 6.0}, {"lowpass": 1.0, "mixture_width": 6.0}
    assert torch.equal(channels(**both), channels(**wide))
    assert not torch.allclose(channels(**both), channels(**narrow), atol=1e-3)
    assert comparison_filters(stage_with(**both), samples, 1.0) == comparison_filters(
        stage_with(**narrow), samples, 1.0
    )
    # With local contrast the window is what the views' differences are taken in.
    assert torch.equal(channels(mode="lcn", lowpass=1.0), channels(lowpass=8.0))
    assert torch.equal(channels(mode="lcn", mixture_width=6.0), channels(**wide))


def test_samples_are_no_denser_than_pixels(dented, open_model):
    """On the cheek, which the front view sees straight on, a sample of the reduced pass is about a pixel wide."""
    problem, state, _, _ = dented
    few, many = Pass(samples=128, image=320), Pass(samples=1536, image=320)
    assert as_fine_as_pixels(problem, state, few) == few
    now = as_fine_as_pixels(problem, state, many)
    assert 192 <= now.samples < 1536 and replace(now, samples=1536) == many
    assert as_fine_as_pixels(problem, state, replace(many, image=96)).samples == 192
    samples = surface_samples(open_model, now.samples)
    front = state.view_count // 2
    scale = problem.observation.level(front, 320).scale
    world = samples.interpolate(m1_vertices(open_model, state))
    pixels = project(transform_points(state.cam_from_world[front], world), state.intrinsics[front]) * scale
    nose = (world - open_model.landmarks(m1_vertices(open_model, state))[30]).norm(dim=1)
    step = (pixels[1:] - pixels[:-1]).norm(dim=1)
    beside = (samples.texel[1:] - samples.texel[:-1] == 1) & (nose[1:] < 60.0) & (nose[1:] > 25.0)
    assert float(step[beside].median()) == pytest.approx(PIXELS_PER_SAMPLE, rel=0.25)


@pytest.mark.parametrize("lowpass", [2.0, 3.0, 9.0])
def test_kernels_and_grids_agree_on_the_cost(dented, open_model, monkeypatch, lowpass):
    """Sample by sample in compiled loops, or on whole grids in torch: with the low-pass on three grids."""
    problem, state, stage, _ = dented
    energies = stage.energies | {"consistency": {**stage.energies["consistency"], "lowpass": lowpass}}
    stage = replace(stage, energies=energies)
    surface = deformed_surface(problem, state, surface_samples(open_model, 192))
    compared = compared_at(problem, state, stage, stage.passes[0], StageLog())
    sampled = sample_views(state, compared.signals, surface.samples, surface.geometry, surface.topology)
    comparison = swept_cost.ViewComparison.of(stage, compared, surface.samples, sampled, 0.0)
    depths = torch.tensor([-40.0, -1.0, 0.0, 0.5, 40.0])
    costs = []
    for kernels in (True, False):
        monkeypatch.setattr(swept_cost, "has_sweep_kernels", lambda _, kernels=kernels: kernels)
        costs.append(swept_cost.depth_cost(state, compared, surface, comparison, depths))
    by_kernels, on_grids = costs
    assert float(on_grids.max()) > 1.0 and float((on_grids > 0).float().mean()) > 0.3
    assert torch.allclose(by_kernels, on_grids, rtol=1e-3, atol=1e-3)
    # Where the surface is, the cost is the disagreement that is reported.
    here = comparison.agreements(sampled)
    energy = sum(float(one.energy) for one in here) * float(comparison.weight.sum())
    unblurred = replace(comparison, patch=1e-3)
    middle = swept_cost.depth_cost(state, compared, surface, unblurred, torch.zeros(1))
    assert float(middle.sum()) == pytest.approx(energy, rel=1e-3)


def test_a_displacement_is_found(face, open_model):
    """A bump of 0.4 mm on the displacement map is taken off; the deformation map stays."""
    preset = load_configuration("session")
    stage = next(stage for stage in preset.stages if stage.name == "m2")
    stage = replace(stage, passes=(replace(stage.passes[0], samples=256, image=320),))
    problem, state = build_problem(face.session, open_model, preset, FitOptions())
    state = replace(
        state, **{name: getattr(face.state, name) for name in ("identity", "world_from_model", "deformation")}
    )
    spot = open_model.landmarks(open_model.mean)[[2, 31, 41]].mean(0)
    uv = open_model.atlas_uv[(open_model.mean - spot).norm(dim=1).argmin()]
    centre = (torch.arange(state.displacement.shape[-1]) + 0.5) / state.displacement.shape[-1]
    squared = (centre[:, None] - uv[1]) ** 2 + (centre[None] - uv[0]) ** 2
    bumped = replace(state, displacement=0.4 * torch.exp(-0.5 * squared / WIDTH**2))
    swept, log = run_depth_sweep(problem, bumped, stage)
    inside = squared < WIDTH**2
    before, after = (float(one.displacement[inside].abs().median()) for one in (bumped, swept))
    assert before > 0.25 and after < 0.5 * before
    assert float(swept.displacement.abs().median()) < 0.02
    assert torch.equal(swept.deformation, bumped.deformation) and log.residuals["map_roughness"] > 0.0
