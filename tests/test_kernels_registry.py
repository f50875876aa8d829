"""Choosing a backend, the CUDA compile check, and the nvdiffrast adapter on a stand-in for the package."""

import sys
import types

import pytest
import torch

from fitter.errors import InputError, MissingPartError
from fitter.kernels import available_backends, choose_backend, nvdiffrast_cuda, registry
from fitter.kernels.torch_reference import Backend as Reference
from fitter.render import MeshTopology, rasterize
from tests.render_scenes import relative, sphere_scene


def test_default_on_the_cpu_is_numba():
    assert choose_backend("cpu") == "numba_cpu"
    assert set(available_backends()) >= {"numba_cpu", "torch_reference"}


def test_unknown_missing_and_misplaced_backends_are_told_apart(monkeypatch):
    with pytest.raises(ValueError, match="opengl"):
        choose_backend("cpu", "opengl")
    monkeypatch.setattr("fitter.kernels.registry.available_backends", lambda: ("numba_cpu", "torch_reference"))
    with pytest.raises(MissingPartError, match="pip install warp-lang"):
        choose_backend("cpu", "warp_cuda")
    with pytest.raises(ValueError, match="runs on cpu"):
        choose_backend("meta", "numba_cpu")


def test_the_environment_names_a_backend_where_it_runs(monkeypatch):
    def default(device: str) -> str:
        registry._default_backend.cache_clear()
        return choose_backend(device)

    monkeypatch.setenv("HRN_RENDERER", "torch_reference")
    assert default("cpu") == "torch_reference"
    # A name for CUDA says nothing about the CPU, where parts of a fit on CUDA render, too.
    monkeypatch.setenv("HRN_RENDERER", "nvdiffrast_cuda")
    assert default("cpu") == "numba_cpu"
    monkeypatch.setenv("HRN_RENDERER", "opengl")
    with pytest.raises(InputError, match="opengl"):
        default("cpu")
    monkeypatch.delenv("HRN_RENDERER")
    assert default("cpu") == "numba_cpu"


def test_unknown_devices_fall_to_the_reference():
    assert choose_backend("meta") == "torch_reference"


@pytest.mark.skipif("warp_cuda" not in available_backends(), reason="warp is not installed")
def test_cuda_kernels_compile(tmp_path):
    from fitter.kernels import warp_cuda

    binaries = [path for path in warp_cuda.compile_for(86, tmp_path) if path.suffix == ".cubin"]
    assert len(binaries) == 2
    assert all(path.stat().st_size > 1000 for path in binaries)


def stand_in(flipped: bool, corners: tuple[int, int]) -> types.ModuleType:
    """A module with the documented interface of nvdiffrast.torch on top of the reference, in a given convention."""
    reference, package = Reference(), types.ModuleType("nvdiffrast.torch")

    def weights_of(barycentric):
        return torch.cat([barycentric, 1.0 - barycentric.sum(-1, keepdim=True)], dim=-1)

    def do_rasterize(_context, clip, triangles, resolution, grad_db=True):
        topology = MeshTopology.from_triangles(triangles, clip.shape[1])
        ids, barycentric, depth = reference.rasterize(clip, topology, tuple(resolution))
        seen = (ids >= 0)[..., None]
        weights = weights_of(barycentric)[..., list(corners)]
        out = torch.cat([weights, depth[..., None], ids[..., None] + 1.0], dim=-1) * seen
        return (out.flip(1) if flipped else out), None

    def do_interpolate(attributes, fragments, triangles):
        missing = 3 - sum(corners)
        weights = torch.stack([fragments[..., 0], fragments[..., 1], 1.0 - fragments[..., 0] - fragments[..., 1]], -1)
        order = [*corners, missing]
        barycentric = weights[..., [order.index(0), order.index(1)]]
        topology = MeshTopology.from_triangles(triangles, attributes.shape[1])
        return reference.interpolate(attributes, topology, fragments[..., 3].int() - 1, barycentric), None

    def do_texture(texture, uv, filter_mode, boundary_mode):
        assert (filter_mode, boundary_mode) == ("linear", "clamp")
        shapes = torch.tensor([[0, *texture.shape[1:3]]])
        return reference.sample(texture.flatten(1, 2), shapes, uv, None, None)

    package.RasterizeCudaContext = lambda device: object()
    package.rasterize, package.interpolate, package.texture = do_rasterize, do_interpolate, do_texture
    return package


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("corners", [(0, 1), (1, 2), (2, 0)])
def test_nvdiffrast_conventions_are_converted(monkeypatch, flipped, corners):
    parent = types.ModuleType("nvdiffrast")
    parent.torch = stand_in(flipped, corners)
    monkeypatch.setitem(sys.modules, "nvdiffrast", parent)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", parent.torch)
    for cached in (nvdiffrast_cuda.find_conventions, nvdiffrast_cuda._context):
        cached.cache_clear()
    backend = nvdiffrast_cuda.Backend()
    camera, clip, topology = sphere_scene(32, 2)
    truth = rasterize(clip, topology, (32, 32), "torch_reference")
    position = clip.clone().requires_grad_()
    ids, barycentric, depth = backend.rasterize(position, topology, (32, 32))
    assert torch.equal(ids, truth.triangle_id)
    torch.testing.assert_close(barycentric, truth.barycentric, atol=1e-5, rtol=0)
    torch.testing.assert_close(depth, truth.depth)
    image = backend.interpolate(camera[None], topology, ids, barycentric)
    expected = Reference().interpolate(camera[None], topology, truth.triangle_id, truth.barycentric)
    assert relative(image, expected) < 1e-5
    shapes = torch.tensor([[0, 4, 5]], dtype=torch.int32)
    texture = torch.rand(1, 20, 2)
    uv = image[..., :2] / 200 + 0.5
    assert torch.equal(
        backend.sample(texture, shapes, uv, None, ids), Reference().sample(texture, shapes, uv, None, ids)
    )
    blended = backend.antialias(image.detach(), topology, ids, depth, position)
    blended.sum().backward()
    assert position.grad.abs().sum() > 0
    for cached in (nvdiffrast_cuda.find_conventions, nvdiffrast_cuda._context):
        cached.cache_clear()


def test_nvdiffrast_missing_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    with pytest.raises(MissingPartError, match="warp_cuda"):
        nvdiffrast_cuda.Backend()
