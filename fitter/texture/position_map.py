"""The position map P: positions (or normals, or any vertex attribute) rastered into the atlas."""

from __future__ import annotations

import torch
from torch import Tensor


def position_map(attributes: Tensor, triangles: Tensor, texel_triangle: Tensor, texel_weights: Tensor) -> Tensor:
    """Interpolate vertex attributes at the texels.

    Args:
        attributes: [..., V, C], e.g. vertex positions, mm.
        triangles: [F, 3] int64, the atlas' triangles.
        texel_triangle: [R, R] int64, the triangle under each texel's centre, -1 for none. Row 0 is v = 0.
        texel_weights: [R, R, 3] barycentric coordinates of the texel's centre in its triangle.

    Returns:
        [..., R, R, C], zero where no triangle is. Differentiable with respect to the attributes.
    """
    covered = texel_triangle >= 0
    corners = triangles[texel_triangle.clamp_min(0)]
    weights = torch.where(covered[..., None], texel_weights, torch.zeros_like(texel_weights)).to(attributes.dtype)
    return (attributes[..., corners, :] * weights[..., None]).sum(-2)


def normal_map_of_vertices(normals: Tensor, triangles: Tensor, texel_triangle: Tensor, texel_weights: Tensor) -> Tensor:
    """Unit normals [..., R, R, 3] at the texels from vertex normals [..., V, 3]; zero where no triangle is."""
    return torch.nn.functional.normalize(position_map(normals, triangles, texel_triangle, texel_weights), dim=-1)
