"""Inpainting of texels that no photograph shows: coarse to fine, by a pull-push pyramid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fitter.texture.filters import masked_blur, sample_grid


def pull_push(values: Tensor, weight: Tensor) -> Tensor:
    """Fill texels without weight from the nearest known ones, smoothly (Gortler et al. 1996).

    Pull: halve the map again and again, averaging by weight, until everything is known. Push: come back, and blend each
    texel with the coarser level by how little weight it has. Known texels (weight ≥ 1) keep their values exactly.

    Args:
        values: [..., R, R, C]; what stands where the weight is 0 is ignored.
        weight: [..., R, R] in [0, 1].

    Returns:
        [..., R, R, C]. All zero where nothing at all is known.
    """
    leading, channels = values.shape[:-3], values.shape[-1]
    colour = values.movedim(-1, -3).reshape(-1, channels, *values.shape[-3:-1])
    known = weight.to(values.dtype).reshape(-1, 1, *weight.shape[-2:]).clamp(0.0, 1.0)
    colour = torch.where(known > 0, colour, torch.zeros_like(colour))
    levels = [(colour, known)]
    while max(levels[-1][0].shape[-2:]) > 1:
        fine, have = levels[-1]
        odd = (0, fine.shape[-1] % 2, 0, fine.shape[-2] % 2)
        total = functional.avg_pool2d(functional.pad(have, odd), 2) * 4.0
        summed = functional.avg_pool2d(functional.pad(fine * have, odd), 2) * 4.0
        levels.append((torch.where(total > 0, summed / total.clamp_min(1e-12), 0.0), total.clamp_max(1.0)))
    filled = levels[-1][0]
    for fine, have in reversed(levels[:-1]):
        height, width = fine.shape[-2:]
        grown = functional.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = torch.lerp(grown[..., :height, :width], fine, have)
    return filled.reshape(*leading, channels, *values.shape[-3:-1]).movedim(-3, -1)


def inpaint_texture(
    texture: Tensor,
    weight: Tensor,
    valid: Tensor,
    *,
    mirror: Tensor | None = None,
    full_weight: float = 0.2,
    mirror_trust: float = 0.9,
) -> Tensor:
    """Fill the invisible part of a texture.

    Without a mirror the fill is smooth: colours flow in from the nearest visible skin. With one, a texel that only its
    mirror image shows takes that colour, made brighter or darker by the smooth ratio of the two sides where both are
    seen, so that the detail is plausible and one-sided light leaves no step. Both are guesses; keep the weight beside
    the texture to tell which texels were seen.

    Args:
        texture: [R, R, 3] linear RGB.
        weight: [R, R] in [0, 1], 0 where nothing is known (of `unwrap_texture` or `fuse_textures`).
        valid: [R, R] bool, texels of the atlas. Outside, colours are only continued, as padding for interpolation.
        mirror: [R, R, 2] where each texel's mirror image lies, in texels ((x, y), first centre at 0.5), or None.
        full_weight: Weight from which a texel is kept as it is; below, it is blended with the fill.
        mirror_trust: Weight of a fully seen mirrored texel.

    Returns:
        [R, R, 3], all texels filled.
    """
    known = (weight.to(texture.dtype) / full_weight).clamp(0.0, 1.0) * valid
    if mirror is None:
        return pull_push(texture, known)
    stacked = torch.cat([texture * known[..., None], known[..., None]], -1)
    mirrored = sample_grid(stacked, mirror)
    seen = mirrored[..., 3] * valid
    other = mirrored[..., :3] / mirrored[..., 3:].clamp_min(1e-6)
    other = other * _side_ratio(texture, other, torch.minimum(known, seen))
    offered = (1.0 - known) * seen * mirror_trust
    blended = torch.where(
        (known + offered)[..., None] > 0,
        (texture * known[..., None] + other * offered[..., None]) / (known + offered).clamp_min(1e-12)[..., None],
        torch.zeros_like(texture),
    )
    # Only what the mirror does not offer either is left to flow in.
    return pull_push(blended, (known + offered / mirror_trust).clamp(0.0, 1.0))


def _side_ratio(own: Tensor, other: Tensor, both: Tensor) -> Tensor:
    """Smooth ratio [R, R, 3] of the two sides' brightness where both are seen, continued everywhere else."""
    sigma = max(1.0, own.shape[0] / 32.0)
    low_own, low_other = masked_blur(own, both, sigma), masked_blur(other, both, sigma)
    log_ratio = torch.log((low_own + 1e-3) / (low_other + 1e-3)).clamp(-1.5, 1.5)
    return torch.exp(pull_push(log_ratio, both))
