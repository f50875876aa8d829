"""CUDA backends against the CPU ones; skipped without a device."""

import pytest
import torch

from fitter.kernels import available_backends, basis_product, vertex_normals
from fitter.render import Appearance, MeshTopology, antialias, interpolate, rasterize, render_face, sample_texture
from tests.render_scenes import pinhole, pixel_clip, relative, sphere, sphere_scene

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(name not in available_backends(), reason=f"{name} is not installed"))
    for name in ("warp_cuda", "nvdiffrast_cuda", "torch_reference")
]
TOLERANCE = {"nvdiffrast_cuda": (4e-2, 0.3, 5e-2)}
"""Share of other triangles, and relative errors of the gradients to positions and texture. nvdiffrast places corners more
coarsely than our 1/256 px: a few pixels in a hundred on edges show the neighbour's triangle, and the edge walk finds no
silhouette where coverage contradicts it."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("subdivisions", [1, 5])
def test_values_and_gradients_agree_with_the_cpu(backend, subdivisions):
    camera, clip, topology = sphere_scene(96, subdivisions)
    texture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    target = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(1))
    results = []
    for device, name in (("cuda", backend), ("cpu", "numba_cpu")):
        position, map_ = clip.to(device).requires_grad_(), texture.to(device).requires_grad_()
        mesh = topology.to(device)
        fragments = rasterize(position, mesh, (96, 96), name)
        uv = interpolate((camera[None, :, :2] / 200 + 0.5).to(device), fragments, mesh)
        colour = sample_texture(map_, uv, fragments=fragments)
        image = antialias(colour, fragments, position, mesh)
        (image - target.to(device)).square().sum().backward()
        results.append([value.cpu() for value in (fragments.triangle_id, image.detach(), position.grad, map_.grad)])
    (ids, image, grad_clip, grad_map), (true_ids, true_image, true_clip, true_map) = results
    same = ids == true_ids
    other_ids, position, texture = TOLERANCE.get(backend, (2e-3, 2e-2, 1e-2))
    assert (~same).float().mean() < other_ids
    assert ((image - true_image).abs()[same] > 1e-3).float().mean() < 1e-3
    assert relative(grad_clip, true_clip) < position
    assert relative(grad_map, true_map) < texture


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_triangles(backend):
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [0, 2, 3]]))
    clip = pixel_clip(torch.tensor([[3.0, 5.0], [250.0, 9.0], [240.0, 199.0], [8.0, 180.0]]), (200, 256))
    truth = rasterize(clip, topology, (200, 256), "torch_reference").triangle_id
    ids = rasterize(clip.cuda(), topology.to("cuda"), (200, 256), backend).triangle_id.cpu()
    assert (ids != truth).sum() <= 4


def test_default_is_a_cuda_backend_and_the_scene_renders():
    vertices, topology = sphere(4, 80.0)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    pose[:, 2, 3] = 400.0
    views = []
    for device in ("cuda", "cpu"):
        lighting = torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(0)).to(device)
        render = render_face(
            vertices[None].to(device), topology.to(device), pinhole((64, 64), 120.0)[None].to(device), pose.to(device),
            (64, 64), Appearance(lighting=lighting),
        )  # fmt: skip
        assert render.fragments.backend.endswith("cuda" if device == "cuda" else "cpu")
        views.append(render.colour.cpu())
    assert relative(*views) < 1e-2


def test_normals_and_basis_product():
    vertices, topology = sphere(4)
    normals = vertex_normals(vertices[None].cuda(), topology.to("cuda")).cpu()
    assert relative(normals, vertex_normals(vertices[None], topology)) < 1e-5
    basis, coefficients = torch.randn(3000, 40), torch.randn(40)
    assert relative(basis_product(basis.cuda(), coefficients.cuda()).cpu(), basis @ coefficients) < 1e-4
