"""Masked filters and look-ups on texel grids [..., R, R, C]: what is not known neither bleeds in nor darkens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def sample_grid(grid: Tensor, positions: Tensor) -> Tensor:
    """Bilinear look-up in images or maps.

    Args:
        grid: [..., H, W, C].
        positions: [..., h, w, 2] in pixels or texels, (x along columns, y along rows), (0.5, 0.5) the centre of the
            first one; leading dimensions broadcast with those of `grid`. Beyond the border the border's value holds.

    Returns:
        [..., h, w, C].
    """
    # Not torch.broadcast_shapes: its first call imports a computer algebra system, most of a second.
    leading = np.broadcast_shapes(grid.shape[:-3], positions.shape[:-3])
    extent = positions.new_tensor([grid.shape[-2], grid.shape[-3]])
    coordinates = (2.0 * positions / extent - 1.0).expand(*leading, *positions.shape[-3:])
    source = grid.expand(*leading, *grid.shape[-3:]).movedim(-1, -3)
    sampled = functional.grid_sample(
        source.reshape(-1, *source.shape[-3:]),
        coordinates.reshape(-1, *coordinates.shape[-3:]),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(*leading, *sampled.shape[1:]).movedim(-3, -1)


def texel_centres(like: Tensor, rows: int, columns: int) -> Tensor:
    """[rows, columns, 2] coordinates (x, y) of the texels' centres, in texels."""
    y = torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5
    x = torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1)


def box_blur(values: Tensor, radius: int) -> Tensor:
    """Mean over a square window of 2 radius + 1 texels, zeros beyond the border; [..., H, W, C]."""
    for axis in (-3, -2):
        # Running sums cost the same at any radius; doubles, so that their differences keep all digits.
        before = values.new_zeros(()).expand(*_resized_axis(values.shape, axis, radius + 1))
        after = values.new_zeros(()).expand(*_resized_axis(values.shape, axis, radius))
        total = torch.cat([before, values, after], axis).cumsum(axis, dtype=torch.float64)
        count = values.shape[axis]
        window = total.narrow(axis, 2 * radius + 1, count) - total.narrow(axis, 0, count)
        values = (window / (2 * radius + 1)).to(values.dtype)
    return values


def smooth_blur(values: Tensor, sigma: float) -> Tensor:
    """Nearly Gaussian blur: three box blurs of the same variance; zeros beyond the border; [..., H, W, C].

    Wide blurs run on a smaller grid: what is left after them has no detail to lose.
    """
    rows, columns = values.shape[-3:-1]
    if sigma >= 4.0 and rows % 2 == 0 and columns % 2 == 0:
        flat = values.movedim(-1, -3).reshape(-1, 1, rows, columns)
        small = functional.avg_pool2d(flat, 2)[:, 0, ..., None]
        # Averaging by 2 and coming back bilinearly blur by 1/4 and 1/2 squared texel themselves.
        small = smooth_blur(small, 0.5 * (sigma**2 - 0.75) ** 0.5)
        flat = functional.interpolate(small.movedim(-1, 1), scale_factor=2.0, mode="bilinear", align_corners=False)
        return flat.reshape(*values.shape[:-3], values.shape[-1], rows, columns).movedim(-3, -1)
    # A box of radius r has variance r (r + 1) / 3; each makes up for the rounding of those before it.
    remaining = sigma**2
    for passes in (3, 2, 1):
        radius = max(0, round((0.25 + max(0.0, 3.0 * remaining / passes)) ** 0.5 - 0.5))
        remaining -= radius * (radius + 1) / 3.0
        values = box_blur(values, radius) if radius else values
    return values


def _resized_axis(shape: tuple[int, ...], axis: int, size: int) -> list[int]:
    result = list(shape)
    result[axis] = size
    return result


def masked_blur(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Smooth blur of [..., H, W, C] over texels of weight [..., H, W] only; zero where none is within reach."""
    weight = weight[..., None].to(values.dtype)
    total = smooth_blur(weight, sigma)
    return smooth_blur(values * weight, sigma) / torch.where(total > 1e-6, total, torch.full_like(total, torch.inf))
