"""Eyeballs in the photographs: where they lie, what they show, and how their colour becomes albedo."""

from __future__ import annotations

import dataclasses
import types

import pytest
import torch

from fitter.hierarchy.face import initial_state, m1_vertices
from fitter.kernels.topology import MeshTopology
from fitter.optimise.observation import Observation, build_pyramid
from fitter.result.patches import patch_light, patch_samples, patch_triangles, photographed_patches
from fitter.texture.colour import linear_to_srgb
from tests.factories import toy_camera, toy_model

SIDE = 64


def _model():
    """The toy face with its two eye caps laid out in the upper corners of the atlas, 8 mm out of the head."""
    model = toy_model()
    eyes = model.regions["eyes"]
    uv, mean = model.atlas_uv.clone(), model.mean.clone()
    centre = torch.stack([torch.where(mean[:, 0] > 0, 32.0, -32.0), torch.full_like(mean[:, 0], 22.0)], -1)
    side = torch.where(mean[:, 0] > 0, 0.93, 0.07)
    uv[eyes] = (torch.stack([side, torch.full_like(side, 0.93)], -1) + (mean[:, :2] - centre) * 0.005)[eyes]
    mean[eyes, 2] += 8.0
    return dataclasses.replace(model, atlas_uv=uv, mean=mean).to(torch.float32)


@pytest.fixture(scope="module")
def scene():
    """A photograph whose red grows to the right and green downwards, linearly in light."""
    model, camera = _model(), toy_camera(0.0, (320, 256))
    rows, columns = torch.meshgrid(torch.arange(320.0) + 0.5, torch.arange(256.0) + 0.5, indexing="ij")
    image = linear_to_srgb(torch.stack([columns / 256, rows / 320, torch.full_like(rows, 0.3)], -1))
    state = initial_state(model, camera.intrinsics.float()[None], camera.cam_from_world.float()[None], 1, (16, 32))
    observation = Observation((build_pyramid(image, None),), None, None, "ibug68", (None,))
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    return types.SimpleNamespace(model=model, observation=observation, topology=topology), state, camera


def test_patches_are_the_eyes_and_nothing_else(scene):
    model = scene[0].model
    eyes = model.triangles[model.regions["eyes"][model.triangles].all(1)]
    assert torch.equal(patch_triangles(model), eyes)
    turned = dataclasses.replace(model, atlas_triangles=model.atlas_triangles.roll(1, 1))
    assert torch.equal(patch_triangles(turned), eyes)
    assert patch_samples(toy_model(), 32) is None  # no room of their own on the atlas


def test_the_photograph_is_looked_up_where_the_eye_is(scene):
    problem, state, camera = scene
    found = photographed_patches(problem, state, SIDE)
    vertices = m1_vertices(problem.model, state).double()
    for eye, u in ((-32.0, 0.07), (32.0, 0.93)):
        apex = next(v for v in vertices if abs(float(v[0]) - eye) < 1e-3 and abs(float(v[1]) - 22) < 1e-3 and v[2] > 70)
        cam = camera.cam_from_world[:3, :3] @ apex + camera.cam_from_world[:3, 3]
        pixel = camera.intrinsics @ (cam / cam[2])
        row, column = int(0.93 * SIDE), int(u * SIDE)
        expected = torch.tensor([float(pixel[0]) / 256, float(pixel[1]) / 320, 0.3])
        assert float(found.weight[row, column]) > 0.8
        # Half a texel is 1.6 mm, which is 1 px.
        assert torch.allclose(found.colour[row, column], expected, atol=0.01)
    assert float(found.weight[: SIDE // 2].abs().max()) == 0 == float(found.colour[: SIDE // 2].abs().max())


def test_hidden_eyes_are_left_to_paint(scene):
    problem, state, _ = scene
    behind = torch.eye(4)
    behind[[0, 2], [0, 2]] = -1.0
    found = photographed_patches(problem, dataclasses.replace(state, world_from_model=behind), SIDE)
    assert float(found.weight.max()) == 0


def test_light_of_the_patches_is_that_of_the_skin():
    texture, seen = torch.rand(8, 8, 3) + 0.1, torch.ones(8, 8)
    factor = torch.tensor([1.5, 1.2, 0.8])
    albedo = texture * factor
    albedo[:4], seen[4] = 0.0, 0.0  # outside of the atlas; not seen
    texture[4] = 7.0
    assert torch.allclose(patch_light(albedo, texture, seen), factor, rtol=1e-5)
