"""The sRGB transfer function on tensors: photographs come encoded, textures are linear."""

from __future__ import annotations

import torch
from torch import Tensor

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear R, G, B (Rec. 709)."""


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Decode sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Encode linear light in [0, 1] as sRGB (IEC 61966-2-1)."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(0.0031308) ** (1.0 / 2.4) - 0.055)


def luminance(linear: Tensor) -> Tensor:
    """Luminance [...] of linear RGB [..., 3]."""
    return linear @ linear.new_tensor(LUMINANCE)
