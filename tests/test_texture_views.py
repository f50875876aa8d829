"""T and T' of a fitted view, against the photograph's own formula evaluated at projected points."""

from __future__ import annotations

import types

import pytest
import torch

from fitter.hierarchy.face import initial_state, m0_vertices, m1_vertices
from fitter.kernels.topology import MeshTopology
from fitter.optimise.observation import Observation, build_pyramid
from fitter.result.textures import fitting_level, texture_difference, view_textures
from fitter.texture.colour import linear_to_srgb
from tests.factories import toy_camera, toy_model

SIDE = 96


def _light(pixels: torch.Tensor) -> torch.Tensor:
    """Linear RGB [..., 3] of the photograph at pixels [..., 2]: waves of about 80 px."""
    x, y = pixels.unbind(-1)
    return torch.stack(
        [0.5 + 0.3 * torch.sin(x / 13), 0.5 + 0.3 * torch.cos(y / 12), 0.4 + 0.2 * torch.sin((x + y) / 17)], -1
    )


def _projected(points: torch.Tensor, camera) -> torch.Tensor:
    """Pinhole projection written out."""
    cam = points.double() @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    pixels = cam @ camera.intrinsics.T
    return pixels[..., :2] / pixels[..., 2:]


@pytest.fixture(scope="module")
def fitted():
    """A toy head with a deformation of up to 3 mm in front of a camera with twice the toy's pixels."""
    model = toy_model().to(torch.float32)
    camera = toy_camera(0.1, (320, 256))
    camera.intrinsics[:2, :2] *= 2.0
    rows, columns = torch.meshgrid(torch.arange(320.0) + 0.5, torch.arange(256.0) + 0.5, indexing="ij")
    image = linear_to_srgb(_light(torch.stack([columns, rows], -1)))
    state = initial_state(model, camera.intrinsics.float()[None], camera.cam_from_world.float()[None], 1, (32, SIDE))
    axis = torch.linspace(-1, 1, 32)
    bump = 3.0 * torch.exp(-3 * (axis[:, None] ** 2 + axis**2))
    state.deformation[:] = torch.stack([bump, -0.5 * bump, 0.7 * bump])
    observation = Observation((build_pyramid(image, None),), None, None, "ibug68", (None,))
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    problem = types.SimpleNamespace(model=model, observation=observation, topology=topology)
    found = view_textures(problem, state, 0, m0_vertices(model, state), m1_vertices(model, state))
    return model, state, camera, observation, found


def _texel_point(model, vertices: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """The surface point under a texel's centre, by trying every triangle."""
    target = torch.tensor([(column + 0.5) / SIDE, (row + 0.5) / SIDE], dtype=torch.float64)
    for corners in model.atlas_triangles:
        a, b, c = model.atlas_uv[corners].double()
        inner = torch.linalg.solve(torch.stack([b - a, c - a], -1), target - a)
        if float(inner.min()) >= 0 and float(inner.sum()) <= 1:
            first, second, third = vertices[corners].double()
            return first + inner[0] * (second - first) + inner[1] * (third - first)
    raise AssertionError("a texel off the atlas")


@pytest.mark.parametrize(("row", "column"), [(48, 48), (32, 60), (66, 40), (56, 62)])
def test_both_textures_show_the_photograph_at_their_own_surface(fitted, row, column):
    model, state, camera, _, found = fitted
    assert float(found.texture_weight[row, column]) > 0.3 < float(found.realigned_weight[row, column])
    colours = []
    for vertices, texture in ((m0_vertices(model, state), found.texture), (m1_vertices(model, state), found.realigned)):
        expected = _light(_projected(_texel_point(model, vertices, row, column), camera))
        assert torch.allclose(texture[row, column].double(), expected, atol=0.006)
        colours.append(expected)
    assert float((colours[0] - colours[1]).abs().max()) > 0.02  # the deformation does matter there


def test_difference_and_filling(fitted):
    found = fitted[-1]
    assert found.difference is not None and found.difference < 0.01
    unseen = found.texture_weight == 0
    assert bool(unseen.any()) and float(found.texture[unseen].min()) > 0 and float(found.realigned[unseen].min()) > 0
    nothing = torch.zeros(4, 4)
    assert texture_difference(torch.rand(4, 4, 3), torch.rand(4, 4, 3), nothing) is None
    half, more = torch.full((4, 4, 3), 0.5), torch.full((4, 4, 3), 0.5)
    more[:3] = 0.6
    step = float(linear_to_srgb(torch.tensor(0.6)) - linear_to_srgb(torch.tensor(0.5)))
    assert texture_difference(half, more, torch.ones(4, 4)) == pytest.approx(step, abs=1e-6)


def test_level_has_a_pixel_per_texel(fitted):
    observation = fitted[3]
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    grid = torch.stack([columns, rows], -1)
    assert fitting_level(observation, 0, grid * 2.5, torch.ones(8, 8)).scale == 0.5
    assert fitting_level(observation, 0, grid * 0.5, torch.ones(8, 8)).scale == 1.0
    assert fitting_level(observation, 0, grid, torch.zeros(8, 8)).scale == 1.0
