"""Silhouettes: closed-form areas and their derivatives, supersampled finite differences, inner edges, parity."""

import math

import pytest
import torch

from benchmarks.silhouettes import silhouette_gradient_error
from fitter.render import MeshTopology, antialias, interpolate, rasterize
from tests.render_scenes import CPU_BACKENDS, KERNEL_BACKENDS, pixel_clip, relative, sphere_scene

QUAD = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [0, 2, 3]]))


def blended_mask(clip, topology, size, backend=None):
    fragments = rasterize(clip, topology, size, backend)
    mask = fragments.mask[..., None].to(clip.dtype)
    return antialias(mask, fragments, clip, topology)[..., 0]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5, 0.8])
def test_area_of_a_moving_rectangle(backend, offset):
    size, left, top, width, height = (20, 24), 4.0 + offset, 3.25, 12.0, 9.5
    box = torch.tensor([left, top, left + width, top + height], requires_grad=True)
    pixels = torch.stack([box[[0, 1]], box[[2, 1]], box[[2, 3]], box[[0, 3]]])
    mask = blended_mask(pixel_clip(pixels, size), QUAD, size, backend)
    area = mask.sum()
    (gradient,) = torch.autograd.grad(area, box)
    # Blending gives every boundary pixel its covered share except at the four corners.
    assert float(area.detach()) == pytest.approx(width * height, abs=1.0)
    rows = round(top + height) - round(top)
    columns = round(left + width - 1e-6) - round(left - 1e-6)
    expected = torch.tensor([-rows, -columns, rows, columns], dtype=torch.float32)
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=0)
    # Row 8 is crossed by the left edge: the pixel there is covered by what the edge leaves of it.
    column = int(left)
    assert float(mask[0, 8, column].detach()) == pytest.approx(1.0 - (left - column), abs=1e-4)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_area_derivative_of_a_disc(backend):
    size, n, centre, radius = (64, 64), 200, 31.7, 21.3
    angle = torch.arange(n) * (2 * math.pi / n)
    rim = torch.stack([angle.cos(), angle.sin()], dim=1)
    r = torch.tensor(radius, requires_grad=True)
    pixels = torch.cat([torch.full((1, 2), centre), centre + r * rim])
    fan = MeshTopology.from_triangles(torch.tensor([[0, 1 + k, 1 + (k + 1) % n] for k in range(n)]))
    area = blended_mask(pixel_clip(pixels, size), fan, size, backend).sum()
    (gradient,) = torch.autograd.grad(area, r)
    assert float(area.detach()) == pytest.approx(math.pi * radius**2, rel=2e-3)
    assert float(gradient) == pytest.approx(2 * math.pi * radius, rel=2e-2)


def test_subpixel_triangles_keep_the_silhouette_gradient():
    result = silhouette_gradient_error(256)
    assert result["relative_error"] < 0.02
    assert result["recovered"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_inner_edges_are_left_alone(backend):
    _, clip, topology = sphere_scene(64, 2)
    fragments = rasterize(clip, topology, (64, 64), backend)
    colour = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    blended = antialias(colour, fragments, clip, topology)
    mask = fragments.mask[:, None].float()
    near_outline = torch.nn.functional.max_pool2d(mask, 3, 1, 1) + torch.nn.functional.max_pool2d(-mask, 3, 1, 1) > 0
    changed = (blended != colour).any(-1)
    assert changed.any()
    assert not (changed & ~near_outline[:, 0]).any()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_nearer_surface_is_blended_over_farther_one(backend):
    size = (12, 12)
    back = torch.tensor([[-20.0, -20.0], [40.0, -20.0], [40.0, 40.0], [-20.0, 40.0]])
    front = torch.tensor([[-20.0, -20.0], [5.7, -20.0], [5.7, 40.0], [-20.0, 40.0]])
    clip = torch.cat([pixel_clip(back, size, 0.5), pixel_clip(front, size, 0.0)], dim=1)
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]))
    fragments = rasterize(clip, topology, size, backend)
    colour = torch.tensor([0.2, 0.2, 1.0, 1.0])[fragments.triangle_id.long()][..., None]
    row = antialias(colour, fragments, clip, topology)[0, 6, :, 0]
    torch.testing.assert_close(row[4:7], torch.tensor([1.0, 0.2 + 0.7 * 0.8, 0.2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", KERNEL_BACKENDS)
@pytest.mark.parametrize("subdivisions", [1, 5])
def test_kernels_agree_with_reference(backend, subdivisions):
    camera, clip, topology = sphere_scene(64, subdivisions)
    clip = torch.cat([clip, clip * torch.tensor([0.9, 1.05, 1.0, 1.0])])
    target = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    results = []
    for name in (backend, "torch_reference"):
        position, values = clip.clone().requires_grad_(), (camera[None] / 60).clone().requires_grad_()
        fragments = rasterize(position, topology, (64, 64), name)
        colour = interpolate(values, fragments, topology)
        image = antialias(colour, fragments, position, topology)
        (image - target).square().sum().backward()
        results.append((image.detach(), position.grad, values.grad))
    (image, grad_clip, grad_values), (true_image, true_clip, true_values) = results
    assert ((image - true_image).abs() > 1e-4).float().mean() < 1e-3
    assert relative(grad_clip, true_clip) < 1e-2
    assert relative(grad_values, true_values) < 1e-3


def test_reference_gradient_against_finite_differences():
    pixels = torch.tensor([[2.2, 1.7], [9.8, 2.4], [8.7, 9.9], [1.6, 8.8]], dtype=torch.float64)
    clip = pixel_clip(pixels, (12, 12)).requires_grad_()
    fragments = rasterize(clip, QUAD, (12, 12))
    colour = torch.rand(1, 12, 12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda position, values: antialias(values, fragments, position, QUAD), (clip, colour), eps=1e-7, atol=1e-5
    )


def test_wrong_size_is_refused():
    clip = pixel_clip(torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]]), (4, 4))
    fragments = rasterize(clip, QUAD, (4, 4))
    with pytest.raises(ValueError, match="colour must be"):
        antialias(torch.zeros(1, 5, 4, 1), fragments, clip, QUAD)
