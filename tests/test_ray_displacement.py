"""The displacement map of a scan from its rays: what the map keeps of waves that are only a few texels long."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fitter.hierarchy.grid import GridSampling
from fitter.optimise.ray_displacement import MeasuredDisplacement, smooth_displacement

SIDE = 64


def _wave(rays: int, texels: float) -> MeasuredDisplacement:
    """Rays on a wave along u, `texels` long."""
    place = (torch.arange(SIDE * rays, dtype=torch.float64) + 0.5) / rays
    amount = torch.cos(2.0 * np.pi * place / texels).repeat(SIDE * rays, 1)
    return MeasuredDisplacement(
        amount, torch.ones_like(amount, dtype=torch.bool), torch.full_like(amount, 0.8 / rays), rays
    )


def _kept(rays: int, texels: float, bilaplacian: float) -> float:
    """Share of the wave's amplitude in the map's bilinear surface, away from the border."""
    shown = GridSampling.build(SIDE, 8 * SIDE, torch.device("cpu"), torch.float64)
    found = smooth_displacement(_wave(rays, texels), bilaplacian, 1e-4)
    inner = slice(128, -128)
    surface, true = shown.apply(found[None])[0][inner, inner], _wave(8, texels).amount[inner, inner]
    return float((surface * true).sum() / true.square().sum())


@pytest.mark.parametrize("texels", [3.2, 4.0, 6.4])
def test_more_rays_keep_more_of_short_waves(texels):
    single, double = _kept(1, texels, 0.0), _kept(2, texels, 0.0)
    # A map of the values at the texels' middles, interpolated, has sinc² of the wave left.
    np.testing.assert_allclose(single, np.sinc(1.0 / texels) ** 2, atol=0.02)
    assert single + 0.02 < double < 1.05


@pytest.mark.parametrize("rays", [1, 2])
def test_smoothing_is_the_same_however_many_rays_there_are(rays):
    """A long wave of frequency w is damped by 1 / (1 + b w⁴), w per texel: half where b w⁴ = 1."""
    texels = 16.0
    weight = (texels / (2.0 * np.pi)) ** 4
    np.testing.assert_allclose(_kept(rays, texels, weight), 0.5, atol=0.05)


def test_holes_are_filled_and_found_texels_kept():
    measured = _wave(2, 64.0)
    measured.valid[60:68, 60:68] = False
    measured.amount[60:68, 60:68] = 0.0
    found = smooth_displacement(measured, 0.0, 1e-4)
    whole = smooth_displacement(_wave(2, 64.0), 0.0, 1e-4)
    # The wave turns by 0.02 across the hole, which is four texels wide.
    assert float((found - whole)[16:-16, 16:-16].abs().max()) < 0.04
