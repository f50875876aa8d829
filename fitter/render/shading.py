"""Lambertian shading under distant light in spherical harmonics of order 2.

The nine basis functions are the real orthonormal spherical harmonics without the Condon-Shortley sign, in the order
1; y, z, x; xy, yz, 3z² - 1, xz, x² - y², each multiplied by the clamped-cosine factor of its band divided by pi: 1, 2/3
and 1/4 (Ramamoorthi and Hanrahan 2001, Basri and Jacobs 2003). So `lighting` holds the harmonic coefficients of the
environment's radiance, and light of radiance 1 from everywhere, (sqrt(4 pi), 0, ..., 0), renders the albedo itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BAND_1 = (2.0 / 3.0) * math.sqrt(3.0 / (4.0 * math.pi))
_BAND_2 = 0.25 * math.sqrt(15.0 / (4.0 * math.pi))
CONSTANTS = (
    math.sqrt(1.0 / (4.0 * math.pi)),
    _BAND_1,
    _BAND_1,
    _BAND_1,
    _BAND_2,
    _BAND_2,
    0.25 * math.sqrt(5.0 / (16.0 * math.pi)),
    _BAND_2,
    0.5 * _BAND_2,
)
UNIFORM_WHITE = math.sqrt(4.0 * math.pi)
"""Coefficient of the constant function that makes a uniform environment of radiance 1."""


def spherical_harmonics(normals: Tensor) -> Tensor:
    """The nine shading functions [..., 9] of unit normals [..., 3]."""
    x, y, z = normals.unbind(-1)
    functions = (torch.ones_like(x), y, z, x, x * y, y * z, 3.0 * z * z - 1.0, x * z, x * x - y * y)
    return torch.stack(functions, dim=-1) * normals.new_tensor(CONSTANTS)


def shade(albedo: Tensor, normals: Tensor, lighting: Tensor) -> Tensor:
    """Diffuse reflection of distant light, linear RGB.

    Args:
        albedo: [B, ..., 3] in [0, 1].
        normals: [B, ..., 3] unit, in the frame of the lighting.
        lighting: [B or 1, 9, 3] radiance coefficients.

    Returns:
        [B, ..., 3]; can be negative where order 2 is too coarse for the light.
    """
    functions = spherical_harmonics(normals)
    irradiance = (functions.flatten(1, -2) @ lighting).reshape(albedo.shape)
    return albedo * irradiance
