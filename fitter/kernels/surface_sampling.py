"""Random points of equal area on a triangle mesh."""

from __future__ import annotations

import torch
from torch import Tensor


def equal_area_samples(
    vertices: Tensor, triangles: Tensor, normals: Tensor, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Points [count, 3] spread evenly over a surface, with interpolated unit normals [count, 3], in random order.

    One point falls in each of `count` parts of equal area (stratified sampling), so the sample is more even than
    independent points would be; the order is shuffled, so that its first k points are a sample too. The same seed gives
    the same points on every device.

    Args:
        vertices: [V, 3].
        triangles: [F, 3] int64.
        normals: [V, 3] vertex normals.
        count: Number of points.
        seed: Of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    corners = vertices.detach().double().cpu()[triangles.cpu()]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    total = area.cumsum(0)
    inside = torch.rand(count, generator=generator, dtype=torch.float64)
    position = (torch.arange(count, dtype=torch.float64) + inside) / count * total[-1]
    chosen = torch.searchsorted(total, position).clamp(max=len(total) - 1)
    # Uniform in a triangle (Osada et al. 2002, eq. 1).
    root, other = torch.rand(2, count, generator=generator, dtype=torch.float64)
    root = root.sqrt()
    weights = torch.stack([1.0 - root, root * (1.0 - other), root * other], -1)
    order = torch.randperm(count, generator=generator)
    picked = triangles[chosen[order].to(triangles.device)]
    weight = weights[order].to(vertices)[..., None]
    points = (vertices[picked] * weight).sum(1)
    return points, torch.nn.functional.normalize((normals[picked] * weight).sum(1), dim=-1)
