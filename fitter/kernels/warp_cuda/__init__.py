"""Warp kernels: raw forward and backward passes for CUDA tensors, and for host tensors (on one core) in the tests.

Same functions and signatures as `fitter.kernels.numba_cpu`; launches go to torch's current stream.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import warp as wp
from torch import Tensor

from . import image_kernels, raster_kernels

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology

if hasattr(wp.config, "log_level"):
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
else:
    wp.config.quiet = True
wp.init()
LARGE_TRIANGLE_THREADS = 65536


@lru_cache(maxsize=64)
def _stream(stream: torch.cuda.Stream) -> wp.Stream:
    """Warp's handle of a torch stream; making one takes as long as a launch."""
    return wp.stream_from_torch(stream)


def _launch(kernel: wp.Kernel, dim: tuple[int, ...], inputs: list, like: Tensor) -> None:
    """Launch on the device, and the torch stream, of a tensor."""
    stream = _stream(torch.cuda.current_stream(like.device)) if like.is_cuda else None
    device = wp.device_from_torch(like.device)
    wp.launch(kernel, dim=dim, inputs=inputs, device=device, stream=stream, record_tape=False)


def _view(tensor: Tensor, dtype: type | None = None):
    """The tensor's memory as a kernel's argument; copies only where it is not contiguous.

    The bare descriptor: a whole `wp.array` costs three times as much, and a render makes forty of them.
    """
    contiguous = tensor.detach().contiguous()
    descriptor = wp.from_torch(contiguous, dtype=dtype, requires_grad=False, return_ctype=True)
    descriptor.tensor = contiguous  # A descriptor does not keep its memory.
    return descriptor


def _triangles(topology: MeshTopology):
    return _view(topology.triangles, wp.vec3i)


def _or_empty(tensor: Tensor | None, like: Tensor, dtype: torch.dtype):
    """A [B, H, W] argument, or one without rows where it is missing."""
    return _view(torch.empty((1, 0, 0), dtype=dtype, device=like.device) if tensor is None else tensor)


def rasterize_forward(clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Triangle id [B, H, W] int32, barycentric [B, H, W, 2] and z/w [B, H, W] of clip [B, V, 4]."""
    shape = (clip.shape[0], *size)
    keys = torch.full(shape, -1, dtype=torch.int64, device=clip.device)
    ids = torch.empty(shape, dtype=torch.int32, device=clip.device)
    barycentric, depth = clip.new_empty((*shape, 2)), clip.new_empty(shape)
    work = (shape[0], topology.n_triangles)
    large = torch.empty(max(work[0] * work[1], 1), dtype=torch.int32, device=clip.device)
    n_large = torch.zeros(1, dtype=torch.int32, device=clip.device)
    positions, triangles, packed = _view(clip, wp.vec4), _triangles(topology), _view(keys, wp.uint64)
    inputs = [positions, triangles, *size, packed, _view(large), _view(n_large)]
    threads = LARGE_TRIANGLE_THREADS if clip.is_cuda else 1
    _launch(raster_kernels.fill_triangles, work, inputs, clip)
    _launch(raster_kernels.fill_large_triangles, (threads,), [*inputs, threads], clip)
    outputs = [_view(ids), _view(barycentric, wp.vec2), _view(depth)]
    _launch(raster_kernels.resolve, shape, [positions, triangles, packed, *outputs], clip)
    return ids, barycentric, depth


def rasterize_backward(clip: Tensor, topology: MeshTopology, ids: Tensor, grad_barycentric: Tensor) -> Tensor:
    """Gradient [B, V, 4] to clip."""
    grad_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
    inputs = [
        _view(clip, wp.vec4), _triangles(topology), _view(ids), _view(grad_barycentric, wp.vec2), _view(grad_clip),
    ]  # fmt: skip
    _launch(raster_kernels.resolve_backward, ids.shape, inputs, clip)
    return grad_clip


def interpolate_forward(attributes: Tensor, topology: MeshTopology, ids: Tensor, barycentric: Tensor) -> Tensor:
    """Attributes [B or 1, V, C] at the pixels, [B, H, W, C]."""
    out = attributes.new_empty((*ids.shape, attributes.shape[-1]))
    inputs = [_view(attributes), _triangles(topology), _view(ids), _view(barycentric, wp.vec2), _view(out)]
    _launch(image_kernels.interpolate, ids.shape, inputs, ids)
    return out


def interpolate_backward(
    attributes: Tensor,
    topology: MeshTopology,
    ids: Tensor,
    barycentric: Tensor,
    grad_out: Tensor,
    want_attributes: bool,
) -> tuple[Tensor | None, Tensor]:
    """Gradients to the attributes (None if not wanted) and the barycentrics."""
    grad_barycentric = torch.empty_like(barycentric, memory_format=torch.contiguous_format)
    grad_attributes = (
        torch.zeros_like(attributes, memory_format=torch.contiguous_format) if want_attributes else attributes
    )
    inputs = [
        _view(attributes), _triangles(topology), _view(ids), _view(barycentric, wp.vec2), _view(grad_out),
        int(want_attributes), _view(grad_attributes), _view(grad_barycentric, wp.vec2),
    ]  # fmt: skip
    _launch(image_kernels.interpolate_backward, ids.shape, inputs, ids)
    return (grad_attributes if want_attributes else None), grad_barycentric


def sample_forward(pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None) -> Tensor:
    """Samples [B, H, W, C] of a flattened mip pyramid [B or 1, texels, C] at uv [B, H, W, 2]."""
    out = pyramid.new_empty((*uv.shape[:-1], pyramid.shape[-1]))
    inputs = [
        _view(pyramid), _view(shapes, wp.vec3i), _view(uv, wp.vec2), _or_empty(levels, uv, torch.float32),
        _or_empty(ids, uv, torch.int32), _view(out),
    ]  # fmt: skip
    _launch(image_kernels.sample, uv.shape[:-1], inputs, uv)
    return out


def sample_backward(
    pyramid: Tensor,
    shapes: Tensor,
    uv: Tensor,
    levels: Tensor | None,
    ids: Tensor | None,
    grad_out: Tensor,
    want_texture: bool,
) -> tuple[Tensor | None, Tensor]:
    """Gradients to the pyramid (None if not wanted) and uv."""
    grad_uv = uv.new_empty(uv.shape)
    grad_pyramid = torch.zeros_like(pyramid, memory_format=torch.contiguous_format) if want_texture else pyramid
    inputs = [
        _view(pyramid), _view(shapes, wp.vec3i), _view(uv, wp.vec2), _or_empty(levels, uv, torch.float32),
        _or_empty(ids, uv, torch.int32), _view(grad_out), int(want_texture), _view(grad_pyramid),
        _view(grad_uv, wp.vec2),
    ]  # fmt: skip
    _launch(image_kernels.sample_backward, uv.shape[:-1], inputs, uv)
    return (grad_pyramid if want_texture else None), grad_uv


def antialias_forward(
    colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Blended colour [B, H, W, C] and the records of the blended pairs for the backward pass."""
    out = colour.detach().clone(memory_format=torch.contiguous_format)
    screen = clip.new_empty((*clip.shape[:2], 2))
    records = torch.empty((*ids.shape, 2, 3), dtype=torch.int32, device=clip.device)
    distances = clip.new_empty((*ids.shape, 2))
    size = ids.shape[1:]
    _launch(
        image_kernels.screen_positions,
        clip.shape[:2],
        [_view(clip, wp.vec4), *size, _view(screen, wp.vec2)],
        clip,
    )
    inputs = [
        _view(colour), _view(screen, wp.vec2), _triangles(topology), _view(topology.neighbours, wp.vec3i), _view(ids),
        _view(depth), _view(records, wp.vec3i), _view(distances), _view(out),
    ]  # fmt: skip
    _launch(image_kernels.antialias, (*ids.shape, 2), inputs, clip)
    return out, (records, distances)


def antialias_backward(
    colour: Tensor, clip: Tensor, saved: tuple[Tensor, Tensor], grad_out: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to colour and clip."""
    records, distances = saved
    grad_out = grad_out.contiguous()
    grad_colour = grad_out.clone()
    grad_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
    inputs = [
        _view(colour), _view(clip, wp.vec4), _view(records, wp.vec3i), _view(distances), _view(grad_out),
        _view(grad_colour), _view(grad_clip),
    ]  # fmt: skip
    _launch(image_kernels.antialias_backward, (*colour.shape[:3], 2), inputs, clip)
    return grad_colour, grad_clip


def normals_forward(vertices: Tensor, topology: MeshTopology) -> tuple[Tensor, Tensor]:
    """Unit normals [B, V, 3] and the lengths [B, V] of the unnormalised sums."""
    normals, lengths = vertices.new_empty(vertices.shape), vertices.new_empty(vertices.shape[:2])
    inputs = [
        _view(vertices, wp.vec3), _triangles(topology), _view(topology.corner_offsets), _view(topology.corners),
        _view(normals, wp.vec3), _view(lengths),
    ]  # fmt: skip
    _launch(raster_kernels.gather_normals, vertices.shape[:2], inputs, vertices)
    return normals, lengths


def normals_backward(
    vertices: Tensor, topology: MeshTopology, normals: Tensor, lengths: Tensor, grad_out: Tensor
) -> Tensor:
    """Gradient [B, V, 3] to the vertices."""
    grad_sum, grad_vertices = vertices.new_empty(vertices.shape), vertices.new_empty(vertices.shape)
    shape = vertices.shape[:2]
    inputs = [_view(normals, wp.vec3), _view(lengths), _view(grad_out, wp.vec3), _view(grad_sum, wp.vec3)]
    _launch(raster_kernels.project_normal_gradient, shape, inputs, vertices)
    inputs = [
        _view(vertices, wp.vec3), _triangles(topology), _view(topology.corner_offsets), _view(topology.corners),
        _view(grad_sum, wp.vec3), _view(grad_vertices, wp.vec3),
    ]  # fmt: skip
    _launch(raster_kernels.gather_normal_gradient, shape, inputs, vertices)
    return grad_vertices


def basis_product_forward(basis: Tensor, coefficients: Tensor) -> Tensor:
    """[N] product of basis [N, K] and coefficients [K]; the vendor's product is the fast one on CUDA."""
    return basis.detach() @ coefficients


def basis_product_backward(basis: Tensor, grad_out: Tensor) -> Tensor:
    """[K] gradient to the coefficients."""
    return grad_out @ basis.detach()


def compile_for(arch: int, folder: str | Path) -> list[Path]:
    """Compile all kernels for a CUDA architecture, without a device: a check that they will load there.

    Args:
        arch: Compute capability times ten, such as 86.
        folder: Where the binaries go.
    """
    paths: list[Path] = []
    for module in (raster_kernels, image_kernels):
        paths += wp.compile_aot_module(module, arch=arch, module_dir=Path(folder) / module.__name__, use_ptx=False)
    return paths
