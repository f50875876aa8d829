"""Rasterization in plain torch: enumerate the pixels of every triangle's box, scatter the minimum of the depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology

SUBPIXEL = 256
LIMIT = 2.0**20  # px
MAX_TESTS = 2**23  # pixel tests per pass, bounds the memory


def rasterize(clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Triangle id, barycentric (differentiable) and z/w images of clip [B, V, 4]."""
    triangles = topology.triangles.long()
    ids = torch.stack([visible_triangles(view, triangles, size) for view in clip.detach()])
    barycentric, depth = resolve(clip, triangles, ids)
    return ids.int(), barycentric, depth


def visible_triangles(clip: Tensor, triangles: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W] int64 nearest triangle at every pixel centre of one view, -1 for background."""
    height, width = size
    corners, owner = clip_to_near(clip, triangles)
    extent = corners.new_tensor([width, height])
    scale = 1.0 / corners[..., 3:]
    position = ((corners[..., :2] * scale * 0.5 + 0.5) * extent).clamp(-LIMIT, LIMIT)
    snapped = torch.floor(position * SUBPIXEL + 0.5).long()
    depth = (corners[..., 2:3] * scale)[..., 0].double()
    low, high = snapped.amin(1), snapped.amax(1)
    limit = torch.tensor([width - 1, height - 1], device=clip.device)
    first = ((low + 127) >> 8).clamp_min(0)
    last = torch.minimum((high - 128) >> 8, limit)
    extent_px = last - first + 1
    a, b, c = snapped.unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    kept = torch.nonzero((extent_px > 0).all(1) & (area != 0))[:, 0]
    flipped = (area[kept] < 0)[:, None]
    order = torch.where(flipped, torch.tensor([0, 2, 1], device=clip.device), torch.arange(3, device=clip.device))
    snapped = torch.gather(snapped[kept], 1, order[..., None].expand(-1, -1, 2))
    depth = torch.gather(depth[kept], 1, order)
    return _nearest(snapped, depth, area[kept].abs(), first[kept], extent_px[kept], owner[kept], size)


def _nearest(
    snapped: Tensor, depth: Tensor, area: Tensor, first: Tensor, extent_px: Tensor, owner: Tensor, size: tuple[int, int]
) -> Tensor:
    """Scatter the minimum of (depth, triangle number) over all covered pixels."""
    height, width = size
    nearest = torch.full((height * width,), torch.iinfo(torch.int64).max, device=snapped.device)
    end = (extent_px[:, 0] * extent_px[:, 1]).cumsum(0)
    total = int(end[-1]) if len(end) else 0
    for start in range(0, total, MAX_TESTS):
        test = torch.arange(start, min(start + MAX_TESTS, total), device=snapped.device)
        which = torch.searchsorted(end, test, right=True)
        offset = test - (end[which] - extent_px[which, 0] * extent_px[which, 1])
        column = first[which, 0] + offset % extent_px[which, 0]
        row = first[which, 1] + offset // extent_px[which, 0]
        px, py = (column << 8) + 128, (row << 8) + 128
        inside = torch.ones_like(px, dtype=torch.bool)
        z = torch.zeros_like(px, dtype=torch.float64)
        for k in range(3):
            start_point, end_point = snapped[which, (k + 1) % 3], snapped[which, (k + 2) % 3]
            dx, dy = (end_point - start_point).unbind(1)
            edge = dx * (py - start_point[:, 1]) - dy * (px - start_point[:, 0])
            z = z + edge * depth[which, k]
            inclusive = (dy < 0) | ((dy == 0) & (dx > 0))
            inside &= torch.where(inclusive, edge >= 0, edge > 0)
        z = (z / area[which]).float()
        inside &= z < 1.0
        bits = z[inside].view(torch.int32).long()
        ordered = torch.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
        key = (ordered << 32) | owner[which[inside]]
        nearest.scatter_reduce_(0, (row * width + column)[inside], key, "amin")
    ids = torch.where(nearest == torch.iinfo(torch.int64).max, -1, nearest & 0xFFFFFFFF)
    return ids.reshape(height, width)


def clip_to_near(clip: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Clip triangles to z >= -w.

    Args:
        clip: [V, 4].
        triangles: [F, 3].

    Returns:
        [M, 3, 4] corner positions of the clipped triangles and the [M] triangle each comes from.
    """
    corners = clip[triangles]
    distance = corners[..., 2] + corners[..., 3]
    inside = distance >= 0
    n_inside = inside.sum(1)
    numbers = torch.arange(len(triangles), device=clip.device)
    pieces, owners = [corners[n_inside == 3]], [numbers[n_inside == 3]]
    for count in (1, 2):
        cut = torch.nonzero(n_inside == count)[:, 0]
        if not len(cut):
            continue
        # Turn each triangle so that its odd corner comes first; the orientation stays.
        odd = (inside[cut] if count == 1 else ~inside[cut]).int().argmax(1)
        turn = (odd[:, None] + torch.arange(3, device=clip.device)) % 3
        turned = torch.gather(corners[cut], 1, turn[..., None].expand(-1, -1, 4))
        d = torch.gather(distance[cut], 1, turn)
        p, q, r = turned.unbind(1)
        dp, dq, dr = (value[:, None] for value in d.unbind(1))
        if count == 1:
            pieces.append(torch.stack([p, p + dp / (dp - dq) * (q - p), p + dp / (dp - dr) * (r - p)], dim=1))
            owners.append(numbers[cut])
        else:
            on_pq, on_rp = q + dq / (dq - dp) * (p - q), r + dr / (dr - dp) * (p - r)
            pieces += [torch.stack([on_pq, q, r], dim=1), torch.stack([on_pq, r, on_rp], dim=1)]
            owners += [numbers[cut], numbers[cut]]
    corners, owner = torch.cat(pieces), torch.cat(owners)
    in_front = (corners[..., 3] > 0).all(1)
    return corners[in_front], owner[in_front]


def resolve(clip: Tensor, triangles: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentrics [B, H, W, 2], differentiable, and z/w [B, H, W] of the visible triangles."""
    n_views, height, width = ids.shape
    view, row, column = torch.nonzero(ids >= 0, as_tuple=True)
    corners = clip[view[:, None], triangles[ids[view, row, column]]]
    px = (column.to(clip.dtype) + 0.5) * (2.0 / width) - 1.0
    py = (row.to(clip.dtype) + 0.5) * (2.0 / height) - 1.0
    x = corners[..., 0] - px[:, None] * corners[..., 3]
    y = corners[..., 1] - py[:, None] * corners[..., 3]
    weight = x.roll(-1, 1) * y.roll(-2, 1) - y.roll(-1, 1) * x.roll(-2, 1)
    total = weight.sum(1, keepdim=True)
    flat = total == 0
    weight = torch.where(flat, 1.0 / 3.0, weight / torch.where(flat, 1.0, total))
    # Snapping can put the centre a little outside the exact triangle: clamp the value, keep the gradient.
    clamped = weight.detach().clamp_min(0.0)
    clamped = clamped / clamped.sum(1, keepdim=True)
    weight = weight + (clamped - weight.detach())
    barycentric = clip.new_zeros((n_views, height, width, 2)).index_put((view, row, column), weight[:, :2])
    z_over_w = (clamped * corners[..., 2].detach()).sum(1) / (clamped * corners[..., 3].detach()).sum(1)
    depth = clip.new_ones((n_views, height, width)).index_put((view, row, column), z_over_w)
    return barycentric, depth
