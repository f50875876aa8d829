"""Photometric energies: the render against the photograph, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def skin_attention(probability: Tensor, mask: Tensor) -> Tensor:
    """Skin attention of Deng et al. 2019, §3.2: 1 where skin is likelier than not, its probability elsewhere.

    Args:
        probability: [B, H, W] probability of skin in [0, 1].
        mask: [B, H, W] pixels that the face's render covers, 0 or 1.

    Returns:
        [B, H, W] attention in [0, 1].
    """
    return torch.where(probability > 0.5, torch.ones_like(probability), probability) * mask


def photometric_energy(rendered: Tensor, observed: Tensor, attention: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Attention-weighted mean of the colour distance (Deng et al. 2019, eq. 2).

    sum_i A_i |I_i - I'_i|_2 / sum_i A_i per image, averaged over the batch. The norm is not squared, hence rounded off
    near zero: sqrt(d² + epsilon²) - epsilon.

    Args:
        rendered: [B, H, W, 3] render, in the same colour encoding as `observed`, [0, 1].
        observed: [B, H, W, 3] photograph.
        attention: [B, H, W] weight of each pixel, 0 where nothing is rendered; treated as a constant.
        epsilon: Radius of the rounding, in units of colour.

    Returns:
        Scalar, in units of colour. Zero where the attention is empty.
    """
    squared = (rendered - observed).square().sum(-1)
    distance = (squared + epsilon**2).sqrt() - epsilon
    return _weighted_mean(distance, attention)


def robust_photometric_energy(rendered: Tensor, observed: Tensor, weights: Tensor, *, scale: float | Tensor) -> Tensor:
    """Weighted mean of the Geman–McClure loss of the colour distance, d² / (d² + scale²).

    Every pixel counts between 0 (agrees) and 1 (an outlier: occluder, highlight), so the energy has no unit. The scale
    should follow the image's own contrast and noise: a fixed one trusts bright skin more than dark.

    Args:
        rendered: [B, H, W, 3] render, in the same colour encoding as `observed`.
        observed: [B, H, W, 3] photograph.
        weights: [B, H, W] non-negative weight of each pixel, e.g. low where several views see the surface and
            photo-consistency already holds it; treated as a constant.
        scale: Distance at which a pixel counts one half; a number, or a tensor that broadcasts to [B, H, W].

    Returns:
        Scalar in [0, 1). Zero where all weights vanish.
    """
    squared = (rendered - observed).square().sum(-1)
    return _weighted_mean(squared / (squared + scale**2), weights)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over pixels per image, then over images; an image without weight counts zero."""
    total = weights.sum((-2, -1))
    per_image = (values * weights).sum((-2, -1)) / torch.where(total > 0, total, torch.ones_like(total))
    return per_image.mean()
