"""De-retouching (HRN §3.4): the skin's fine colour goes into the albedo, so that geometry need not explain it."""

from __future__ import annotations

import torch
from torch import Tensor

from fitter.texture.colour import LUMINANCE

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


def without_highlights(ratio: Tensor, *, softness: float = 0.3, matt: float = 0.4) -> Tensor:
    """B with its highlights taken back: what is brighter than the skin around it is shine more often than skin.

    Brightness beyond the skin's is compressed, and its hue, which is the light's, fades to the skin's. Darker detail
    (moles, freckles, lips, brows, stubble) stays as it is.

    Args:
        ratio: B [R, R, 3].
        softness: Largest logarithm by which detail is brighter than the skin.
        matt: Logarithm of brightness at which the hue has half faded.
    """
    logarithm = torch.log(ratio.clamp_min(1e-4))
    brightness = (logarithm @ logarithm.new_tensor(LUMINANCE))[..., None]
    above = brightness.clamp_min(0.0)
    kept = torch.minimum(brightness, torch.zeros_like(brightness)) + softness * torch.tanh(above / softness)
    return torch.exp(kept + (logarithm - brightness) * torch.exp2(-((above / matt) ** 2)))


def deretouched_albedo(
    albedo: Tensor,
    texture: Tensor,
    retouched: Tensor,
    *,
    guard: float = GUARD,
    limit: float = 32.0,
) -> Tensor:
    """A' = A0 ⊙ (T' + φ(T0)) / (T0 + φ(T0)) (HRN eq. 3–6), highlights taken back.

    T0 = A0 ⊙ S and T' = A' ⊙ S share the shading S, so the ratio of the textures is that of the albedos. The paper's A0
    is the model's and its T0 comes from a network; see `fitter.texture.delight` for where ours come from. As our T0
    knows of no lips, brows and hair, the ratio may be much smaller than the paper's.

    Args:
        albedo: A0 [R, R, 3], linear RGB.
        texture: T' [R, R, 3], the texture, linear RGB.
        retouched: T0 [R, R, 3], T' without spots, lit alike.
        guard: See `guard_term`.
        limit: See `detail_ratio`.

    Returns:
        A' [R, R, 3] in [0, 1].
    """
    ratio = without_highlights(detail_ratio(texture, retouched, guard=guard, limit=limit))
    return (albedo * ratio).clamp(0.0, 1.0)
