"""Numba kernels on the CPU: raw forward and backward passes on float32 tensors, shared memory with numpy.

Every function takes and returns tensors with a leading view dimension; `fitter.kernels.autograd` makes them
differentiable. Threads are numba's (`NUMBA_NUM_THREADS`, set before import).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from torch import Tensor

from . import antialias, raster, sampling, surface, visibility

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology

_scratch = threading.local()
_NO_LEVELS = np.empty((0, 0), np.float32)
_NO_IDS = np.empty((0, 0), np.int32)


def _buffer(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Uninitialised scratch memory that is kept between calls, one per name and calling thread."""
    needed = int(np.prod(shape))
    flat = getattr(_scratch, name, None)
    if flat is None or flat.size < needed:
        flat = np.empty(needed, dtype)
        setattr(_scratch, name, flat)
    return flat[:needed].reshape(shape)


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory as an array; copies only where it is not contiguous."""
    return tensor.detach().contiguous().numpy()


def rasterize_forward(clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Triangle id [B, H, W] int32, barycentric [B, H, W, 2] and z/w [B, H, W] of clip [B, V, 4]."""
    (height, width), n_views, n_vertices = size, clip.shape[0], clip.shape[1]
    ids = torch.empty((n_views, height, width), dtype=torch.int32)
    barycentric = torch.empty((n_views, height, width, 2))
    depth = torch.empty((n_views, height, width))
    n_threads = numba.get_num_threads()
    band_rows = max(8, -(-height // (8 * n_threads)))
    n_chunks, n_bands = n_threads, -(-height // band_rows)
    triangles, positions = _array(topology.triangles), _array(clip)
    snapped = _buffer("snapped", (n_vertices, 2), np.int32)
    vertex_depth = _buffer("vertex_depth", (n_vertices,), np.float32)
    lists = _buffer("band_lists", (n_chunks, n_bands, topology.n_triangles // n_chunks + 1), np.int32)
    counts = _buffer("band_counts", (n_chunks, n_bands), np.int64)
    for view in range(n_views):
        vertices, view_ids, view_depth = positions[view], ids[view].numpy(), depth[view].numpy()
        raster.project(vertices, height, width, snapped, vertex_depth)
        raster.bin_triangles(vertices, triangles, snapped, height, width, band_rows, lists, counts)
        raster.fill_bands(vertices, triangles, snapped, vertex_depth, band_rows, lists, counts, view_ids, view_depth)
        raster.resolve(vertices, triangles, view_ids, barycentric[view].numpy(), view_depth)
    return ids, barycentric, depth


def rasterize_backward(clip: Tensor, topology: MeshTopology, ids: Tensor, grad_barycentric: Tensor) -> Tensor:
    """Gradient [B, V, 4] to clip."""
    grad_clip = torch.empty_like(clip, memory_format=torch.contiguous_format)
    positions, grads, triangles = _array(clip), _array(grad_barycentric), _array(topology.triangles)
    partial = _buffer("grad_vertices", (numba.get_num_threads(), clip.shape[1], 3), np.float32)
    for view in range(clip.shape[0]):
        raster.resolve_backward(
            positions[view], triangles, ids[view].numpy(), grads[view], partial, grad_clip[view].numpy()
        )
    return grad_clip


def interpolate_forward(attributes: Tensor, topology: MeshTopology, ids: Tensor, barycentric: Tensor) -> Tensor:
    """Attributes [B or 1, V, C] at the pixels, [B, H, W, C]."""
    out = torch.empty((*ids.shape, attributes.shape[-1]))
    values, weights, triangles = _array(attributes), _array(barycentric), _array(topology.triangles)
    for view in range(ids.shape[0]):
        source = values[view if len(values) > 1 else 0]
        sampling.interpolate(source, triangles, ids[view].numpy(), weights[view], out[view].numpy())
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
    grad_barycentric = torch.empty_like(barycentric)
    values, weights, grads = _array(attributes), _array(barycentric), _array(grad_out)
    triangles = _array(topology.triangles)
    if not want_attributes:
        for view in range(ids.shape[0]):
            source = values[view if len(values) > 1 else 0]
            sampling.interpolate_backward_barycentric(
                source, triangles, ids[view].numpy(), grads[view], grad_barycentric[view].numpy()
            )
        return None, grad_barycentric
    grad_attributes = torch.zeros_like(attributes, memory_format=torch.contiguous_format)
    partial = _buffer("grad_attributes", (numba.get_num_threads(), *values.shape[1:]), np.float32)
    for view in range(ids.shape[0]):
        source = view if len(values) > 1 else 0
        sampling.interpolate_backward(
            values[source],
            triangles,
            ids[view].numpy(),
            weights[view],
            grads[view],
            partial,
            grad_attributes[source].numpy(),
            grad_barycentric[view].numpy(),
        )
    return grad_attributes, grad_barycentric


def sample_forward(pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None) -> Tensor:
    """Samples [B, H, W, C] of a flattened mip pyramid [B or 1, texels, C] at uv [B, H, W, 2]."""
    out = torch.empty((*uv.shape[:-1], pyramid.shape[-1]))
    texels, coordinates, table = _array(pyramid), _array(uv), shapes.numpy()
    for view in range(uv.shape[0]):
        source = texels[view if len(texels) > 1 else 0]
        view_ids = _NO_IDS if ids is None else ids[view].numpy()
        view_out = out[view].numpy()
        if levels is None:
            _, rows, columns = table[0].tolist()
            sampling.sample_bilinear(source, rows, columns, coordinates[view], view_ids, view_out)
        else:
            sampling.sample(source, table, coordinates[view], _array(levels[view]), view_ids, view_out)
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
    grad_uv = torch.empty(uv.shape)
    texels, coordinates, grads, table = _array(pyramid), _array(uv), _array(grad_out), shapes.numpy()
    n_parts = numba.get_num_threads()
    grad_pyramid = torch.zeros_like(pyramid, memory_format=torch.contiguous_format) if want_texture else pyramid
    target = _array(grad_pyramid)
    if want_texture and levels is None:
        (_, rows, columns), n_channels = table[0].tolist(), texels.shape[-1]
        n_blocks = (rows - 1 >> sampling.BLOCK_BITS) + 1
        overflow = _buffer("overflow", (n_blocks, columns, n_channels), np.float32)
        for view in range(uv.shape[0]):
            source = view if len(texels) > 1 else 0
            view_ids = _NO_IDS if ids is None else ids[view].numpy()
            sampling.sample_backward_blocks(
                texels[source], rows, columns, coordinates[view], view_ids, grads[view], target[source], overflow,
                grad_uv[view].numpy(), n_parts,
            )  # fmt: skip
        return grad_pyramid, grad_uv
    scratch_shape = (n_parts - 1, *texels.shape[1:]) if want_texture else (n_parts - 1, 1, 1)
    partial = _buffer("grad_texels", scratch_shape, np.float32)
    for view in range(uv.shape[0]):
        source = view if len(texels) > 1 else 0
        sampling.sample_backward(
            texels[source],
            table,
            coordinates[view],
            _NO_LEVELS if levels is None else _array(levels[view]),
            _NO_IDS if ids is None else ids[view].numpy(),
            grads[view],
            target[source],
            partial,
            grad_uv[view].numpy(),
            want_texture,
        )
    return (grad_pyramid if want_texture else None), grad_uv


def antialias_forward(
    colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Blended colour [B, H, W, C] and, per view, the records of the blended pairs for the backward pass."""
    n_views, height, width, n_channels = colour.shape
    out = colour.detach().clone(memory_format=torch.contiguous_format)
    source, positions, depths = _array(colour), _array(clip), _array(depth)
    triangles, neighbours = _array(topology.triangles), _array(topology.neighbours)
    n_parts = numba.get_num_threads()
    capacity = 2 * width * (-(-height // n_parts))
    records = _buffer("records", (n_parts, capacity, 5), np.int32)
    distances = _buffer("distances", (n_parts, capacity), np.float32)
    counts = _buffer("record_counts", (n_parts,), np.int64)
    screen = _buffer("screen", (clip.shape[1], 2), np.float32)
    facing = _buffer("facing", (len(triangles),), np.uint8)
    marks = _buffer("marks", (2, height, width), np.uint8)
    saved = []
    for view in range(n_views):
        antialias.screen_positions(positions[view], height, width, screen)
        antialias.find_facing(screen, triangles, facing)
        antialias.mark_silhouettes(screen, triangles, neighbours, facing, marks)
        antialias.find_silhouettes(
            screen, triangles, neighbours, ids[view].numpy(), depths[view], marks, records, distances, counts
        )
        kept = np.concatenate([records[part, : counts[part]] for part in range(n_parts)])
        crossing = np.concatenate([distances[part, : counts[part]] for part in range(n_parts)])
        antialias.blend(source[view].reshape(-1, n_channels), kept, crossing, out[view].view(-1, n_channels).numpy())
        saved.append((torch.from_numpy(kept), torch.from_numpy(crossing)))
    return out, saved


def antialias_backward(
    colour: Tensor, clip: Tensor, saved: list[tuple[Tensor, Tensor]], grad_out: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to colour and clip."""
    _, height, width, n_channels = colour.shape
    grad_colour = grad_out.clone(memory_format=torch.contiguous_format)
    grad_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
    source, positions, grads = _array(colour), _array(clip), _array(grad_out)
    for view, (records, distances) in enumerate(saved):
        antialias.blend_backward(
            source[view].reshape(-1, n_channels),
            records.numpy(),
            distances.numpy(),
            grads[view].reshape(-1, n_channels),
            positions[view],
            height,
            width,
            grad_colour[view].view(-1, n_channels).numpy(),
            grad_clip[view].numpy(),
        )
    return grad_colour, grad_clip


def normals_forward(vertices: Tensor, topology: MeshTopology) -> tuple[Tensor, Tensor]:
    """Unit normals [B, V, 3] and the lengths [B, V] of the unnormalised sums."""
    normals = torch.empty(vertices.shape)
    lengths = torch.empty(vertices.shape[:-1])
    positions, triangles = _array(vertices), _array(topology.triangles)
    offsets, corners = _array(topology.corner_offsets), _array(topology.corners)
    cross = _buffer("cross", (len(triangles), 3), np.float32)
    for view in range(vertices.shape[0]):
        surface.face_cross(positions[view], triangles, cross)
        surface.gather_normals(cross, offsets, corners, normals[view].numpy(), lengths[view].numpy())
    return normals, lengths


def normals_backward(
    vertices: Tensor, topology: MeshTopology, normals: Tensor, lengths: Tensor, grad_out: Tensor
) -> Tensor:
    """Gradient [B, V, 3] to the vertices."""
    grad_vertices = torch.empty(vertices.shape)
    positions, grads, triangles = _array(vertices), _array(grad_out), _array(topology.triangles)
    offsets, corners = _array(topology.corner_offsets), _array(topology.corners)
    grad_sum = _buffer("grad_sum", vertices.shape[1:], np.float32)
    for view in range(vertices.shape[0]):
        surface.normals_backward(
            positions[view],
            triangles,
            offsets,
            corners,
            normals[view].numpy(),
            lengths[view].numpy(),
            grads[view],
            grad_sum,
            grad_vertices[view].numpy(),
        )
    return grad_vertices


def basis_product_forward(basis: Tensor, coefficients: Tensor) -> Tensor:
    """[N] product of basis [N, K] and coefficients [K]."""
    out = torch.empty(basis.shape[0])
    surface.basis_product(_array(basis), _array(coefficients), out.numpy())
    return out


def basis_product_backward(basis: Tensor, grad_out: Tensor) -> Tensor:
    """[K] gradient to the coefficients."""
    padded = (basis.shape[1] // 16 + 2) * 16
    partial = _buffer("grad_coefficients", (numba.get_num_threads(), padded), np.float32)
    surface.basis_product_backward(_array(basis), _array(grad_out), partial)
    return torch.from_numpy(partial[:, : basis.shape[1]].sum(0))


def seen_points(
    points: Tensor,
    normals: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    zoom: Tensor,
    depth: Tensor,
    size: tuple[float, float],
    slack: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [K], camera-frame points [K, 3] and pixels [K, 2] of surface points; see `fitter.kernels.visibility`."""
    weights, cam, pixels = torch.empty(len(points)), torch.empty(len(points), 3), torch.empty(len(points), 2)
    inputs = [_array(one) for one in (points, normals, cam_from_world, intrinsics, zoom, depth)]
    numbers = [np.float32(one) for one in (*size, slack)]
    visibility.seen_points(*inputs, *numbers, weights.numpy(), cam.numpy(), pixels.numpy())
    return weights, cam, pixels
