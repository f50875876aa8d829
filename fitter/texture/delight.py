"""Skin without light: the low-frequency albedo A0' and the retouched texture T0 that de-retouching compares with.

HRN takes A0 from the face model and T0 from a network that paints spots out and leaves the shading in (§3.4). Here A0's
tone comes from the photograph, and T0 is made from the fit: its shading, times what is smooth in the texture without
that shading. Both are smooth, so they are found on a small grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.texture.colour import LUMINANCE, luminance
from fitter.texture.filters import masked_blur, smooth_blur

DARKEST = 2e-3
"""Linear value below which logarithms are cut off."""
WIDE, NARROW = 1.0 / 12.0, 1.0 / 40.0
"""Standard deviations of the two smoothings of the residual light, as fractions of the map's width."""
WHITE_BALANCE = 0.75
"""How much of the light's colour (relative to the model's skin) is the skin's own: photographs are mostly balanced."""
EXPOSURE = 0.5
"""How much of the light's brightness is the skin's own: a well-exposed portrait shows white things below 1."""
TONE_RANGE = (0.7, 1.6)
"""Least and largest change of the model's skin brightness."""
LEFT_SHADING = 0.25
"""How much of the smooth brightness that shading does not explain is taken to be skin (beard, tan), the rest light."""
SHADING_RANGE = 0.35
"""Largest change of the logarithm by the fitted shading: low-order harmonics overshoot at grazing angles."""
HUE_RANGE = 0.4
"""Largest smooth change of a channel's logarithm by skin hue (red cheeks, tan)."""


@dataclass(frozen=True)
class SkinLight:
    """What lights the skin in the fused texture."""

    shading: Tensor
    """[n, n] brightness relative to the mean on the skin; grey, as light of two colours cannot be told from hue."""
    colour: Tensor
    """[3] mean irradiance under which the model's albedo looks as the photographs, linear RGB."""


@dataclass(frozen=True)
class SmoothSkin:
    """A0' and T0, [n, n, 3] linear RGB each, and the model's albedo in the photograph's tone."""

    albedo: Tensor
    """A0': the skin without spots, lips or brows, in the photograph's tone."""
    retouched: Tensor
    """T0: A0' under the light of the photographs, cast shadows and highlights included."""
    gain: Tensor
    """[n, n, 3] factor that brings the model's albedo to that tone."""


def skin_light(irradiance: Tensor, weights: Tensor) -> SkinLight:
    """One light of the fused texture from those of the views.

    Args:
        irradiance: [N, n, n, 3] of each view, for the model's albedo; may be negative where no light was observed.
        weights: [N, n, n] how well each view shows plain skin; the views' share in the texture.
    """
    means, shadings = [], []
    for light, weight in zip(irradiance, weights, strict=True):
        seen = weight > 0.05
        if not bool(seen.any()):
            means.append(light.new_ones(3))
            shadings.append(torch.ones_like(weight))
            continue
        mean = torch.stack([weighted_median(light[..., channel][seen], weight[seen]) for channel in range(3)])
        mean = mean.clamp_min(DARKEST)
        logarithm = torch.log((luminance(light) / luminance(mean)).clamp_min(0.05))
        means.append(mean)
        shadings.append(torch.exp(SHADING_RANGE * torch.tanh(logarithm / SHADING_RANGE)))
    share = weights + 1e-6
    shading = (torch.stack(shadings) * share).sum(0) / share.sum(0)
    amount = weights.flatten(1).sum(1) + 1e-6
    colour = (torch.stack(means) * amount[:, None]).sum(0) / amount.sum()
    # Creases of a wrongly placed nose would be printed on the skin; what is finer than this is left to the texture.
    shading = smooth_blur(shading[..., None], shading.shape[-1] / 128.0)[..., 0]
    return SkinLight(
        shading / smooth_blur(torch.ones_like(shading)[..., None], shading.shape[-1] / 128.0)[..., 0], colour
    )


def photograph_tone(colour: Tensor) -> Tensor:
    """Factor [3] on the model's albedo for skin whose light seems to have a mean irradiance `colour` [3].

    Skin under light: only their product is seen. A reddish skin in white light and a white one in red light look the
    same. Photographs are balanced and exposed so that light is nearly white and nearly 1; the model says what skin is
    likely. The logarithm is divided between the two.
    """
    brightness = luminance(colour)
    tint = (colour / brightness) ** WHITE_BALANCE
    return tint * (brightness**EXPOSURE).clamp(*TONE_RANGE)


def smooth_skin(texture: Tensor, albedo: Tensor, light: SkinLight, weight: Tensor, plain: Tensor) -> SmoothSkin:
    """A0' and T0 of a texture.

    The texture is divided by shading and light. What then still differs smoothly from the model's skin is hue, which
    the skin keeps, and brightness, most of which is cast shadow, shine and misjudged light, and goes into T0. Lips,
    brows and everything else that is not plain skin have no say: the skin around flows in underneath them, so that
    against T0 they stand out with all their colour.

    Args:
        texture: T' [n, n, 3], linear RGB; what stands where the weight is 0 is ignored.
        albedo: A0 [n, n, 3], the model's.
        light: Of the texture.
        weight: [n, n] in [0, 1], how well the texture is seen.
        plain: [n, n] in [0, 1], 1 on bare skin of the face (no lips, brows, eyes).
    """
    size = texture.shape[0]
    tone = photograph_tone(light.colour)
    lit = light.shading[..., None] * (light.colour / tone)
    skin = torch.log((albedo * tone).clamp_min(DARKEST))
    difference = torch.log((texture / lit).clamp_min(DARKEST)) - skin
    weight = weight * plain
    brightness = _brightness(difference)
    # Darker than shadows are: hair. Brighter than skin: shine, whose hue is the light's.
    trusted = weight * _robust(brightness, 0.6)
    wide = _faded_blur(difference, trusted, WIDE * size)
    rest = difference - wide
    trusted = trusted * _robust(_brightness(rest), 0.3)
    smooth = wide + _faded_blur(rest, trusted, NARROW * size)
    matt = trusted * torch.exp(-((_brightness(difference - wide).clamp_min(0.0) / 0.1) ** 2))
    hue = _faded_blur(difference - _brightness(difference)[..., None], matt, NARROW * size)
    known = plain if bool((plain > 0).any()) else torch.ones_like(plain)
    bare = masked_blur(skin, known, NARROW * size)
    reach = smooth_blur(known[..., None], NARROW * size)
    bare = torch.lerp(skin, bare, (reach / 0.05).clamp(0.0, 1.0))
    shift = HUE_RANGE * torch.tanh(hue / HUE_RANGE) + LEFT_SHADING * _brightness(smooth)[..., None].clamp(-0.5, 0.5)
    return SmoothSkin(torch.exp(bare + shift), torch.exp(bare + smooth) * lit, tone * torch.exp(shift))


def weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """Value [] at which half of the weight is reached, of [K] values."""
    order = values.argsort()
    total = weight[order].cumsum(0)
    return values[order[(total < 0.5 * total[-1]).sum().clamp_max(len(values) - 1)]]


def _robust(residual: Tensor, scale: float) -> Tensor:
    """Geman-McClure's weight of residuals."""
    return (1.0 + (residual / scale) ** 2) ** -2


def _brightness(logarithm: Tensor) -> Tensor:
    """The part [...] of logarithms [..., 3] that all channels share, weighted as luminance."""
    return logarithm @ logarithm.new_tensor(LUMINANCE)


def _faded_blur(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Blur of [n, n, C] over weights [n, n] that goes to zero where there are none within reach."""
    total = smooth_blur(weight[..., None], sigma)
    return smooth_blur(values * weight[..., None], sigma) / (total + 0.02)
