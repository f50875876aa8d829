"""Bilinear sampling of a map at the vertices of a mesh, with its exact adjoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VertexSampling:
    """Sampling of a square map [..., R, R] at V atlas coordinates; results are [..., V, 1].

    The trailing axis makes it interchangeable with `GridSampling`, whose results are grids.
    """

    index: Tensor
    """[4, V] int64 flat texels."""
    weight: Tensor
    """[4, V] bilinear weights."""
    resolution: int

    @staticmethod
    def build(uv: Tensor, resolution: int) -> VertexSampling:
        """Sampling of an R × R map at `uv` [V, 2]; texel centres are at (i + 0.5) / R, borders are held constant."""
        position = (uv * resolution - 0.5).clamp(0.0, resolution - 1.0)
        low = position.floor().long().clamp(max=max(resolution - 2, 0))
        high = (low + 1).clamp(max=resolution - 1)
        fraction = position - low
        columns = (low[:, 0], high[:, 0])
        rows = (low[:, 1], high[:, 1])
        along_u = (1.0 - fraction[:, 0], fraction[:, 0])
        along_v = (1.0 - fraction[:, 1], fraction[:, 1])
        index = torch.stack([r * resolution + c for r in rows for c in columns])
        weight = torch.stack([v * u for v in along_v for u in along_u])
        return VertexSampling(index, weight, resolution)

    def apply(self, grid: Tensor) -> Tensor:
        """[..., R, R] -> [..., V, 1]."""
        flat = grid.flatten(-2)
        return sum(flat[..., self.index[k]] * self.weight[k] for k in range(4))[..., None]

    def adjoint(self, values: Tensor, squared: bool = False) -> Tensor:
        """[..., V, 1] -> [..., R, R], the transpose of `apply`; `squared` squares the weights."""
        weight = self.weight.square() if squared else self.weight
        out = values.new_zeros(*values.shape[:-2], self.resolution**2)
        for k in range(4):
            out.index_add_(-1, self.index[k], values[..., 0] * weight[k])
        return out.unflatten(-1, (self.resolution, self.resolution))
