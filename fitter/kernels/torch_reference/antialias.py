"""Silhouette antialiasing in plain torch: the edge walks of all pixel pairs side by side, then blending."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology

MAX_STEPS = 64


class Pairs(NamedTuple):
    """Neighbouring pixels with different triangles; the walk goes from `near` to `far`."""

    near: Tensor
    """[P] flat pixel number in the batch."""
    far: Tensor
    """[P] flat pixel number in the batch."""
    axis: Tensor
    """[P] 0 for a horizontal pair, 1 for a vertical one."""
    direction: Tensor
    """[P] +1 or -1."""


def antialias(colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor) -> Tensor:
    """Colour [B, H, W, C] blended across silhouettes, differentiable with respect to colour and clip [B, V, 4]."""
    height, width, n_channels = colour.shape[1:]
    extent = clip.new_tensor([width, height])
    visible = (clip[..., 2] >= -clip[..., 3]) & (clip[..., 3] > 0)
    screen = torch.where(
        visible[..., None],
        (clip[..., :2] / torch.where(visible, clip[..., 3], 1.0)[..., None] * 0.5 + 0.5) * extent,
        torch.nan,
    )
    pairs = _pairs(ids, depth)
    view = pairs.near // (height * width)
    pixel = pairs.near % (height * width)
    centre = torch.stack([pixel % width, pixel // width], dim=1).to(clip.dtype) + 0.5
    edge = find_silhouettes(screen.detach(), topology, ids, pairs, view, centre)
    hit = torch.nonzero(edge[:, 0] >= 0)[:, 0]
    near, far, axis, direction = (value[hit] for value in pairs)
    view, centre, edge = view[hit], centre[hit], edge[hit].long()
    i, j = screen[view, edge[:, 0]], screen[view, edge[:, 1]]
    crossing = _crossing(i, j, _take(centre, 1 - axis), axis)
    distance = ((crossing - _take(centre, axis)) * direction).clamp_min(0.0)
    alpha = (distance - 0.5)[:, None]
    flat = colour.reshape(-1, n_channels)
    target = torch.where(alpha[:, 0] > 0, far, near)
    blended = flat.index_add(0, target, alpha * (flat[near] - flat[far]))
    return blended.reshape(colour.shape)


def _pairs(ids: Tensor, depth: Tensor) -> Pairs:
    """All right and down pairs of pixels that show different triangles."""
    n_views, height, width = ids.shape
    number = torch.arange(ids.numel(), device=ids.device).reshape(ids.shape)
    first = torch.cat([number[:, :, :-1].reshape(-1), number[:, :-1].reshape(-1)])
    second = torch.cat([number[:, :, 1:].reshape(-1), number[:, 1:].reshape(-1)])
    axis = torch.zeros_like(first)
    axis[n_views * height * (width - 1) :] = 1
    here, there = ids.reshape(-1)[first], ids.reshape(-1)[second]
    different = here != there
    first, second, axis, here, there = (value[different] for value in (first, second, axis, here, there))
    flat_depth = depth.reshape(-1)
    forward = (there < 0) | ((here >= 0) & (flat_depth[first] <= flat_depth[second]))
    return Pairs(
        near=torch.where(forward, first, second),
        far=torch.where(forward, second, first),
        axis=axis,
        direction=torch.where(forward, 1, -1),
    )


def _take(points: Tensor, axis: Tensor) -> Tensor:
    """One coordinate [P] of points [P, 2], chosen by axis [P]."""
    return torch.gather(points, 1, axis[:, None])[:, 0]


def _crossing(i: Tensor, j: Tensor, across: Tensor, axis: Tensor) -> Tensor:
    """Coordinate along `axis` where the edges i-j ([..., 2]) meet the line at `across` on the other axis."""
    pick = axis.reshape(axis.shape + (1,) * (i.ndim - axis.ndim)).expand(*i.shape[:-1], 1)
    along_i, along_j = i.gather(-1, pick)[..., 0], j.gather(-1, pick)[..., 0]
    level_i, level_j = i.gather(-1, 1 - pick)[..., 0], j.gather(-1, 1 - pick)[..., 0]
    return along_i + (across - level_i) / (level_j - level_i) * (along_j - along_i)


def _signed_area(corners: Tensor) -> Tensor:
    """[P] twice the signed area of [P, 3, 2] triangles."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]


def find_silhouettes(
    screen: Tensor, topology: MeshTopology, ids: Tensor, pairs: Pairs, view: Tensor, centre: Tensor
) -> Tensor:
    """[P, 2] int32 vertices of the silhouette edge between the pixels of each pair, -1 where there is none."""
    triangles, neighbours = topology.triangles.long(), topology.neighbours.long()
    edge = torch.full((len(pairs.near), 2), -1, dtype=torch.int32, device=ids.device)
    active = torch.arange(len(pairs.near), device=ids.device)
    triangle = ids.reshape(-1)[pairs.near].long()
    stop = ids.reshape(-1)[pairs.far].long()
    came_from = torch.full_like(triangle, -1)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        axis, at = pairs.axis[active], centre[active]
        across, along = _take(at, 1 - axis)[:, None], _take(at, axis)[:, None]
        vertices = triangles[triangle]
        corners = screen[view[active][:, None], vertices]
        facing = _signed_area(corners)
        ends = corners.roll(-1, 1)
        level = corners.gather(2, (1 - axis)[:, None, None].expand(-1, 3, 1))[..., 0]
        crosses = (level <= across) != (level.roll(-1, 1) <= across)
        crosses &= (neighbours[triangle] != came_from[:, None]) | (came_from < 0)[:, None]
        distance = (_crossing(corners, ends, across, axis) - along) * pairs.direction[active][:, None]
        distance = torch.where(crosses, distance, -1e30)
        reach, exit_edge = distance.max(1)
        going = crosses.any(1) & (reach <= 1.0) & ~torch.isnan(facing)
        following = neighbours[triangle].gather(1, exit_edge[:, None])[:, 0]
        turned = _signed_area(screen[view[active][:, None], triangles[following.clamp_min(0)]])
        going &= (following < 0) | ~torch.isnan(turned)
        silhouette = (following < 0) | ((turned > 0) != (facing > 0))
        take = exit_edge[:, None, None].expand(-1, 1, 2)
        span = (ends.gather(1, take) - corners.gather(1, take))[:, 0].abs()
        steep, flat = _take(span, 1 - axis), _take(span, axis)
        owned = (steep > flat) | ((steep == flat) & (axis == 0))
        found = going & silhouette & owned
        i = vertices.gather(1, exit_edge[:, None])
        j = vertices.gather(1, ((exit_edge + 1) % 3)[:, None])
        edge[active[found]] = torch.cat([i, j], dim=1)[found].int()
        going &= ~silhouette & (following != stop)
        active, came_from, triangle, stop = active[going], triangle[going], following[going], stop[going]
    return edge
