"""Lighting and albedo in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fitter.optimise.lighting_stage import solve_lighting_and_albedo
from fitter.render import shade
from tests.adam_scenes import known_light, known_state, photograph, small_model


def shading_on_face(model, state, view: int) -> torch.Tensor:
    """[V, 3] shaded colour of the face's vertices, by directions that a camera in front can see."""
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    directions = directions[directions[:, 2] > 0.5]
    albedo = model.albedo(state.albedo)[model.regions["face"]].mean(0).expand_as(directions)
    return shade(albedo[None], directions[None], state.lighting[view : view + 1])[0]


@pytest.mark.parametrize("yaws", [(0.0,), (-0.4, 0.4)])
def test_known_lighting_comes_back(yaws):
    model = small_model()
    truth = known_state(model, yaws)
    start = replace(truth, lighting=torch.zeros_like(truth.lighting))
    found = solve_lighting_and_albedo(model, start, photograph(model, truth))
    for view in range(len(yaws)):
        expected, got = shading_on_face(model, truth, view), shading_on_face(model, found, view)
        assert float((got - expected).abs().mean() / expected.mean()) < 0.03


def test_a_rig_shares_its_light_and_flashes_do_not():
    model = small_model()
    truth = known_state(model, (-0.4, 0.4))
    found = solve_lighting_and_albedo(model, truth, photograph(model, truth))
    assert torch.equal(found.lighting[0], found.lighting[1])
    light = known_light(2)
    light[0, 3], light[1, 3] = 1.2, -1.2
    flashes = replace(truth, lighting=light)
    found = solve_lighting_and_albedo(model, flashes, photograph(model, flashes))
    assert float(found.lighting[0, 3].mean()) > 0.5 > -0.5 > float(found.lighting[1, 3].mean())


def test_a_darker_photograph_darkens_the_light_and_not_the_skin():
    model = small_model()
    truth = known_state(model, (0.0,))
    full = solve_lighting_and_albedo(model, truth, photograph(model, truth))
    third = solve_lighting_and_albedo(model, truth, photograph(model, truth, exposure=1 / 3))
    assert torch.allclose(third.albedo, full.albedo, atol=0.02)
    assert torch.allclose(third.lighting, full.lighting / 3, atol=0.02)


def test_albedo_follows_the_colour_that_light_cannot_explain():
    model = small_model()
    lips = model.albedo_mean.clone()
    lips[model.regions["lips"]] *= 0.5
    # A second coefficient that darkens the lips only.
    basis = torch.cat([model.albedo_basis, ((lips - model.albedo_mean) / 2)[..., None]], -1)
    model = replace(model, albedo_basis=basis)
    truth = known_state(model, (0.0,), albedo=torch.tensor([0.0, 1.0]))
    start = replace(truth, albedo=torch.zeros(2))
    found = solve_lighting_and_albedo(model, start, photograph(model, truth))
    assert 0.4 < float(found.albedo[1]) < 1.3


def test_a_view_that_sees_nothing_takes_the_others_light():
    model = small_model()
    truth = known_state(model, (0.0, 3.1))
    found = solve_lighting_and_albedo(model, truth, photograph(model, truth))
    assert bool(torch.isfinite(found.lighting).all())
