"""Rasterization: hand-computed pixels, watertight edges, perspective, clipping, gradients, and the backends' parity."""

import pytest
import torch

from fitter.render import MeshTopology, interpolate, rasterize
from tests.render_scenes import CPU_BACKENDS, KERNEL_BACKENDS, pixel_clip, relative, sphere_scene, to_clip

ONE_TRIANGLE = MeshTopology.from_triangles(torch.tensor([[0, 1, 2]]))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_one_triangle_by_hand(backend):
    clip = pixel_clip(torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 6.0]]), (6, 8), z=0.25)
    fragments = rasterize(clip, ONE_TRIANGLE, (6, 8), backend)
    row, column = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    assert torch.equal(fragments.mask[0], column / 8 + row / 6 < 1.0)
    assert fragments.size == (6, 8)
    assert fragments.triangle_id.dtype == torch.int32
    # Pixel (row 1, column 2) has its centre at (2.5, 1.5): 2.5 / 8 of corner 1 and 1.5 / 6 of corner 2.
    expected = torch.tensor([1.0 - 0.3125 - 0.25, 0.3125])
    torch.testing.assert_close(fragments.barycentric[0, 1, 2], expected)
    assert fragments.depth[0, 1, 2] == pytest.approx(0.25)
    assert fragments.triangle_id[0, 5, 7] == -1
    assert fragments.barycentric[0, 5, 7].tolist() == [0.0, 0.0]
    assert fragments.depth[0, 5, 7] == 1.0


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_every_pixel_of_a_fan_is_covered_once(backend):
    # All inner edges of the fan run through pixel centres, where only the tie rule decides.
    centre, size = (8.5, 8.5), (17, 17)
    rim = [(0.5, 0.5), (8.5, 0.5), (16.5, 0.5), (16.5, 8.5), (16.5, 16.5), (8.5, 16.5), (0.5, 16.5), (0.5, 8.5)]
    clip = pixel_clip(torch.tensor([centre, *rim]), size)
    triangles = [[0, 1 + k, 1 + (k + 1) % 8] for k in range(8)]
    count = torch.zeros(size)
    for corners in triangles:
        alone = MeshTopology.from_triangles(torch.tensor([corners]), 9)
        count += rasterize(clip, alone, size, backend).mask[0].float()
    assert (count[1:16, 1:16] == 1).all()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_interpolation_is_perspective_correct(backend):
    size, focal = (32, 48), 40.0
    points = torch.tensor([[-60.0, -40.0, 80.0], [90.0, -30.0, 200.0], [-20.0, 70.0, 150.0]])
    clip = to_clip(points, size, focal)
    fragments = rasterize(clip, ONE_TRIANGLE, size, backend)
    seen = interpolate(points[None], fragments, ONE_TRIANGLE)[0]
    row, column = torch.nonzero(fragments.mask[0], as_tuple=True)
    rays = torch.stack([(column + 0.5 - 24.0) / focal, (row + 0.5 - 16.0) / focal, torch.ones(len(row))], dim=1)
    normal = torch.linalg.cross(points[1] - points[0], points[2] - points[0])
    distance = (points[0] @ normal) / (rays @ normal)
    torch.testing.assert_close(seen[row, column], rays * distance[:, None], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("n_behind", [1, 2])
def test_near_plane_cuts_like_a_cut_mesh(backend, n_behind):
    size, focal, near = (40, 40), 30.0, 10.0
    points = torch.tensor([[-30.0, -20.0, 100.0], [35.0, -10.0, 90.0], [2.0, 12.0, -40.0]])
    if n_behind == 2:
        points = torch.tensor([[-3.0, -2.0, 60.0], [35.0, -10.0, -50.0], [2.0, 25.0, -40.0]])
    inside = [k for k in range(3) if points[k, 2] > near]
    polygon = []
    for k in range(3):
        start, end = points[k], points[(k + 1) % 3]
        if k in inside:
            polygon.append(start)
        if (k in inside) != ((k + 1) % 3 in inside):
            # A hair inside, so that rounding cannot cut it again.
            t = (near * 1.00001 - start[2]) / (end[2] - start[2])
            polygon.append(start + t * (end - start))
    fan = MeshTopology.from_triangles(torch.tensor([[0, k, k + 1] for k in range(1, len(polygon) - 1)]))
    expected = rasterize(to_clip(torch.stack(polygon), size, focal), fan, size, backend).mask
    fragments = rasterize(to_clip(points, size, focal), ONE_TRIANGLE, size, backend)
    assert expected.sum() > 100
    assert (fragments.mask != expected).sum() <= 1
    depth = interpolate(points[None], fragments, ONE_TRIANGLE)[0, ..., 2][fragments.mask[0]]
    assert depth.min() > near * 0.999
    assert depth.max() < points[:, 2].max() * 1.001


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_nearest_wins_then_lower_number_and_far_is_cut(backend):
    size = (4, 4)
    corners = torch.tensor([[-8.0, -8.0], [16.0, -8.0], [-8.0, 16.0]])
    topology = MeshTopology.from_triangles(torch.arange(12).reshape(4, 3))
    clip = torch.cat([pixel_clip(corners, size, z) for z in (0.5, -0.25, -0.25, -1.5)], dim=1)
    assert (rasterize(clip, topology, size, backend).triangle_id == 1).all()
    beyond = pixel_clip(corners, size, 1.5)
    assert not rasterize(beyond, ONE_TRIANGLE, size, backend).mask.any()


@pytest.mark.parametrize("backend", KERNEL_BACKENDS)
@pytest.mark.parametrize("subdivisions", [0, 4])
def test_kernels_agree_with_reference(backend, subdivisions):
    _, clip, topology = sphere_scene(96, subdivisions)
    clip = torch.cat([clip, clip * torch.tensor([1.1, 0.9, 1.0, 1.0])])
    ours = rasterize(clip, topology, (96, 96), backend)
    truth = rasterize(clip, topology, (96, 96), "torch_reference")
    same = ours.triangle_id == truth.triangle_id
    assert (~same).float().mean() < 1e-3
    torch.testing.assert_close(ours.barycentric[same], truth.barycentric[same], atol=2e-4, rtol=0)
    torch.testing.assert_close(ours.depth[same], truth.depth[same], atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", KERNEL_BACKENDS)
def test_kernel_gradients_agree_with_reference(backend):
    camera, clip, topology = sphere_scene(64, 3)
    weights = torch.randn(64, 64, 3, generator=torch.Generator().manual_seed(0))
    gradients = []
    for name in (backend, "torch_reference"):
        position, attributes = clip.clone().requires_grad_(), camera[None].clone().requires_grad_()
        fragments = rasterize(position, topology, (64, 64), name)
        (interpolate(attributes, fragments, topology)[0] * weights).sum().backward()
        gradients.append((position.grad, attributes.grad))
    for ours, truth in zip(*gradients, strict=True):
        assert relative(ours, truth) < 1e-3


def test_reference_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(1)
    clip = pixel_clip(torch.tensor([[-6.0, -7.0], [20.0, -5.0], [-5.0, 21.0]], dtype=torch.float64), (6, 6))
    clip = clip * torch.tensor([1.0, 1.3, 0.8], dtype=torch.float64)[None, :, None]
    attributes = torch.rand((1, 3, 2), generator=generator, dtype=torch.float64)

    def image(position, values):
        return interpolate(values, rasterize(position, ONE_TRIANGLE, (6, 6)), ONE_TRIANGLE)

    assert torch.autograd.gradcheck(image, (clip.requires_grad_(), attributes.requires_grad_()))


def test_bad_arguments_are_refused():
    clip = torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match="clip must be"):
        rasterize(clip[:, :2], ONE_TRIANGLE, (4, 4))
    with pytest.raises(ValueError, match="pixel"):
        rasterize(clip, ONE_TRIANGLE, (0, 4))
    with pytest.raises(ValueError, match="float32"):
        rasterize(clip.double(), ONE_TRIANGLE, (4, 4), "numba_cpu")
