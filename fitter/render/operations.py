"""The four differentiable rendering operations; the backend follows the tensors' device, or the caller's choice."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

from fitter.kernels.registry import choose_backend, load_backend
from fitter.kernels.topology import MeshTopology

from .fragments import Fragments


def rasterize(clip: Tensor, topology: MeshTopology, size: tuple[int, int], backend: str | None = None) -> Fragments:
    """Find the visible triangle and its barycentrics at every pixel centre.

    Both sides of a triangle are drawn. Triangles that cross the near plane (z = -w) are clipped; beyond the far plane
    (z = w) nothing is drawn. Of equally deep triangles the one with the lower number is seen. Vertices further than
    2^20 px from the image are moved onto that limit.

    Args:
        clip: [B, V, 4] clip positions as `fitter.camera.clip_from_camera` makes them (y down), differentiable.
        topology: Triangles, on the same device.
        size: (height, width), px.
        backend: Name of a backend; None takes the device's default, or the reference for float64.

    Returns:
        Fragments; the barycentrics carry the gradient at fixed visibility, `antialias` carries that of the outline.

    Raises:
        ValueError: If shapes, sizes or devices do not fit.
        MissingPartError: If the backend asked for is not installed.
    """
    if clip.ndim != 3 or clip.shape[1:] != (topology.n_vertices, 4):
        raise ValueError(f"clip must be [B, {topology.n_vertices}, 4], got {tuple(clip.shape)}")
    if min(size) < 1:
        raise ValueError(f"size must be at least one pixel each way, got {size}")
    if topology.triangles.device != clip.device:
        raise ValueError(f"topology is on {topology.triangles.device}, clip on {clip.device}; use topology.to(device)")
    if clip.dtype != torch.float32:
        if backend not in (None, "torch_reference"):
            raise ValueError(f"backend {backend} works in float32, clip is {clip.dtype}")
        backend = "torch_reference"
    name = choose_backend(clip.device, backend)
    ids, barycentric, depth = load_backend(name).rasterize(clip, topology, size)
    return Fragments(triangle_id=ids, barycentric=barycentric, depth=depth, backend=name)


def interpolate(attributes: Tensor, fragments: Fragments, topology: MeshTopology) -> Tensor:
    """Interpolate vertex attributes at the pixels, perspective-correct.

    Args:
        attributes: [B or 1, V, C], differentiable.
        fragments: From `rasterize`; gradients flow on through its barycentrics.
        topology: Triangles of the attributes: the mesh's, or those of its UV vertices (same number, same order).

    Returns:
        [B, H, W, C], zero in the background.

    Raises:
        ValueError: If the attributes are not [B or 1, V, C].
    """
    n_views = fragments.triangle_id.shape[0]
    if attributes.ndim != 3 or attributes.shape[0] not in (1, n_views) or attributes.shape[1] != topology.n_vertices:
        raise ValueError(
            f"attributes must be [{n_views} or 1, {topology.n_vertices}, C], got {tuple(attributes.shape)}"
        )
    return load_backend(fragments.backend).interpolate(
        attributes, topology, fragments.triangle_id, fragments.barycentric
    )


def sample_texture(
    texture: Tensor,
    uv: Tensor,
    filter: Literal["bilinear", "mipmap"] = "bilinear",
    uv_derivatives: Tensor | None = None,
    *,
    fragments: Fragments | None = None,
    backend: str | None = None,
) -> Tensor:
    """Look a texture up, clamped at its borders.

    Args:
        texture: [B or 1, Ht, Wt, C]; row 0 is v = 0, texel (i, j) has its centre at u = (j + 0.5) / Wt,
            v = (i + 0.5) / Ht. Differentiable.
        uv: [B, H, W, 2] in [0, 1], differentiable.
        filter: "bilinear", or "mipmap" for trilinear lookups in a pyramid of 2 x 2 box averages (Williams 1983).
        uv_derivatives: [B, H, W, 2, 2] from `uv_footprint`, needed for "mipmap"; a constant.
        fragments: If given, the background is skipped and comes back zero.
        backend: Name of a backend; None takes that of the fragments, or the device's default.

    Returns:
        [B, H, W, C].

    Raises:
        ValueError: If shapes do not fit, or "mipmap" comes without derivatives.
    """
    if texture.ndim != 4 or texture.shape[0] not in (1, uv.shape[0]) or uv.ndim != 4 or uv.shape[-1] != 2:
        raise ValueError(
            f"texture [B or 1, Ht, Wt, C] and uv [B, H, W, 2] expected, got {tuple(texture.shape)}, {tuple(uv.shape)}"
        )
    if filter not in ("bilinear", "mipmap"):
        raise ValueError(f"filter must be 'bilinear' or 'mipmap', got {filter!r}")
    if filter == "mipmap" and uv_derivatives is None:
        raise ValueError("filter 'mipmap' needs uv_derivatives, see uv_footprint")
    if backend is None and fragments is not None:
        backend = fragments.backend
    if backend is None and texture.dtype != torch.float32:
        backend = "torch_reference"
    ids = None if fragments is None else fragments.triangle_id
    levels, maps = None, [texture]
    if filter == "mipmap":
        maps = mip_pyramid(texture)
        levels = mip_level(uv_derivatives, texture.shape[1:3]).to(texture.dtype)
    pyramid = torch.cat([level.flatten(1, 2) for level in maps], dim=1) if len(maps) > 1 else texture.flatten(1, 2)
    shapes, offset = [], 0
    for level in maps:
        shapes.append((offset, level.shape[1], level.shape[2]))
        offset += level.shape[1] * level.shape[2]
    table = torch.tensor(shapes, dtype=torch.int32).to(uv.device)
    return load_backend(choose_backend(uv.device, backend)).sample(pyramid, table, uv, levels, ids)


def mip_pyramid(texture: Tensor) -> list[Tensor]:
    """Successive box averages of [B, Ht, Wt, C], each half the size (rounded down), down to one texel."""
    levels = [texture]
    while max(levels[-1].shape[1:3]) > 1:
        rows, columns = (max(extent // 2, 1) for extent in levels[-1].shape[1:3])
        planes = levels[-1].permute(0, 3, 1, 2)
        levels.append(functional.adaptive_avg_pool2d(planes, (rows, columns)).permute(0, 2, 3, 1))
    return levels


def mip_level(uv_derivatives: Tensor, texture_size: tuple[int, int]) -> Tensor:
    """[B, H, W] fractional level whose texels are as wide as the longer side of the pixel's footprint."""
    rows, columns = texture_size
    texels = uv_derivatives.detach() * uv_derivatives.new_tensor([columns, rows])[:, None]
    longest = texels.square().sum(-2).amax(-1)
    return 0.5 * torch.log2(longest.clamp_min(1.0))


@torch.no_grad()
def uv_footprint(
    uv: Tensor, fragments: Fragments, clip: Tensor, topology: MeshTopology, uv_topology: MeshTopology | None = None
) -> Tensor:
    """Screen-space derivatives of the interpolated texture coordinates (analytic, no gradient).

    Args:
        uv: [B or 1, Vt, 2] texture coordinates of the vertices.
        fragments: From `rasterize`.
        clip: [B, V, 4] the same clip positions.
        topology: Triangles of the mesh.
        uv_topology: Triangles of the texture coordinates if they have their own.

    Returns:
        [B, H, W, 2, 2]: row (u, v), column (per pixel to the right, per pixel down); zero in the background.
    """
    height, width = fragments.size
    view, row, column = torch.nonzero(fragments.mask, as_tuple=True)
    triangle = fragments.triangle_id[view, row, column].long()
    corners = clip[view[:, None], topology.triangles[triangle].long()]
    texture_corners = (uv_topology or topology).triangles[triangle].long()
    corner_uv = uv[(view if uv.shape[0] > 1 else torch.zeros_like(view))[:, None], texture_corners]
    px = (column.to(clip.dtype) + 0.5) * (2.0 / width) - 1.0
    py = (row.to(clip.dtype) + 0.5) * (2.0 / height) - 1.0
    w = corners[..., 3]
    x, y = corners[..., 0] - px[:, None] * w, corners[..., 1] - py[:, None] * w
    (x1, x2), (y1, y2), (w1, w2) = ((q.roll(-1, 1), q.roll(-2, 1)) for q in (x, y, w))
    weight = x1 * y2 - y1 * x2
    change = torch.stack([y1 * w2 - w1 * y2, w1 * x2 - x1 * w2], dim=-1)
    total = weight.sum(1)[:, None, None]
    total = torch.where(total == 0, torch.inf, total)
    weight = weight[..., None] / total
    change = (change - weight * change.sum(1, keepdim=True)) / total
    change = change * change.new_tensor([2.0 / width, 2.0 / height])
    out = uv.new_zeros((*fragments.triangle_id.shape, 2, 2))
    out[view, row, column] = torch.einsum("pkc,pkd->pcd", corner_uv, change)
    return out


def antialias(colour: Tensor, fragments: Fragments, clip: Tensor, topology: MeshTopology) -> Tensor:
    """Blend colours across silhouettes by the pixel area that the edge cuts off, and so make outlines differentiable.

    The silhouette between two pixel centres is found by walking over the mesh from the nearer one, so it is found also
    where triangles are smaller than pixels. Inner edges are left alone. Blending follows Laine et al. (2020).

    Args:
        colour: [B, H, W, C], background included, differentiable.
        fragments: From `rasterize`.
        clip: [B, V, 4] the same clip positions, differentiable.
        topology: Triangles of the mesh.

    Returns:
        [B, H, W, C].

    Raises:
        ValueError: If the image sizes differ.
    """
    if colour.ndim != 4 or colour.shape[:3] != fragments.triangle_id.shape:
        raise ValueError(f"colour must be {(*fragments.triangle_id.shape, 'C')}, got {tuple(colour.shape)}")
    return load_backend(fragments.backend).antialias(colour, topology, fragments.triangle_id, fragments.depth, clip)
