"""Texture sampling: texel centres, clamping, mip levels against box averages, footprints, gradients, parity."""

import pytest
import torch

from fitter.render import interpolate, rasterize, sample_texture, uv_footprint
from tests.render_scenes import CPU_BACKENDS, KERNEL_BACKENDS, relative, sphere_scene


def random_texture(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_texel_centres_and_borders(backend):
    texture = random_texture(1, 4, 6, 2)
    u, v = (torch.arange(6) + 0.5) / 6, (torch.arange(4) + 0.5) / 4
    grid = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], dim=-1)[None]
    torch.testing.assert_close(sample_texture(texture, grid, backend=backend), texture)
    corners = torch.tensor([[[[0.0, 0.0], [1.0, 0.0], [-3.0, 9.0]]]])
    expected = torch.stack([texture[0, 0, 0], texture[0, 0, 5], texture[0, 3, 0]])
    torch.testing.assert_close(sample_texture(texture, corners, backend=backend)[0, 0], expected)
    between = torch.tensor([[[[2 / 6, 2 / 4]]]])
    expected = texture[0, 1:3, 1:3].mean((0, 1))
    torch.testing.assert_close(sample_texture(texture, between, backend=backend)[0, 0, 0], expected)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_mipmap_is_a_box_average(backend, level):
    texture, n = random_texture(1, 32, 32, 3), 32 >> level
    centres = (torch.arange(n) + 0.5) / n
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")[::-1], dim=-1)[None]
    derivatives = torch.eye(2).expand(1, n, n, 2, 2) / n
    seen = sample_texture(texture, grid, "mipmap", derivatives, backend=backend)
    step = 1 << level
    expected = texture.reshape(1, n, step, n, step, 3).mean((2, 4))
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("backend", KERNEL_BACKENDS)
def test_gradients_agree_with_reference(backend):
    texture = random_texture(2, 21, 13, 3)
    uv = random_texture(2, 9, 7, 2) * 1.2 - 0.1
    derivatives = random_texture(2, 9, 7, 2, 2) * 0.4
    weights = random_texture(2, 9, 7, 3)
    for arguments in ((), ("mipmap", derivatives)):
        results = []
        for name in (backend, "torch_reference"):
            map_, at = texture.clone().requires_grad_(), uv.clone().requires_grad_()
            image = sample_texture(map_, at, *arguments, backend=name)
            (image * weights).sum().backward()
            results.append((image.detach(), map_.grad, at.grad))
        for ours, truth in zip(*results, strict=True):
            assert relative(ours, truth) < 1e-5


def test_reference_gradient_against_finite_differences():
    texture = random_texture(1, 5, 4, 2, dtype=torch.float64).requires_grad_()
    # Away from the texel centres, where the slope jumps.
    uv = (torch.tensor([0.31, 0.57, 0.84], dtype=torch.float64)[:, None] * torch.ones(2)).reshape(1, 1, 3, 2)
    derivatives = torch.eye(2, dtype=torch.float64).expand(1, 1, 3, 2, 2) * 0.37
    assert torch.autograd.gradcheck(sample_texture, (texture, uv.requires_grad_()))
    assert torch.autograd.gradcheck(lambda t, at: sample_texture(t, at, "mipmap", derivatives), (texture, uv))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_background_is_zero(backend):
    _, clip, topology = sphere_scene(32, 2)
    fragments = rasterize(clip, topology, (32, 32), backend)
    uv = torch.full((1, 32, 32, 2), 0.5)
    seen = sample_texture(torch.ones(1, 2, 2, 1), uv, fragments=fragments)[..., 0]
    assert torch.equal(seen, fragments.mask.float())


def test_footprint_against_finite_differences():
    camera, clip, topology = sphere_scene(64, 1)
    uv = (camera[:, :2] / 150.0 + 0.5)[None]
    fragments = rasterize(clip, topology, (64, 64))
    image = interpolate(uv, fragments, topology)
    footprint = uv_footprint(uv, fragments, clip, topology)
    ids = fragments.triangle_id
    same = (ids[:, 1:-1, :-2] == ids[:, 1:-1, 2:]) & (ids[:, :-2, 1:-1] == ids[:, 2:, 1:-1]) & (ids[:, 1:-1, 1:-1] >= 0)
    same &= (ids[:, 1:-1, :-2] == ids[:, 1:-1, 1:-1]) & (ids[:, :-2, 1:-1] == ids[:, 1:-1, 1:-1])
    right = (image[:, 1:-1, 2:] - image[:, 1:-1, :-2]) / 2
    down = (image[:, 2:, 1:-1] - image[:, :-2, 1:-1]) / 2
    differences = torch.stack([right, down], dim=-1)
    assert same.sum() > 100
    assert relative(footprint[:, 1:-1, 1:-1][same], differences[same]) < 5e-3


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="uv_footprint"):
        sample_texture(torch.ones(1, 2, 2, 1), torch.zeros(1, 2, 2, 2), "mipmap")
    with pytest.raises(ValueError, match="filter"):
        sample_texture(torch.ones(1, 2, 2, 1), torch.zeros(1, 2, 2, 2), "cubic")
