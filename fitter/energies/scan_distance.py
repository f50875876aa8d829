"""How much a pair of points, one on the face and one on the scan, is believed."""

from __future__ import annotations

from torch import Tensor


def pair_weight(distance: Tensor, cosine: Tensor, *, gate: float, least_cosine: float, sigma: float) -> Tensor:
    """Weight of point pairs: the cosine between their normals times a redescending robust weight.

    The robust weight is that of Geman and McClure, 1 / (1 + (e / sigma)²)²: hair, collars and holes let go of the
    surface instead of pulling it.

    Args:
        distance: [K] mm between the points; infinite where there is no partner.
        cosine: [K] between the normals.
        gate: Pairs further apart (mm) do not count.
        least_cosine: Pairs whose normals differ more do not count.
        sigma: Distance in mm at which a pair has lost three quarters of its weight.

    Returns:
        [K] in [0, 1].
    """
    inside = (distance < gate) & (cosine > least_cosine)
    robust = (1.0 + (distance.clamp(max=gate) / sigma) ** 2) ** -2
    return cosine.clamp_min(0.0) * robust * inside


def plane_residual(offset: Tensor, normal: Tensor) -> Tensor:
    """Signed distance [K] in mm of points from the planes through their partners (Chen and Medioni 1992).

    Args:
        offset: [K, 3] mm, from partner to point.
        normal: [K, 3] unit normals at the partners.
    """
    return (offset * normal).sum(-1)
