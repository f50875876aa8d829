"""Masked filters and look-ups on texel grids [..., R, R, C]: what is not known neither bleeds in nor darkens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fitter.kernels.blur import gaussian_blur


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


def smooth_blur(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [..., H, W, C]; zeros beyond the border.

    Wide blurs run on a smaller grid: what is left after them has no detail to lose.
    """
    return _blurred(values.movedim(-1, -3), sigma).movedim(-3, -1)


def _blurred(planes: Tensor, sigma: float) -> Tensor:
    """`smooth_blur` of [..., H, W]."""
    rows, columns = planes.shape[-2:]
    if sigma < 4.0 or rows % 2 or columns % 2:
        return gaussian_blur(planes, sigma)
    small = functional.avg_pool2d(planes.reshape(-1, 1, rows, columns), 2)
    # Averaging by 2 and coming back bilinearly blur by 1/4 and 1/2 squared texel themselves.
    small = _blurred(small, 0.5 * (sigma**2 - 0.75) ** 0.5)
    return functional.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False).reshape(planes.shape)


def masked_blur(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Smooth blur of [..., H, W, C] over texels of weight [..., H, W] only; zero where none is within reach."""
    weight = weight[..., None].to(values.dtype)
    total = smooth_blur(weight, sigma)
    return smooth_blur(values * weight, sigma) / torch.where(total > 1e-6, total, torch.full_like(total, torch.inf))
