"""From the cost of trying many depths to a depth and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.kernels.view_sweep import has_sweep_kernels, least_cost

DOUBTED, SURE = 0.05, 0.3
"""By how much of its cost the best depth must beat any other that is not next to it: below the first it counts nothing,
from the second on in full."""
BESIDE = 3
"""Steps within which another depth is the same minimum."""


@dataclass(frozen=True)
class DepthEstimate:
    """A parabola through the least cost of every sample: curvature * (depth - offset)²."""

    offset: Tensor
    """[S, S] depth of the least cost, in steps from the middle of the search."""
    curvature: Tensor
    """[S, S] cost per squared step; 0 where no depth inside the search is clearly the best."""


def estimate_depth(cost: Tensor) -> DepthEstimate:
    """Depth of least cost, with the parabola through it and its two neighbours.

    A minimum at either end of the search is none, and one that hardly differs from another far from it is a guess
    (Scharstein and Szeliski 2002, "A taxonomy and evaluation of dense two-frame stereo correspondence algorithms",
    sections 3.3 and 3.4: winner takes all, and sub-step refinement by a parabola).

    Args:
        cost: [D, S, S] of depths one step apart, D odd, the middle one where the surface is now.
    """
    if has_sweep_kernels(cost):
        return DepthEstimate(*least_cost(cost, DOUBTED, SURE, BESIDE))
    depths = cost.shape[0]
    best = cost.argmin(0)
    centre = best.clamp(1, depths - 2)
    low, mid, high = (cost.gather(0, (centre + k)[None])[0] for k in (-1, 0, 1))
    bend = low + high - 2.0 * mid
    shift = (0.5 * (low - high) / bend.clamp_min(1e-9)).clamp(-1.0, 1.0)
    index = torch.arange(depths, device=cost.device)[:, None, None]
    elsewhere = torch.where((index - best).abs() > BESIDE, cost, torch.full_like(cost, float("inf"))).amin(0)
    lead = 1.0 - mid / elsewhere.clamp_min(1e-9)
    sure = ((lead - DOUBTED) / (SURE - DOUBTED)).clamp(0.0, 1.0)
    found = (best == centre).to(cost.dtype)
    return DepthEstimate(centre - depths // 2 + shift, 0.5 * bend.clamp_min(0.0) * sure * found)
