"""One texture from several views: gains equalised where views overlap, two frequency bands blended apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.texture.filters import masked_blur, smooth_blur


@dataclass(frozen=True)
class FusedTexture:
    """The blend of all views."""

    colour: Tensor
    """[R, R, 3] linear RGB; zero where no view sees."""
    weight: Tensor
    """[R, R] sum of the views' weights: 0 where no view sees."""
    gains: Tensor
    """[N, 3] factor that was applied to each view's colours; their geometric mean is 1."""


def sharpness_weight(footprint: Tensor, blur: float | Tensor = 0.0) -> Tensor:
    """Weight in [0, 1] of a view by how finely it resolves a texel.

    Args:
        footprint: [..., R, R] pixels of the photograph per texel, by length (of `unwrap_texture`).
        blur: Standard deviation of the photograph's own blur, px; number or tensor that broadcasts.

    Returns:
        1 where a texel gets a full pixel or more, falling with the area that it gets below.
    """
    return (footprint / (1.0 + 4.0 * blur**2) ** 0.5).clamp(0.0, 1.0) ** 2


def equalising_gains(textures: Tensor, weights: Tensor, *, limit: float = 2.0) -> Tensor:
    """Factors that make the views agree where they overlap, by least squares on the logarithms.

    For each pair of views the mean log ratio over their overlap is one equation, weighted by the overlap. Views that
    overlap with no other keep their brightness. The geometric mean over the views is 1.

    Args:
        textures: [N, R, R, 3] linear RGB.
        weights: [N, R, R].
        limit: Largest factor; more means that something else is wrong.

    Returns:
        [N, 3].
    """
    count = textures.shape[0]
    system = textures.new_zeros(count, count)
    right = textures.new_zeros(count, 3)
    # Colours near black carry no ratio, and clipped ones a wrong one.
    usable = ((textures > 0.005) & (textures < 0.98)).all(-1)
    logarithm = torch.log(textures.clamp_min(1e-4))
    for first in range(count):
        for second in range(first + 1, count):
            shared = weights[first] * weights[second] * usable[first] * usable[second]
            total = shared.sum()
            if float(total) < 1e-6:
                continue
            strength = total / shared.numel()
            ratio = ((logarithm[second] - logarithm[first]) * shared[..., None]).sum((0, 1)) / total
            # gain_first - gain_second = log(second / first)
            system[first, first] += strength
            system[second, second] += strength
            system[first, second] -= strength
            system[second, first] -= strength
            right[first] += strength * ratio
            right[second] -= strength * ratio
    # The pseudo-inverse gives each group of overlapping views a mean of zero.
    gains = torch.linalg.pinv(system, hermitian=True) @ right
    bound = float(torch.log(torch.tensor(limit)))
    return gains.clamp(-bound, bound).exp()


def fuse_textures(
    textures: Tensor,
    weights: Tensor,
    *,
    equalise: bool = True,
    band: float = 1.0 / 48.0,
    selectivity: float = 4.0,
) -> FusedTexture:
    """Blend the views' textures without seams.

    Low frequencies (light, exposure, tone) are blended over wide, feathered weights, so that no step is left; high
    frequencies (pores, hair) mostly from the best view, so that small misalignments do not blur them.

    Args:
        textures: [N, R, R, 3] linear RGB, T' of each view.
        weights: [N, R, R] visibility × angle × sharpness, 0 where a view does not see.
        equalise: Whether the views' gains are equalised first (cameras or light that differ).
        band: Border between the bands, standard deviation as a fraction of the map's width.
        selectivity: Power on the weights for the high band.

    Returns:
        The fused texture; inpaint what no view sees afterwards.
    """
    size = textures.shape[1]
    gains = equalising_gains(textures, weights) if equalise else textures.new_ones(textures.shape[0], 3)
    seen = (weights > 0).to(textures.dtype)
    balanced = textures * gains[:, None, None] * seen[..., None]
    low = masked_blur(balanced, seen, band * size)
    wide = _feathered(weights, seen, 2.0 * band * size)
    sharp = _feathered(weights, seen, 0.25 * band * size) ** selectivity
    colour = _blend(low, wide) + _blend(balanced - low, sharp)
    anyone = (seen.sum(0) > 0)[..., None]
    return FusedTexture(colour.clamp_min(0.0) * anyone, weights.sum(0), gains)


def _feathered(weights: Tensor, seen: Tensor, sigma: float) -> Tensor:
    """Smooth weights that fall to zero towards the border of what each view sees, so that no view ends in a step."""
    covered = smooth_blur(seen[..., None], sigma)[..., 0]
    smooth = masked_blur(weights[..., None], seen, sigma)[..., 0]
    inner = (2.0 * covered - 1.0).clamp(0.0, 1.0)
    # A texel that only one view sees needs some weight, however near to that view's border it is.
    return smooth * (inner * inner * (3.0 - 2.0 * inner) + 1e-4) * seen


def _blend(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over views of [N, R, R, 3]; zero where there is no weight."""
    # Relative to the best view first: high powers of small weights would underflow.
    weights = weights / weights.amax(0, keepdim=True).clamp_min(1e-30)
    total = weights.sum(0)
    return (values * weights[..., None]).sum(0) / torch.where(total > 0, total, torch.ones_like(total))[..., None]
