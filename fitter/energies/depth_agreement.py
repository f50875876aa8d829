"""How far depths that were found independently of each other are apart: what is known of their errors without the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from fitter.hierarchy.grid import masked_blur

NARROW = 0.5
"""Width of the mean in which a depth is read, samples."""
WIDE = 3.0
"""Width of the mean that a lone depth is compared with, samples: a map hardly bends within it."""
LEAST_CERTAINTY = 0.02
"""Least certainty of a depth that counts, of that of a well-known one."""
WELL_KNOWN = 0.8
"""Quantile of all certainties from which on a depth counts in full."""


def depths_apart(depths: Tensor, certainty: Tensor, most: float) -> Tensor:
    """Mean distance [] between P depths of each sample, in their unit; infinite where no sample has two.

    Noise moves each of them on its own, and so does gloss, which is at another place in every view. Of a single depth
    (P = 1) the distance from the mean of its neighbourhood is taken, which tells of noise, and less of gloss.

    Args:
        depths: [P, S, S].
        certainty: [P, S, S] how well each is known, 0 where it is not.
        most: A distance counts at most so much: what is beyond is a wrong match, whatever its distance.
    """
    known = []
    for depth, sure in zip(depths, certainty, strict=True):
        some = sure[sure > 0]
        if some.numel() == 0:
            known.append((depth, torch.zeros_like(depth, dtype=torch.bool)))
            continue
        share = (sure / some.quantile(WELL_KNOWN)).clamp(max=1.0)
        known.append((masked_blur(depth, share, NARROW), _neighbourhood(share) > LEAST_CERTAINTY))
        if len(depths) == 1:
            known.append((masked_blur(depth, share, WIDE), known[0][1]))
    distances = [
        (one - other).abs()[both & beside]
        for index, (one, both) in enumerate(known)
        for other, beside in known[index + 1 :]
    ]
    found = torch.cat(distances) if distances else depths.new_zeros(0)
    return found.clamp(max=most).mean() if found.numel() else depths.new_tensor(torch.inf)


def _neighbourhood(share: Tensor) -> Tensor:
    """Certainty in the mean around each sample."""
    return masked_blur(share, torch.ones_like(share), NARROW)
