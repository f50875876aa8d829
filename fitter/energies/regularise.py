"""Regularisers of the maps (texel grids, mm) and of the coefficients.

Derivatives are per millimetre of surface: differences of neighbouring texels are divided by the distance between them,
so a weight found on one resolution or atlas holds on another. `texel_mm` is that distance: one number, or an [R, R] map
of the local edge length of a texel.
"""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(
    field: Tensor, texel_mm: float | Tensor = 1.0, valid: Tensor | None = None, *, epsilon: float = 1e-3
) -> Tensor:
    """Isotropic total variation of a map, mean over texels of |(∂u, ∂v)|, all channels in one norm.

    Args:
        field: [..., C, R, R] map, mm.
        texel_mm: Distance of neighbouring texels, mm; number or [R, R].
        valid: [R, R] texels that count, or None for all.
        epsilon: Rounding of the norm near zero, mm per mm.

    Returns:
        Scalar, mm per mm: the mean slope of the map.
    """
    along_u, along_v, weight = _forward_differences(field, texel_mm, valid)
    squared = along_u.square().sum(-3) + along_v.square().sum(-3)
    return _masked_mean((squared + epsilon**2).sqrt() - epsilon, weight)


def laplacian_energy(field: Tensor, texel_mm: float | Tensor = 1.0, valid: Tensor | None = None) -> Tensor:
    """Mean squared slope (Dirichlet energy): the energy whose gradient is the Laplacian of the map.

    Args:
        field: [..., C, R, R] map, mm.
        texel_mm: Distance of neighbouring texels, mm; number or [R, R].
        valid: [R, R] texels that count, or None for all.

    Returns:
        Scalar, (mm per mm)².
    """
    along_u, along_v, weight = _forward_differences(field, texel_mm, valid)
    return _masked_mean((along_u.square() + along_v.square()).sum(-3), weight)


def bilaplacian_energy(field: Tensor, texel_mm: float | Tensor = 1.0, valid: Tensor | None = None) -> Tensor:
    """Mean squared Laplacian (thin plate): the energy whose gradient is the bi-Laplacian of the map.

    Linear ramps cost nothing; texels at the border of the map or of `valid` have no full stencil and do not count.

    Args:
        field: [..., C, R, R] map, mm.
        texel_mm: Distance of neighbouring texels, mm; number or [R, R].
        valid: [R, R] texels that count, or None for all.

    Returns:
        Scalar, (1 / mm)²: mean squared curvature, summed over channels.
    """
    laplacian = map_laplacian(field, texel_mm)
    weight = None
    if valid is not None:
        known = valid.to(field.dtype)
        weight = known[1:-1, 1:-1] * known[:-2, 1:-1] * known[2:, 1:-1] * known[1:-1, :-2] * known[1:-1, 2:]
    return _masked_mean(laplacian.square().sum(-3), weight)


def map_laplacian(field: Tensor, texel_mm: float | Tensor = 1.0) -> Tensor:
    """Five-point Laplacian [..., C, R-2, R-2] of the inner texels of a map [..., C, R, R], per mm²."""
    centre = field[..., 1:-1, 1:-1]
    neighbours = field[..., :-2, 1:-1] + field[..., 2:, 1:-1] + field[..., 1:-1, :-2] + field[..., 1:-1, 2:]
    if isinstance(texel_mm, Tensor) and texel_mm.ndim >= 2:
        texel_mm = texel_mm[1:-1, 1:-1]
    return (neighbours - 4.0 * centre) / texel_mm**2


def displacement_l1(displacement: Tensor, valid: Tensor | None = None, *, epsilon: float = 1e-4) -> Tensor:
    """Mean absolute displacement (HRN, L_reg), rounded near zero: sqrt(d² + epsilon²) - epsilon.

    Args:
        displacement: [..., R, R] map along the normal, mm.
        valid: [R, R] texels that count, or None for all.
        epsilon: Rounding, mm.

    Returns:
        Scalar, mm.
    """
    return _masked_mean((displacement.square() + epsilon**2).sqrt() - epsilon, valid)


def gaussian_prior(coefficients: Tensor, sigma: float | Tensor = 1.0, centre: float | Tensor = 0.0) -> Tensor:
    """Sum of ((c - centre) / sigma)², twice the negative log of a Gaussian prior.

    Args:
        coefficients: [..., K]; a batch is averaged.
        sigma: Standard deviation, a number or [K].
        centre: Mean, a number or [K].

    Returns:
        Scalar.
    """
    return ((coefficients - centre) / sigma).square().sum(-1).mean()


def unit_interval_prior(coefficients: Tensor, sigma: float = 0.05) -> Tensor:
    """One-sided prior of coefficients that live in [0, 1]: free inside, quadratic outside.

    Args:
        coefficients: [..., K] named expressions; a batch is averaged.
        sigma: Overshoot that costs 1.

    Returns:
        Scalar.
    """
    overshoot = torch.relu(-coefficients) + torch.relu(coefficients - 1.0)
    return (overshoot / sigma).square().sum(-1).mean()


def _forward_differences(
    field: Tensor, texel_mm: float | Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Slopes along u and v [..., C, R-1, R-1] and the weight of each texel that has both neighbours."""
    corner = field[..., :-1, :-1]
    if isinstance(texel_mm, Tensor) and texel_mm.ndim >= 2:
        texel_mm = texel_mm[:-1, :-1]
    along_u = (field[..., :-1, 1:] - corner) / texel_mm
    along_v = (field[..., 1:, :-1] - corner) / texel_mm
    if valid is None:
        return along_u, along_v, None
    known = valid.to(field.dtype)
    return along_u, along_v, known[:-1, :-1] * known[:-1, 1:] * known[1:, :-1]


def _masked_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `values` [..., h, w] over texels with weight; zero where there is none."""
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1e-12)
