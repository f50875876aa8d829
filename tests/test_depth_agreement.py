"""Distances between depths: known offsets, noise whose spread is known, and depths that are not known."""

from __future__ import annotations

import math

import pytest
import torch

from fitter.energies.depth_agreement import NARROW, depths_apart
from fitter.hierarchy.grid import masked_blur

SIZE = 64


def _noise(seed: int) -> torch.Tensor:
    return torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sure(count: int) -> torch.Tensor:
    return torch.ones(count, SIZE, SIZE, dtype=torch.float64)


def test_depths_with_an_offset():
    """Three depths 0, 0.1 and 0.4 mm: the mean of 0.1, 0.4 and 0.3."""
    depths = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)[:, None, None].expand(3, SIZE, SIZE)
    assert float(depths_apart(depths, _sure(3), 1.0)) == pytest.approx(0.8 / 3, rel=1e-4)
    # What is further apart than counts, counts as that.
    assert float(depths_apart(depths, _sure(3), 0.2)) == pytest.approx((0.1 + 0.2 + 0.2) / 3, rel=1e-4)


def test_noise_is_apart_by_its_own_spread():
    """Of two independent depths the difference spreads sqrt(2) as much, and its mean size is sqrt(2 / pi) of that."""
    depths = torch.stack([0.1 * _noise(1), 0.1 * _noise(2)])
    point = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    point[SIZE // 2, SIZE // 2] = 1.0
    kept = float(masked_blur(point, torch.ones_like(point), NARROW).square().sum().sqrt())
    expected = 0.1 * kept * math.sqrt(2.0) * math.sqrt(2.0 / math.pi)
    assert float(depths_apart(depths, _sure(2), 1.0)) == pytest.approx(expected, rel=0.05)


def test_a_lone_depth_is_compared_with_its_neighbourhood():
    slope = torch.linspace(0.0, 3.0, SIZE, dtype=torch.float64).expand(SIZE, SIZE)
    smooth = float(depths_apart(slope[None], _sure(1), 1.0))
    rough = [float(depths_apart((slope + spread * _noise(3))[None], _sure(1), 1.0)) for spread in (0.1, 0.2)]
    assert smooth < 0.02 < rough[0]
    assert rough[1] == pytest.approx(2.0 * rough[0], rel=0.1)


def test_what_is_not_known_does_not_count():
    depths, sure = torch.zeros(2, SIZE, SIZE, dtype=torch.float64), _sure(2)
    depths[1, :, : SIZE // 2] = 5.0
    sure[1, :, : SIZE // 2] = 0.0
    assert float(depths_apart(depths, sure, 10.0)) < 1e-3


def test_nothing_is_known_of_what_no_sample_has_twice():
    depths, sure = torch.zeros(2, SIZE, SIZE, dtype=torch.float64), _sure(2)
    sure[0, :, SIZE // 2 - 4 :] = 0.0
    sure[1, :, : SIZE // 2 + 4] = 0.0
    assert float(depths_apart(depths, sure, 1.0)) == math.inf
    assert float(depths_apart(depths, torch.zeros_like(sure), 1.0)) == math.inf
