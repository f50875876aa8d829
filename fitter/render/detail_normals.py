"""Per-pixel normals of a surface displaced along its normals by a map in UV.

To first order in the displacement d the displaced surface has the normal n' ~ n - grad_s d (Blinn 1978), with the
surface gradient grad_s d = [P_u P_v] G^-1 (d_u, d_v), where P_u, P_v are the derivatives of the position and G is the
first fundamental form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from fitter.kernels.topology import MeshTopology


def displacement_gradient_map(displacement_map: Tensor) -> Tensor:
    """Derivatives of a displacement map, central inside and one-sided at the border.

    Args:
        displacement_map: [B, 1, R, R] mm, row 0 at v = 0.

    Returns:
        [B, R, R, 2] change per unit of u and of v, mm.
    """
    if displacement_map.ndim != 4 or displacement_map.shape[1] != 1 or min(displacement_map.shape[2:]) < 2:
        raise ValueError(f"displacement map must be [B, 1, R, R], R > 1, got {tuple(displacement_map.shape)}")
    rows, columns = displacement_map.shape[2:]
    padded = functional.pad(displacement_map, (1, 1, 1, 1), mode="replicate")[:, 0]
    span_u = displacement_map.new_full((columns,), 2.0)
    span_v = displacement_map.new_full((rows, 1), 2.0)
    span_u[[0, -1]], span_v[[0, -1]] = 1.0, 1.0
    along_u = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * columns / span_u
    along_v = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * rows / span_v
    return torch.stack([along_u, along_v], dim=-1)


def vertex_tangents(
    vertices: Tensor, topology: MeshTopology, uv: Tensor, uv_topology: MeshTopology | None = None
) -> Tensor:
    """Derivatives of the position by u and v at the vertices, averaged over the faces by their UV area.

    Args:
        vertices: [B, V, 3] mm, differentiable.
        topology: Triangles of the vertices.
        uv: [Vt, 2] atlas coordinates; one chart, since tangents are averaged across faces.
        uv_topology: Triangles of the atlas coordinates if they have their own.

    Returns:
        [B, V, 6]: P_u and P_v, mm per unit of u and v; zero at vertices without UV area.
    """
    triangles = topology.triangles.long()
    corners = uv[(uv_topology or topology).triangles.long()]
    side_1, side_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = side_1[:, 0] * side_2[:, 1] - side_1[:, 1] * side_2[:, 0]
    sign = area.sign()[:, None]
    edge_1 = vertices[:, triangles[:, 1]] - vertices[:, triangles[:, 0]]
    edge_2 = vertices[:, triangles[:, 2]] - vertices[:, triangles[:, 0]]
    along_u = (edge_1 * side_2[:, 1:] - edge_2 * side_1[:, 1:]) * sign
    along_v = (edge_2 * side_1[:, :1] - edge_1 * side_2[:, :1]) * sign
    # One row per triangle, whole batch and weight, since rows are added three times as fast as columns.
    batch, count = vertices.shape[:2]
    faces = torch.cat([along_u, along_v], dim=-1).transpose(0, 1).flatten(1)
    rows = torch.cat([faces, area.abs()[:, None]], dim=-1)
    total = rows.new_zeros((count, rows.shape[1]))
    for k in range(3):
        total = total.index_add(0, triangles[:, k], rows)
    weight = total[:, -1:]
    mean = total[:, :-1] / torch.where(weight > 0, weight, 1.0)
    return mean.unflatten(1, (batch, 6)).transpose(0, 1)


def detail_normals(normals: Tensor, tangents: Tensor, displacement_gradient: Tensor) -> Tensor:
    """Normals of the displaced surface.

    Args:
        normals: [..., 3] unit normals of the undisplaced surface.
        tangents: [..., 6] P_u and P_v at the same points, mm per unit of u and v.
        displacement_gradient: [..., 2] from `displacement_gradient_map`, sampled at the points; differentiable.

    Returns:
        [..., 3] unit normals; the undisplaced ones where the tangents span nothing.
    """
    along_u, along_v = tangents[..., :3], tangents[..., 3:]
    # Averaged tangents need not lie in the plane of the averaged normal.
    along_u = along_u - (along_u * normals).sum(-1, keepdim=True) * normals
    along_v = along_v - (along_v * normals).sum(-1, keepdim=True) * normals
    e, g = along_u.square().sum(-1), along_v.square().sum(-1)
    f = (along_u * along_v).sum(-1)
    determinant = e * g - f * f
    flat = determinant <= 1e-8 * (e * g).clamp_min(1e-12)
    determinant = torch.where(flat, torch.inf, determinant)
    d_u, d_v = displacement_gradient.unbind(-1)
    by_u, by_v = (g * d_u - f * d_v) / determinant, (e * d_v - f * d_u) / determinant
    return functional.normalize(normals - by_u[..., None] * along_u - by_v[..., None] * along_v, dim=-1)
