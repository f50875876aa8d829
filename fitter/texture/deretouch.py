"""De-retouching (HRN §3.4): the skin's fine colour goes into the albedo, so that geometry need not explain it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fitter.texture.colour import luminance
from fitter.texture.filters import guided_filter

Retouch = Callable[[Tensor, Tensor], Tensor]
"""(T' [R, R, 3] linear RGB, weight [R, R]) -> T0 [R, R, 3]: the texture without moles, spots and freckles."""

GUARD = 1.0 / 255.0
"""Texture value below which the ratio is guarded; 1/255 is where the paper's φ acts for textures in 0–255."""


def guard_term(retouched: Tensor, guard: float = GUARD) -> Tensor:
    """φ of HRN eq. 6 for textures in 0–1.

    The paper's φ(T) = 1 / (T³ + ε), ε = 1e-6, keeps the ratio finite near 0 when T is in 0–255: there φ outweighs T
    only below T = 1. Taken literally for T in 0–1 it is above 1 everywhere and the ratio would always be about 1. With
    s = T / guard the rescaled φ(T) = guard / (s³ + ε) is exactly the paper's for guard = 1/255: φ(guard) = guard,
    φ falls with the third power above it and tends to guard / ε below.

    Args:
        retouched: T0, linear RGB in [0, 1].
        guard: Value of T0 at which φ is as large as T0 itself.
    """
    return guard / ((retouched.clamp_min(0.0) / guard) ** 3 + 1e-6)


def detail_ratio(texture: Tensor, retouched: Tensor, *, guard: float = GUARD, limit: float = 4.0) -> Tensor:
    """B = (T' + φ(T0)) / (T0 + φ(T0)), HRN eq. 5.

    φ alone lets B grow to 0.57 / guard for a bright texel over a nearly black T0, which a highlight on a lash does
    reach; B is therefore also kept within [1 / limit, limit].

    Args:
        texture: T', linear RGB in [0, 1].
        retouched: T0, likewise.
        guard: See `guard_term`.
        limit: Largest factor by which skin detail changes the albedo.
    """
    phi = guard_term(retouched, guard)
    return ((texture + phi) / (retouched + phi)).clamp(1.0 / limit, limit)


def smooth_retouch(
    texture: Tensor, weight: Tensor, *, radius: float = 1.0 / 64.0, contrast: float = 0.06, passes: int = 2
) -> Tensor:
    """The default retouch function: edge-preserving smoothing of the texture's logarithm.

    This is a filter, not the retouching network of the paper. It takes out whatever is smaller than its window and
    fainter than its contrast, moles and fine wrinkles alike; a learned retouch keeps the wrinkles in T0, so that
    shading can explain them. Deep folds, lips, brows and nostrils stay by their contrast. As it works on the
    logarithm, contrast is a ratio and does not depend on skin tone or exposure.

    Args:
        texture: T' [R, R, 3], linear RGB.
        weight: [R, R] in [0, 1]; texels of weight 0 neither count nor bleed.
        radius: Half the window, as a fraction of the map's width.
        contrast: Standard deviation of the logarithm within a window above which structure is kept.
        passes: How often the filter runs.

    Returns:
        T0 [R, R, 3].
    """
    size = max(1, round(radius * texture.shape[-2]))
    logarithm = torch.log(texture.clamp_min(0.0) + GUARD)
    known = (weight > 0).to(texture.dtype)
    for _ in range(passes):
        guide = torch.log(luminance(logarithm.exp()))[..., None]
        logarithm = guided_filter(guide, logarithm, known, size, contrast**2)
    retouched = (logarithm.exp() - GUARD).clamp_min(0.0)
    return torch.where(known[..., None] > 0, retouched, texture)


def deretouched_albedo(
    albedo: Tensor,
    texture: Tensor,
    weight: Tensor,
    *,
    retouch: Retouch = smooth_retouch,
    guard: float = GUARD,
    limit: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """A' = A0 ⊙ (T' + φ(T0)) / (T0 + φ(T0)) (HRN eq. 3–6).

    T0 = A0 ⊙ S and T' = A' ⊙ S share the shading S, so the ratio of the textures is that of the albedos.

    Args:
        albedo: A0 [R, R, 3], the model's albedo in the atlas, linear RGB.
        texture: T' [R, R, 3], the realigned texture, linear RGB.
        weight: [R, R] in [0, 1], 0 where the texture was not seen: A' = A0 there, fading in over small weights.
        retouch: Makes T0 of T'.
        guard: See `guard_term`.
        limit: See `detail_ratio`.

    Returns:
        A' [R, R, 3] in [0, 1], and T0 [R, R, 3].
    """
    retouched = retouch(texture, weight)
    ratio = detail_ratio(texture, retouched, guard=guard, limit=limit)
    seen = (weight.to(ratio.dtype) / 0.1).clamp(0.0, 1.0)[..., None]
    return (albedo * torch.lerp(torch.ones_like(ratio), ratio, seen)).clamp(0.0, 1.0), retouched
