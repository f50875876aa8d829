"""Masked filters and look-ups on texel grids [..., R, R, C]: what is not known neither bleeds in nor darkens."""

from __future__ import annotations

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
    leading = torch.broadcast_shapes(grid.shape[:-3], positions.shape[:-3])
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
    flat = values.movedim(-1, -3).reshape(-1, 1, *values.shape[-3:-1])
    size = 2 * radius + 1
    flat = functional.avg_pool2d(flat, (size, 1), stride=1, padding=(radius, 0))
    flat = functional.avg_pool2d(flat, (1, size), stride=1, padding=(0, radius))
    leading = (*values.shape[:-3], values.shape[-1])
    return flat.reshape(*leading, *values.shape[-3:-1]).movedim(-3, -1)


def smooth_blur(values: Tensor, sigma: float) -> Tensor:
    """Nearly Gaussian blur: three box blurs of the same variance; zeros beyond the border; [..., H, W, C]."""
    # A box of radius r has variance r (r + 1) / 3; each makes up for the rounding of those before it.
    remaining = sigma**2
    for passes in (3, 2, 1):
        radius = max(0, round((0.25 + max(0.0, 3.0 * remaining / passes)) ** 0.5 - 0.5))
        remaining -= radius * (radius + 1) / 3.0
        values = box_blur(values, radius) if radius else values
    return values


def masked_blur(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Smooth blur of [..., H, W, C] over texels of weight [..., H, W] only; zero where none is within reach."""
    weight = weight[..., None].to(values.dtype)
    total = smooth_blur(weight, sigma)
    return smooth_blur(values * weight, sigma) / torch.where(total > 1e-6, total, torch.full_like(total, torch.inf))


def guided_filter(guide: Tensor, values: Tensor, weight: Tensor, radius: int, epsilon: float) -> Tensor:
    """Edge-preserving smoothing of `values` along the edges of a grey guide (He et al. 2010), with weights.

    Args:
        guide: [..., H, W, 1].
        values: [..., H, W, C].
        weight: [..., H, W] in [0, 1]; texels of weight 0 have no say.
        radius: Half the window, texels.
        epsilon: Variance of the guide (its unit squared) below which a window is smoothed.

    Returns:
        [..., H, W, C].
    """
    known = weight[..., None].to(values.dtype)
    total = box_blur(known, radius).clamp_min(1e-8)

    def mean(item: Tensor) -> Tensor:
        return box_blur(item * known, radius) / total

    # Centred first: in single precision E[g²] - E[g]² of an offset guide loses the small variances of skin.
    guide = guide - (guide * known).sum((-3, -2), keepdim=True) / known.sum((-3, -2), keepdim=True).clamp_min(1e-8)
    guide_mean, values_mean = mean(guide), mean(values)
    variance = (mean(guide.square()) - guide_mean.square()).clamp_min(0.0)
    slope = (mean(guide * values) - guide_mean * values_mean) / (variance + epsilon)
    offset = values_mean - slope * guide_mean
    return mean(slope) * guide + mean(offset)
