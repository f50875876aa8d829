"""Maps as grids of texels: bilinear sampling on a finer grid with its exact adjoint, and Laplacians of the grid.

A map and the finer grid of its samples are both regular, so sampling is one interpolation along each axis. The normal
equations of a map are then applied without ever being assembled, by the same few lines on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from fitter.hierarchy.stencil import Couplings
from fitter.kernels.blur import gaussian_blur


@dataclass(frozen=True)
class AxisInterpolation:
    """Bilinear interpolation from `coarse` texels to `fine` texels along one axis; ends are held constant."""

    first: Tensor
    """[fine] int64 lower texel."""
    second: Tensor
    """[fine] int64 upper texel."""
    fraction: Tensor
    """[fine] weight of the upper texel."""
    coarse: int

    @staticmethod
    def build(coarse: int, fine: int, device: torch.device, dtype: torch.dtype) -> AxisInterpolation:
        """Texel centres are at (i + 0.5) / count on both grids."""
        position = (torch.arange(fine, device=device, dtype=dtype) + 0.5) * (coarse / fine) - 0.5
        position = position.clamp(0.0, coarse - 1.0)
        first = position.floor().long().clamp(max=max(coarse - 2, 0))
        second = (first + 1).clamp(max=coarse - 1)
        return AxisInterpolation(first, second, position - first, coarse)

    def apply(self, grid: Tensor, axis: int) -> Tensor:
        """Interpolate `grid` along `axis` (length coarse -> fine)."""
        shape = [1] * grid.ndim
        shape[axis] = -1
        fraction = self.fraction.view(shape)
        low, high = grid.index_select(axis, self.first), grid.index_select(axis, self.second)
        return torch.lerp(low, high, fraction.expand_as(low))

    def adjoint(self, grid: Tensor, axis: int) -> Tensor:
        """Transpose of `apply` (fine -> coarse)."""
        shape = [1] * grid.ndim
        shape[axis] = -1
        high = self.fraction.view(shape)
        size = list(grid.shape)
        size[axis] = self.coarse
        out = torch.zeros(size, device=grid.device, dtype=grid.dtype)
        out.index_add_(axis, self.first, grid * (1.0 - high))
        out.index_add_(axis, self.second, grid * high)
        return out


DENSE_LIMIT = 128
"""Maps up to this many texels a side are sampled by a dense matrix product, which is faster there than gathering."""


@dataclass(frozen=True)
class GridSampling:
    """Sampling of a square map [..., R, R] on a square grid of S × S points."""

    axis: AxisInterpolation
    matrix: Tensor | None
    """[S, R] the same interpolation as a dense matrix, for small maps."""
    resolution: int
    samples: int

    @staticmethod
    def build(resolution: int, samples: int, device: torch.device, dtype: torch.dtype = torch.float32) -> GridSampling:
        """Sampling of an R × R map at the texel centres of an S × S grid."""
        axis = AxisInterpolation.build(resolution, samples, device, dtype)
        matrix = None
        if resolution <= DENSE_LIMIT:
            matrix = axis.apply(torch.eye(resolution, device=device, dtype=dtype), 0)
        return GridSampling(axis, matrix, resolution, samples)

    def apply(self, grid: Tensor) -> Tensor:
        """[..., R, R] -> [..., S, S]."""
        if self.resolution == self.samples:
            return grid
        if self.matrix is not None:
            return self.matrix @ grid @ self.matrix.T
        return self.axis.apply(self.axis.apply(grid, grid.ndim - 2), grid.ndim - 1)

    def adjoint(self, grid: Tensor) -> Tensor:
        """[..., S, S] -> [..., R, R], the transpose of `apply`."""
        if self.resolution == self.samples:
            return grid
        if self.matrix is not None:
            return self.matrix.T @ grid @ self.matrix
        return self.axis.adjoint(self.axis.adjoint(grid, grid.ndim - 1), grid.ndim - 2)

    def couplings(self, values: Tensor) -> Couplings:
        """What a quadratic energy with weights [..., S, S] at the samples says of pairs of texels."""
        if self.resolution == self.samples:
            nothing = torch.zeros_like(values)
            return Couplings(values, nothing, nothing, nothing)
        matrix = self.matrix
        if matrix is None:
            matrix = self.axis.apply(torch.eye(self.resolution, device=values.device, dtype=values.dtype), 0)
        # Along each axis a sample weighs two neighbouring texels: their squares, and their product.
        own, pair = matrix.square(), pad(matrix[:, :-1] * matrix[:, 1:], (0, 1))
        along_rows, across = values @ own, values @ pair
        return Couplings(own.T @ along_rows, own.T @ across, pair.T @ along_rows, pair.T @ across)


def sample_map(grid: Tensor, uv: Tensor) -> Tensor:
    """Bilinear values [N, C] of a map [C, R, R] at coordinates uv [N, 2]; differentiable with respect to the map."""
    points = (uv * 2.0 - 1.0)[None, None]
    values = torch.nn.functional.grid_sample(
        grid[None], points, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[0, :, 0].T


def laplacian(grid: Tensor) -> Tensor:
    """Five-point Laplacian of [..., R, R] with free borders; symmetric and negative semi-definite."""
    out = torch.zeros_like(grid)
    down = grid[..., 1:, :] - grid[..., :-1, :]
    right = grid[..., :, 1:] - grid[..., :, :-1]
    out[..., :-1, :] += down
    out[..., 1:, :] -= down
    out[..., :, :-1] += right
    out[..., :, 1:] -= right
    return out


WIDEST_BLUR = 5.0
"""Texels: wider blurs are made on a coarser grid."""


def masked_blur(grid: Tensor, weight: Tensor, sigma: float, widest: float = WIDEST_BLUR) -> Tensor:
    """Blur of `grid` under `weight`: each value is the weighted mean of its neighbourhood.

    At large sigma a coarser grid holds the same signal: what is wider than `widest` texels is blurred there, and
    interpolated back.
    """
    factor = blur_factor(grid.shape[-1], sigma, widest)
    # One weight may stand for several grids: it is blurred once, in its own shape.
    numerator, denominator = (gaussian_blur(shrunk(one, factor), sigma / factor) for one in (grid * weight, weight))
    ratio = numerator / (denominator + 1e-6)
    if factor == 1:
        return ratio
    flat = ratio.reshape(-1, 1, *ratio.shape[-2:])
    flat = torch.nn.functional.interpolate(flat, size=grid.shape[-2:], mode="bilinear", align_corners=False)
    return flat.reshape(grid.shape)


def blur_factor(side: int, sigma: float, widest: float = WIDEST_BLUR) -> int:
    """How many texels of a grid of `side` one of the coarser grid is, on which a blur of `sigma` texels is made."""
    factor = 1
    while sigma / factor > widest and side % (2 * factor) == 0 and side // (2 * factor) >= 16:
        factor *= 2
    return factor


def shrunk(grid: Tensor, factor: int) -> Tensor:
    """Means of [..., R, R] over squares of `factor` texels."""
    if factor == 1:
        return grid
    flat = torch.nn.functional.avg_pool2d(grid.reshape(-1, 1, *grid.shape[-2:]), factor)
    return flat.reshape(*grid.shape[:-2], *flat.shape[-2:])
