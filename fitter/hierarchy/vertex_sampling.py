"""Bilinear sampling of a map at the vertices of a mesh, with its exact adjoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.hierarchy.stencil import Couplings


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

    def adjoint(self, values: Tensor) -> Tensor:
        """[..., V, 1] -> [..., R, R], the transpose of `apply`."""
        return self._added((k, values[..., 0] * self.weight[k]) for k in range(4))

    def couplings(self, values: Tensor) -> Couplings:
        """What a quadratic energy with weights [..., V, 1] at the vertices says of pairs of texels."""

        def pairs(*corners: tuple[int, int]) -> Tensor:
            # Each pair is kept at its first texel, which has the smaller number.
            return self._added((one, values[..., 0] * self.weight[one] * self.weight[two]) for one, two in corners)

        return Couplings(
            own=pairs((0, 0), (1, 1), (2, 2), (3, 3)),
            right=pairs((0, 1), (2, 3)),
            down=pairs((0, 2), (1, 3)),
            diagonal=pairs((0, 3)),
        )

    def _added(self, parts: Iterable[tuple[int, Tensor]]) -> Tensor:
        """[..., R, R] sums of (corner, [..., V] values to add at it)."""
        out = None
        for corner, part in parts:
            if out is None:
                out = part.new_zeros(*part.shape[:-1], self.resolution**2)
            out.index_add_(-1, self.index[corner], part)
        return out.unflatten(-1, (self.resolution, self.resolution))
