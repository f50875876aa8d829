"""Photo-consistency: where several views see a point of the surface, they agree on how it looks.

The texture is eliminated: each view is compared with the weighted mean over the views. The comparison is made on
mixtures of sRGB-encoded colours, sampled on the atlas, so that low-pass filters follow the surface and not the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.hierarchy.grid import WIDEST_BLUR, masked_blur

PAIR_WEIGHT = 0.25
"""Weight of the second-best view from which on a sample counts in full."""


@dataclass(frozen=True)
class Agreement:
    """How well the views agree on a channel."""

    weight: Tensor
    """[N, S, S] robust weights."""
    energy: Tensor
    """[] robust energy, mean per sample."""
    variance: Tensor
    """[] mean squared residual, robustly weighted: what the views really disagree by, in the expected disagreement's
    square."""


@dataclass(frozen=True)
class ConsistencyTerms:
    """The linearised energy: sum of weight * (residual + slope * change of grey)²."""

    residual: Tensor
    """[N, S, S] in units of the expected disagreement."""
    slope: Tensor
    """[N, S, S] derivative of the residual with respect to the view's own grey (before the mean is taken out)."""
    weight: Tensor
    """As in `Agreement`, like the next two."""
    energy: Tensor
    variance: Tensor
    grey: Tensor
    """[] root-mean-square disagreement in grey, robustly weighted (for reports)."""


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over views (first axis), 0 where nothing sees."""
    return (values * weight).sum(0) / weight.sum(0).clamp_min(1e-6)


def local_contrast(values: Tensor, weight: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Local mean and standard deviation [N, S, S] under `weight`, in a Gaussian window of `sigma` samples."""
    mean = masked_blur(values, weight, sigma)
    variance = masked_blur((values - mean) ** 2, weight, sigma)
    return mean, variance.clamp_min(1e-12).sqrt()


def typical_contrast(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Each view's typical local contrast [N]: the weighted mean of its local deviation, where it sees well.

    The scale of every residual is stated relative to it. A scale fixed in image units would trust bright skin more than
    dark skin, and a well exposed photograph more than a dim one.
    """
    _, deviation = local_contrast(values, weight, sigma)
    return (deviation * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)


def exposure_gains(values: Tensor, weight: Tensor, rounds: int = 4) -> Tensor:
    """Relative exposure [N] of views [N, S, S] of one surface: I_v = gain_v * texture, product of gains 1.

    Alternates texture and gains, with samples that disagree by more than a quarter left out; not in the first round, in
    which a view of quite another exposure would disagree everywhere.
    """
    gain = torch.ones(values.shape[0], 1, 1, dtype=values.dtype, device=values.device)
    trusted = weight
    for index in range(rounds):
        texture = weighted_mean(values / gain, trusted)
        if index > 0:
            ratio = values / (gain * texture.clamp_min(1e-3))
            trusted = weight * ((ratio - 1.0).abs() < 0.25)
        step = (trusted * values * texture).sum((1, 2)) / (trusted * texture**2).sum((1, 2)).clamp_min(1e-6)
        gain = torch.where(step[:, None, None] > 0, step[:, None, None], gain)
        gain = gain / gain.log().mean().exp()
    return gain[:, 0, 0]


def robust_weight(residual: Tensor, scale: float) -> Tensor:
    """Geman-McClure weight, 1 at zero."""
    return (1.0 + (residual / scale) ** 2) ** -2


def robust_energy(residual: Tensor, scale: float) -> Tensor:
    """Geman-McClure energy: the square of small residuals, at most `scale` squared."""
    ratio = (residual / scale) ** 2
    return scale**2 * ratio / (1.0 + ratio)


def agreement(residual: Tensor, weight: Tensor, robust: float) -> Agreement:
    """Sum up a residual [N, S, S] under weights [N, S, S] with a Geman-McClure scale."""
    trusted = weight * robust_weight(residual, robust)
    energy = (weight * robust_energy(residual, robust)).sum() / weight.sum().clamp_min(1e-6)
    variance = (trusted * residual**2).sum() / trusted.sum().clamp_min(1e-6)
    return Agreement(trusted, energy, variance)


def paired_weight(weight: Tensor) -> Tensor:
    """Weights [N, S, S] under which views are compared, from how well each sees a sample.

    A sample is worth what its second-best view is worth: beside a single good view a grazing one only adds noise.
    """
    second = weight.topk(2, dim=0).values[1] if weight.shape[0] > 1 else torch.zeros_like(weight[0])
    return weight * (second > 0.01).to(weight.dtype) * (second / PAIR_WEIGHT).clamp(max=1.0)


def common_scale(values: Tensor, weight: Tensor, mode: str, window: float) -> Tensor:
    """What brings the views [N, S, S] of a channel to one scale, [N, 1, 1]; `weight` as of `paired_weight`.

    In mode `gain` factors that bring them to one exposure, in units of the common contrast; in mode `lcn` each view's
    typical contrast.
    """
    if mode == "lcn":
        return typical_contrast(values, weight, window).clamp_min(1e-4)[:, None, None]
    gain = exposure_gains(values, weight)[:, None, None]
    common = typical_contrast(values / gain, weight, window).mean().clamp_min(1e-4)
    return 1.0 / (gain * common)


def disagreement(
    values: Tensor,
    weight: Tensor,
    seen: Tensor,
    scale: Tensor | None,
    *,
    mode: str,
    lowpass: float,
    window: float,
    sigma: float,
    slope: Tensor | None = None,
    widest: float = WIDEST_BLUR,
) -> tuple[Tensor, Tensor]:
    """What each view differs by from the mean of the views, in units of the expected disagreement.

    Args:
        values: [..., N, S, S] channel of each view.
        weight: [N, S, S] of `paired_weight`.
        seen: [N, S, S] 1 where a view sees the sample at all.
        scale: [N, 1, 1] of `common_scale`; None where a slope is given.
        mode: As in `consistency_terms`.
        lowpass: Same.
        window: Same.
        sigma: Same.
        slope: Of another channel of the same photographs, whose scale these values are to have.
        widest: Width from which on the low-pass is made on a coarser grid, samples.

    Returns:
        The residual [..., N, S, S], 0 where fewer than two views see, and its derivative with respect to the view's
        own value before the mean is taken out, broadcastable to it.
    """
    both = (weight.sum(0) > 0).to(values.dtype)
    if mode == "lcn":
        mean, deviation = local_contrast(values, seen, window)
        slope = 1.0 / (deviation + 0.35 * scale) if slope is None else slope * sigma
        normal = (values - mean) * slope
        difference = normal - _mean_of_views(normal, weight)
    else:
        slope = scale if slope is None else slope * sigma
        normal = values * slope
        difference = normal - _mean_of_views(normal, weight)
        difference = difference - masked_blur(difference, weight, lowpass, widest)
    return difference / sigma * both, slope / sigma


def _mean_of_views(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the views of [..., N, S, S], kept as an axis."""
    return (values * weight).sum(-3, keepdim=True) / weight.sum(-3, keepdim=True).clamp_min(1e-6)


def consistency_terms(
    values: Tensor,
    weight: Tensor,
    *,
    mode: str,
    lowpass: float,
    window: float,
    sigma: float,
    robust: float = 3.0,
    beside: ConsistencyTerms | None = None,
) -> ConsistencyTerms:
    """Compare one channel of the views on the atlas.

    Args:
        values: [N, S, S] channel of each view, sRGB-encoded.
        weight: [N, S, S] how well each view sees the sample (visibility, angle).
        mode: `gain`: the low-pass of each view's deviation from the mean is taken out (light and exposure may differ
            smoothly); `lcn`: each view is normalised by its local mean and contrast, for views that differ more.
        lowpass: Width of the `gain` low-pass, samples.
        window: Width of the window for local contrast, samples.
        sigma: Expected disagreement, relative to the contrast of the view (`gain`) or to local contrast (`lcn`).
        robust: Geman-McClure scale, in units of `sigma`.
        beside: Terms of another channel of the same photographs, whose scale these values are to have: exposure and
            contrast are found once, and channels of equal noise then count by their own texture.
    """
    seen = (weight > 0).to(values.dtype)
    weight = paired_weight(weight)
    # Exposure and contrast are found once per photograph.
    scale = common_scale(values, weight, mode, window) if beside is None else None
    residual, slope = disagreement(
        values,
        weight,
        seen,
        scale,
        mode=mode,
        lowpass=lowpass,
        window=window,
        sigma=sigma,
        slope=None if beside is None else beside.slope,
    )
    slope = slope.expand_as(residual)
    found = agreement(residual, weight, robust)
    grey = ((found.weight * (residual / slope) ** 2).sum() / found.weight.sum().clamp_min(1e-6)).sqrt()
    return ConsistencyTerms(residual, slope, found.weight, found.energy, found.variance, grey)


def eliminate_texture(slopes: Tensor, weight: Tensor) -> Tensor:
    """Take the weighted mean over views out of per-view derivatives [N, K, ...] under weights [N, K]."""
    expanded = weight.reshape(*weight.shape, *([1] * (slopes.ndim - 2)))
    return slopes - weighted_mean(slopes, expanded)
