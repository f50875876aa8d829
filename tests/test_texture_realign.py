"""T': the flow that the projected deformation induces, against sampling the photograph anew."""

import math

import pytest
import torch

from fitter.camera import Camera
from fitter.texture.colour import linear_to_srgb
from fitter.texture.realign import realign_texture, reversal_flow
from fitter.texture.unwrap import project_texels, unwrap_texture

SIZE = 96


def _camera(degrees: float) -> Camera:
    """Looks at the origin from 500 mm, turned about the vertical axis."""
    angle = math.radians(degrees)
    rotation = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]], dtype=torch.float64
    )
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ rotation
    cam_from_world[2, 3] = 500.0
    intrinsics = torch.tensor([[600.0, 0, 128], [0, 600.0, 128], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, cam_from_world, (256, 256))


def _surfaces(amplitude: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A bulging patch and the same one with a smooth deformation of at most `amplitude` mm in every direction."""
    axis = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    before = torch.stack([60 * u, 60 * v, 30 * (1 - u * u - 0.5 * v * v)], -1)
    bump = torch.exp(-3 * (u * u + v * v))[..., None]
    waves = torch.stack([torch.sin(2 * v), torch.cos(2 * u), torch.sin(u + v)], -1)
    return before, before + amplitude * bump * waves


def _photograph() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    shades = [0.5 + 0.3 * torch.sin(x / 7 + phase) * torch.cos(y / 9 - phase) for phase in (0.0, 1.0, 2.0)]
    return linear_to_srgb(torch.stack(shades, -1).double())


@pytest.mark.parametrize("degrees", [0.0, 35.0])
def test_realigned_equals_sampling_the_photograph_at_m1(degrees):
    camera, photograph = _camera(degrees), _photograph()
    before, after = _surfaces(3.0)
    seen = torch.ones(SIZE, SIZE)
    stale = unwrap_texture(photograph, camera, before, seen)
    fresh = unwrap_texture(photograph, camera, after, seen)
    realigned = realign_texture(stale.colour, stale.weight, camera, before, after, seen.bool())
    inner = (slice(8, -8), slice(8, -8))
    error = (realigned.texture - fresh.colour)[inner].abs()
    unmoved = (stale.colour - fresh.colour)[inner].abs()
    assert float(unmoved.max()) > 0.1  # there is something to correct
    assert float(error.mean()) < 0.02 * float(unmoved.max()) and float(error.max()) < 0.02
    assert float(realigned.weight[inner].min()) > 0.9


def test_the_first_step_is_right_to_first_order():
    camera = _camera(20.0)
    valid = torch.ones(SIZE, SIZE, dtype=torch.bool)
    misses = []
    for amplitude in (4.0, 8.0):
        before, after = (project_texels(surface, camera) for surface in _surfaces(amplitude))
        misses.append(float(reversal_flow(before, after, valid, steps=1, limit=30.0)[1][10:-10, 10:-10].max()))
    # Second order: twice the deformation, about four times the miss (a little of it is bilinear interpolation).
    assert 3.0 < misses[1] / misses[0] < 6.0


def test_no_deformation_is_the_identity():
    camera = _camera(10.0)
    before, _ = _surfaces(0.0)
    texture = torch.rand(SIZE, SIZE, 3, dtype=torch.float64)
    weight = torch.rand(SIZE, SIZE, dtype=torch.float64)
    realigned = realign_texture(texture, weight, camera, before, before, torch.ones(SIZE, SIZE, dtype=torch.bool))
    assert torch.allclose(realigned.texture, texture, atol=1e-9) and torch.allclose(realigned.weight, weight, atol=1e-6)
    assert float(realigned.flow.abs().max()) < 1e-9


def test_a_pure_shift_in_the_image_is_a_constant_flow():
    """On a plane facing the camera, moving by one texel's width moves the flow by exactly one texel."""
    camera = _camera(0.0)
    axis = torch.linspace(-40, 40, SIZE, dtype=torch.float64)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    before = torch.stack([u, v, torch.zeros_like(u)], -1)
    step = float(axis[1] - axis[0])
    after = before + torch.tensor([2 * step, -step, 0.0], dtype=torch.float64)
    realigned = realign_texture(
        torch.zeros(SIZE, SIZE, 3, dtype=torch.float64),
        torch.ones(SIZE, SIZE),
        camera,
        before,
        after,
        torch.ones(SIZE, SIZE, dtype=torch.bool),
    )
    expected = torch.tensor([2.0, -1.0], dtype=torch.float64)
    assert torch.allclose(realigned.flow[4:-4, 4:-4], expected.expand(SIZE - 8, SIZE - 8, 2), atol=1e-6)


def test_beyond_the_atlas_and_edge_on_there_is_no_weight_and_no_nan():
    camera = _camera(0.0)
    before, after = _surfaces(3.0)
    valid = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    valid[20:-20, 20:-20] = True
    hidden = before * valid[..., None], after * valid[..., None]
    texture, weight = torch.rand(SIZE, SIZE, 3, dtype=torch.float64), torch.ones(SIZE, SIZE)
    realigned = realign_texture(texture, weight, camera, *hidden, valid)
    assert float(realigned.weight[~valid].max()) == 0.0 and torch.isfinite(realigned.texture).all()
    assert float(realigned.weight[26:-26, 26:-26].min()) > 0.9
    sideways = before.clone()
    sideways[..., 0] = 0.0  # the u axis shrinks to nothing in the image
    edge_on = realign_texture(texture, weight, camera, sideways, sideways + 5.0, valid)
    assert torch.isfinite(edge_on.flow).all() and torch.isfinite(edge_on.texture).all()
