"""Samples of the surface, the three levels of the face, and the dense mesh."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fitter.hierarchy.dense import dense_samples, dense_surface
from fitter.hierarchy.face import deformation_offsets, initial_state, m0_vertices, m1_vertices
from fitter.hierarchy.samples import surface_samples
from fitter.model.morphable import MorphableModel
from tests.factories import toy_model


def _inside(uv: torch.Tensor, triangles: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[N] how many triangles hold each point, triangle by triangle."""
    a, b, c = uv[triangles].unbind(1)

    def side(p, q):
        return (q - p)[None, :, 0] * (points[:, None] - p)[..., 1] - (q - p)[None, :, 1] * (points[:, None] - p)[..., 0]

    return ((side(a, b) > 0) & (side(b, c) > 0) & (side(c, a) > 0)).sum(1)


def _state(model: MorphableModel, resolutions: tuple[int, int] = (8, 32)):
    eye = torch.eye(4, dtype=model.mean.dtype)
    return initial_state(model, torch.eye(3, dtype=model.mean.dtype)[None], eye[None], 1, resolutions)


def _centres(texel: torch.Tensor, resolution: int) -> torch.Tensor:
    return torch.stack([texel % resolution + 0.5, texel // resolution + 0.5], -1).double() / resolution


def test_samples_are_the_texel_centres():
    model = toy_model()
    samples = surface_samples(model, 40)
    found = samples.interpolate(model.atlas_uv.double())
    assert float((found - _centres(samples.texel, 40)).abs().max()) < 1e-4
    assert torch.allclose(samples.weights.sum(1), torch.ones(samples.count, dtype=samples.weights.dtype), atol=1e-6)
    assert float(samples.weights.min()) > -1e-5


def test_samples_of_the_open_model(open_model):
    samples = surface_samples(open_model, 128)
    found = samples.interpolate(open_model.atlas_uv).double()
    assert float((found - _centres(samples.texel, 128)).abs().max()) < 1e-4
    hidden = open_model.regions["mouth_inside"] | open_model.regions["sockets"]
    assert torch.equal(samples.usable, ~hidden[samples.vertices].any(1))
    assert 0.5 < samples.count / 128**2 < 1.0 and float(samples.usable.float().mean()) > 0.8


def test_every_covered_texel_is_a_sample_once():
    model = toy_model()
    samples = surface_samples(model, 24)
    assert len(samples.texel.unique()) == samples.count
    covered = _inside(model.atlas_uv, model.atlas_triangles, _centres(torch.arange(24 * 24), 24)) == 1
    mask = torch.zeros(24 * 24, dtype=torch.bool)
    mask[samples.texel] = True
    # A centre on an edge belongs to one of two triangles; the strict test above counts it for neither.
    assert not bool((covered & ~mask).any())
    assert int((mask & ~covered).sum()) <= 24


def test_samples_near_hidden_vertices_are_not_usable():
    model = toy_model()
    mouth = model.regions["mouth_inside"].clone()
    mouth[5] = True
    samples = surface_samples(replace(model, regions=model.regions | {"mouth_inside": mouth}), 24)
    touching = (samples.vertices == 5).any(1)
    assert bool(touching.any()) and torch.equal(samples.usable, ~touching)


def test_grid_and_back():
    samples = surface_samples(toy_model(), 16)
    values = torch.arange(samples.count * 2.0).view(-1, 2)
    grid = samples.to_grid(values)
    assert grid.shape == (16, 16, 2) and torch.equal(samples.from_grid(grid), values)
    outside = torch.ones(256, dtype=torch.bool)
    outside[samples.texel] = False
    assert float(grid.flatten(0, 1)[outside].abs().max()) == 0.0


def test_m0_is_the_model_scaled_then_placed():
    model = toy_model()
    random = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64))
    rotation = rotation * torch.sign(torch.linalg.det(rotation))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation, torch.tensor([10.0, -20.0, 300.0])
    identity = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    expression = torch.tensor([[0.2, 0.0, 0.9]], dtype=torch.float64)
    state = replace(
        _state(model),
        identity=identity,
        expression=expression,
        log_scale=torch.tensor(0.1, dtype=torch.float64),
        world_from_model=pose,
    )
    found = m0_vertices(model, state)
    for vertex in (0, 17, 210):
        shape = model.mean[vertex] + model.identity_basis[vertex] @ identity
        shape = shape + model.expression_basis[vertex] @ expression[0]
        expected = rotation @ shape * 1.1051709180756477 + pose[:3, 3]
        assert torch.allclose(found[vertex], expected, atol=1e-9)


def test_a_constant_map_moves_the_skin_in_model_axes():
    """Not scaled with the head, turned with it, and the eyes stay."""
    model = toy_model()
    quarter = torch.eye(4, dtype=torch.float64)
    quarter[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    state = _state(model)
    offset = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    state = replace(
        state,
        world_from_model=quarter,
        log_scale=torch.tensor(0.3, dtype=torch.float64),
        deformation=offset[:, None, None].expand(3, 8, 8),
    )
    moved = m1_vertices(model, state) - m0_vertices(model, state)
    skin = model.regions["skin"]
    assert torch.allclose(moved[skin], torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64), atol=1e-9)
    assert float(moved[~skin].abs().max()) == 0.0
    assert torch.allclose(moved, deformation_offsets(model, state), atol=1e-9)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_dense_surface_without_displacement_is_m1_subdivided(levels):
    model = toy_model()
    surface = dense_surface(model, levels)
    assert len(surface.triangles) == len(model.triangles) * 4**levels
    vertices, normals = surface.displace(model.mean, torch.zeros(32, 32, dtype=torch.float64))
    assert torch.allclose(vertices, surface.positions(model.mean))
    assert torch.allclose(normals.norm(dim=1), torch.ones(len(normals), dtype=torch.float64), atol=1e-6)
    # Translation commutes with subdivision, and old vertices keep their atlas coordinates.
    assert torch.allclose(surface.positions(model.mean + 7.0), vertices + 7.0, atol=1e-9)
    assert torch.allclose(surface.uv[: model.vertex_count], model.atlas_uv)
    if levels == 0:
        assert torch.allclose(vertices, model.mean)


def test_displacement_moves_skin_along_its_normal_only():
    model = toy_model()
    surface = dense_surface(model, 1)
    base, normals = surface.displace(model.mean, torch.zeros(32, 32, dtype=torch.float64))
    moved, _ = surface.displace(model.mean, torch.full((32, 32), 0.5, dtype=torch.float64))
    expected = 0.5 * surface.displaced[:, None] * normals
    assert torch.allclose(moved - base, expected, atol=1e-9)
    eyes = torch.arange(model.vertex_count)[~model.regions["skin"]]
    assert float((moved - base)[eyes].abs().max()) == 0.0


def test_dense_samples_lie_in_the_same_texels(open_model):
    surface = dense_surface(open_model, 1)
    fine, coarse = dense_samples(surface, 96), surface_samples(open_model, 96)
    found = fine.interpolate(surface.uv).double()
    # In single precision the thinnest triangles are worth a fiftieth of a texel.
    assert float((found - _centres(fine.texel, 96)).abs().max()) < 2e-4
    shared = set(fine.texel.tolist()) & set(coarse.texel.tolist())
    assert len(shared) > 0.98 * max(fine.count, coarse.count)
