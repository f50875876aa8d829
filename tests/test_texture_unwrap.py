"""Unwrapping, the position map, colour and the filters: known images give known textures."""

import pytest
import torch

from fitter.camera import Camera
from fitter.texture.colour import linear_to_srgb, luminance, srgb_to_linear
from fitter.texture.filters import masked_blur, sample_grid, smooth_blur, texel_centres
from fitter.texture.position_map import normal_map_of_vertices, position_map
from fitter.texture.unwrap import angle_weight, project_texels, texel_footprint, unwrap_texture, view_cosine


def _camera(height: int = 80, width: int = 100, focal: float = 200.0) -> Camera:
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, torch.eye(4, dtype=torch.float64), (height, width))


def _plane(size: int, step_px: float, camera: Camera, depth: float = 500.0) -> torch.Tensor:
    """Texels on a plane facing the camera, `step_px` pixels apart, the middle of the map in the middle of the image."""
    step = step_px * depth / float(camera.focal)
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * step
    return torch.stack([axis.expand(size, size), axis[:, None].expand(size, size), torch.full((size, size), depth)], -1)


def test_srgb_by_known_values_and_round_trip():
    assert float(srgb_to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)
    assert float(srgb_to_linear(torch.tensor(0.02))) == pytest.approx(0.02 / 12.92)
    values = torch.linspace(0, 1, 50, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
    (gradient,) = torch.autograd.grad(linear_to_srgb(values).sum(), values)
    assert torch.isfinite(gradient).all()
    assert float(luminance(torch.ones(3))) == pytest.approx(1.0)


def test_position_map_interpolates_and_leaves_the_rest_zero():
    vertices = torch.tensor([[0.0, 0, 0], [4.0, 0, 0], [0.0, 4, 0], [9.0, 9, 9]], dtype=torch.float64)
    texel_triangle = torch.tensor([[0, -1], [0, 0]])
    weights = torch.tensor([[[1.0, 0, 0], [9.0, 9, 9]], [[0, 0.5, 0.5], [0.25, 0.25, 0.5]]], dtype=torch.float64)
    result = position_map(vertices, torch.tensor([[0, 1, 2]]), texel_triangle, weights)
    assert result.tolist() == [[[0, 0, 0], [0, 0, 0]], [[2, 2, 0], [1, 2, 0]]]
    batched = position_map(torch.stack([vertices, 2 * vertices]), torch.tensor([[0, 1, 2]]), texel_triangle, weights)
    assert torch.equal(batched[1], 2 * result)
    normals = normal_map_of_vertices(vertices + 1, torch.tensor([[0, 1, 2]]), texel_triangle, weights)
    assert torch.allclose(normals.norm(dim=-1)[texel_triangle >= 0], torch.ones(3, dtype=torch.float64))


def test_sample_grid_at_centres_between_and_batched():
    grid = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    centres = texel_centres(grid, 4, 5)
    assert torch.allclose(sample_grid(grid, centres), grid)
    middle = sample_grid(grid[0], torch.tensor([[[1.0, 0.5]]], dtype=torch.float64))
    assert torch.allclose(middle[0, 0], (grid[0, 0, 0] + grid[0, 0, 1]) / 2)
    assert sample_grid(grid[:1], centres).shape == (1, 4, 5, 2)


def test_unwrap_reads_the_pixel_that_the_texel_projects_to():
    camera = _camera()
    positions = _plane(20, 1.5, camera)
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    linear = torch.stack([x / 100, y / 80, torch.full_like(x, 0.2)], -1).double()  # bilinear sampling is exact
    unwrapped = unwrap_texture(linear_to_srgb(linear), camera, positions, torch.ones(20, 20))
    pixels = project_texels(positions, camera)
    assert torch.allclose(unwrapped.pixels, pixels) and float(unwrapped.weight.min()) == 1.0
    assert torch.allclose(unwrapped.colour[..., 0], pixels[..., 0] / 100, atol=1e-6)
    assert torch.allclose(unwrapped.colour[..., 1], pixels[..., 1] / 80, atol=1e-6)
    assert torch.allclose(unwrapped.footprint, torch.full((20, 20), 1.5, dtype=torch.float64))


def test_unwrap_weighs_visibility_angle_frame_and_side():
    camera = _camera()
    positions = _plane(20, 10.0, camera)  # reaches beyond the frame
    visibility = torch.ones(20, 20)
    visibility[10, 10] = 0.0
    facing = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).expand(20, 20, 3)
    image = torch.full((80, 100, 3), 0.5, dtype=torch.float64)
    unwrapped = unwrap_texture(image, camera, positions, visibility, facing)
    assert float(unwrapped.weight[10, 10]) == 0.0 and float(unwrapped.weight[0, 0]) == 0.0
    assert 0.9 < float(unwrapped.weight[9, 9]) <= 1.0
    assert float(unwrap_texture(image, camera, positions, visibility, -facing).weight.max()) == 0.0
    behind = positions * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert float(unwrap_texture(image, camera, behind, visibility).weight.max()) == 0.0
    assert torch.isfinite(unwrapped.colour).all()


def test_a_fine_photograph_does_not_alias():
    camera = _camera(256, 256, 400.0)
    checker = ((torch.arange(256)[:, None] + torch.arange(256)) % 2).double()[..., None].expand(256, 256, 3)
    unwrapped = unwrap_texture(checker, camera, _plane(24, 8.0, camera), torch.ones(24, 24))
    assert torch.allclose(unwrapped.colour, torch.full_like(unwrapped.colour, 0.5), atol=1e-6)


def test_angle_weight_and_cosine():
    assert angle_weight(torch.tensor([-1.0, 0.15, 1.0])).tolist() == [0.0, 0.0, pytest.approx(1.0)]
    camera = _camera()
    position = torch.tensor([[[0.0, 0.0, 100.0]]], dtype=torch.float64)
    normal = torch.tensor([[[0.0, 0.6, -0.8]]], dtype=torch.float64)
    assert float(view_cosine(position, normal, camera)) == pytest.approx(0.8)


def test_footprint_of_a_sheared_grid():
    centres = texel_centres(torch.zeros(1, dtype=torch.float64), 6, 6)
    pixels = centres @ torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    assert torch.allclose(texel_footprint(pixels), torch.full((6, 6), 6.0**0.5, dtype=torch.float64))


def test_unwrap_gradient():
    camera = _camera()
    positions = _plane(3, 2.3, camera).requires_grad_()
    image = torch.rand(80, 100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = smooth_blur(image, 2.0)
    assert torch.autograd.gradcheck(
        lambda item: unwrap_texture(image, camera, item, torch.ones(3, 3)).colour, (positions,), atol=1e-6
    )


def test_masked_blur_does_not_bleed():
    values, weight = torch.full((32, 32, 1), 3.0), torch.zeros(32, 32)
    values[:, 16:] = 100.0
    weight[:, :16] = 1.0
    blurred = masked_blur(values, weight, 3.0)
    assert torch.allclose(blurred[:, :16], torch.full((32, 16, 1), 3.0), atol=1e-4)


@pytest.mark.parametrize("sigma", [1.5, 4.0, 9.0, 20.0])
def test_smooth_blur_has_the_stated_width(sigma):
    impulse = torch.zeros(192, 192, 1, dtype=torch.float64)
    impulse[96, 96] = 1.0
    blurred = smooth_blur(impulse, sigma)
    offsets = torch.arange(192, dtype=torch.float64) - 96
    profile = blurred[..., 0].sum(0)
    variance = (profile * offsets**2).sum() - (profile * offsets).sum() ** 2
    assert float(blurred.sum()) == pytest.approx(1.0) and float(variance) == pytest.approx(sigma**2, rel=0.15)
