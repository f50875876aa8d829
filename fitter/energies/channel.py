"""Which mixtures of red, green and blue the views agree on best: the channels that photo-consistency compares.

Reflection changes with the camera in two ways: the skin's own colour gets brighter or darker, and gloss of the light's
colour moves over it. On dark skin gloss is as strong as the skin itself, and in grey the views then agree on highlights,
which are not on the surface. A mixture of encoded red, green and blue with negative weights is blind to such changes
(with a known light: Mallick et al. 2005, "Beyond Lambert"); it also loses signal to noise. How much of each is in the
photographs decides: the mixtures are Fisher's linear discriminants (1936) of what the views have in common against what
they disagree on. The second says less than the first, but something else: it is uncorrelated with it in both. Light is
taken to be white, as a white-balanced camera shows it.

Blind to gloss of any strength are differences of linear light (red less blue, red less green): white adds the same to all
three. They are more noisy, and count for little on light skin. Whether they are mixed in, and how much gloss is to be
feared, are rules that the photographs are asked for (`fitter/optimise/mixture_choice.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.energies.consistency import exposure_gains, robust_weight, weighted_mean
from fitter.hierarchy.grid import masked_blur

GREY = (0.35, 0.5, 0.15)
"""Weights of red, green and blue where nothing can be compared."""
CHANNELS = 2
"""Mixtures that are compared; the third is mostly gloss and noise."""
DIFFERENCE_SCALE = 5.0
"""Of the differences of linear light, beside encoded colours. Larger than they are, so that `RIDGE` does not bar them."""
GAMMA = 2.4
"""Of the encoding, taken for a plain power: encoded = linear ** (1 / 2.4)."""
SAME_COLOUR = 0.1
"""Squared sine of the angle between the colours of skin and gloss below which their changes are not told apart."""
RIDGE = 0.03
"""Share of the mean disagreement that every channel has at least: no mixture may rest on a tiny difference."""
LEAST_SAMPLES = 200
"""Fewer samples that two views see decide nothing."""
HIGHLIGHT = 4.0
"""Gloss above the least glossy view's that counts as a highlight, in medians of all samples."""
HIGHLIGHT_WIDTH = 1.5
"""Width of the blur in which gloss is measured, samples of a grid of 192 a side."""
SEEN = 0.05
"""Least weight of a view that has a say in what the least gloss is."""


@dataclass(frozen=True)
class MixtureRule:
    """How the mixtures are found."""

    differences: bool = False
    """Whether differences of linear light are mixed in."""
    gloss: float = 8.0
    """Gloss counts so much more than its variance: it is sharp, so views agree on it, at a wrong depth."""
    doubt: float = 3.0
    """How steeply a mixture after the first loses its say where what the views share falls below what they disagree by.
    On very dark skin its disagreement is no noise that averages out, but reflection that pulls the surface away."""


USUAL = MixtureRule()
"""What is good on light skin and on dark skin alike."""


def with_differences(colours: Tensor) -> Tensor:
    """Encoded colours [..., 3, H, W], and behind them how far linear red is above linear blue and green: [..., 5, H, W]."""
    linear = colours.clamp_min(0.0) ** GAMMA
    red = linear[..., :1, :, :]
    return torch.cat([colours, DIFFERENCE_SCALE * (red - linear[..., [2, 1], :, :])], -3)


def equally_exposed(channels: Tensor, gains: Tensor) -> Tensor:
    """Mixtures [C, F] for each of N views [N, C, F], so that a view's exposure is a factor on them.

    A gain on encoded colours is its power `GAMMA` on linear light.

    Args:
        channels: [C, F] for views of one exposure.
        gains: [N] of each view's encoded colours.
    """
    factor = torch.ones(len(gains), 1, channels.shape[1]).to(channels)
    factor[..., 3:] = gains[:, None, None] ** (1.0 - GAMMA)
    return channels * factor


def discriminant_channels(colours: Tensor, weight: Tensor, lowpass: float, rule: MixtureRule = USUAL) -> Tensor:
    """Weights [C, F] of red, green and blue (F = 3), and of their differences (5), the best mixture first.

    The mixtures have equal disagreement, so that their residuals can be added as they are; after the first, one that shows
    less in common than that is weakened. The absolute values of the first sum to 1. Grey alone, C = 1, where hardly
    anything is seen twice.

    Args:
        colours: [N, 3, S, S] each view's sRGB-encoded colours at the surface's samples.
        weight: [N, S, S] how well each view sees the sample.
        lowpass: Width above which differences are broad, samples: what is finer counts as texture, what is broader as
            reflection. As wide as the low-pass that is taken out before the views are compared, or wider: where that is
            narrow, gloss and shading of middling width would count as texture.
        rule: Whether differences of linear light are mixed in (`with_differences`), and what is made of gloss.
    """
    grey = colours.new_tensor((*GREY, 0.0, 0.0) if rule.differences else GREY)
    both = (weight > 0.01).sum(0) > 1
    if int(both.sum()) < LEAST_SAMPLES:
        return grey[None]
    weight = weight * both
    even = _equal_exposure(colours, weight)
    if rule.differences:
        even = with_differences(even)
    wide = masked_blur(even, weight[:, None], lowpass)
    fine = (even - wide) * both
    # What is far off is hidden, or the edge of a brow that is not yet in place.
    length = (fine - weighted_mean(fine, weight[:, None]))[:, :3].square().sum(1).sqrt()
    typical = (length * weight).sum() / weight.sum().clamp_min(1e-6)
    trusted = weight * robust_weight(length, 2.0 * float(typical.clamp_min(1e-6)))
    total, common = pair_covariances(fine, trusted)
    skin = _mean_colour(even, trusted)
    disagreement = total - common + changing_reflection(wide * both, trusted, skin, rule.gloss)
    return _discriminants(common, disagreement, grey, rule.doubt).to(colours.dtype)


def highlight_trust(colours: Tensor, weight: Tensor) -> Tensor:
    """[N, S, S] in [0, 1]: low where a view sees a highlight that another view does not see.

    Gloss is read across the skin's own colour, so texture and shading do not count; that the least glossy view is the
    measure takes out what is the same in all views. The mixtures of `discriminant_channels` are blind to gloss to first
    order only; a highlight that outshines the skin is left out here.

    Args:
        colours: [N, 3, S, S] each view's sRGB-encoded colours at the surface's samples.
        weight: [N, S, S] how well each view sees the sample.
    """
    both = (weight > 0.01).sum(0) > 1
    if int(both.sum()) < LEAST_SAMPLES:
        return torch.ones_like(weight)
    weight = weight * both
    even = _equal_exposure(colours, weight)
    _, across = _gloss_directions(_mean_colour(even, weight))
    gloss = torch.einsum("c,ncij->nij", across / (across @ across).clamp_min(1e-9), even)
    gloss = masked_blur(gloss, weight, HIGHLIGHT_WIDTH * weight.shape[-1] / 192.0)
    seen = weight > SEEN
    least = torch.where(seen, gloss, torch.full_like(gloss, torch.inf)).amin(0)
    excess = torch.where(seen, gloss - least, torch.zeros_like(gloss))
    typical = excess[excess > 0].median() if bool((excess > 0).any()) else excess.new_ones(())
    return robust_weight(excess, HIGHLIGHT * float(typical.clamp_min(1e-6)))


def colour_gains(colours: Tensor, weight: Tensor) -> Tensor:
    """Relative exposure [N] of encoded colours [N, 3, S, S] under weights [N, S, S]."""
    return exposure_gains((colours * colours.new_tensor(GREY)[:, None, None]).sum(1), weight)


def _equal_exposure(colours: Tensor, weight: Tensor) -> Tensor:
    """Colours [N, 3, S, S] of all views at one exposure."""
    return colours / colour_gains(colours, weight)[:, None, None, None]


def _mean_colour(colours: Tensor, weight: Tensor) -> Tensor:
    """[F] mean of colours [N, F, S, S] under weights [N, S, S]."""
    return (colours * weight[:, None]).sum((0, 2, 3)) / weight.sum().clamp_min(1e-6)


def _gloss_directions(skin: Tensor) -> tuple[Tensor, Tensor]:
    """How white light changes an encoded colour [3], or with differences [5]: the unit direction, and its part across the
    colour itself. Differences of linear light stay as they are."""
    body = skin / skin.norm()
    white = skin.clamp_min(0.02) ** (1.0 - GAMMA)
    white[3:] = 0.0
    white = white / white.norm()
    return white, white - (white @ body) * body


def pair_covariances(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Second moments [C, C] of values [N, C, S, S] in a view, and between two different views, over all pairs of views.

    What only one view sees is in the first and not in the second.
    """
    others = weight.sum(0) - weight
    within = torch.einsum("nij,ncij,ndij->cd", weight * others, values, values)
    summed = (values * weight[:, None]).sum(0)
    own = torch.einsum("nij,ncij,ndij->cd", weight * weight, values, values)
    between = torch.einsum("cij,dij->cd", summed, summed) - own
    count = (weight * others).sum().clamp_min(1e-6)
    return within / count, between / count


def changing_reflection(wide: Tensor, weight: Tensor, skin: Tensor, gloss: float = USUAL.gloss) -> Tensor:
    """How reflection changes with the view, [F, F]: as the broad differences show it, and gloss once more.

    In broad differences texture that is not yet in place averages out. Among them gloss is what cannot be the skin's own
    colour: it is read across that colour.

    Args:
        wide: [N, F, S, S] colours without fine texture.
        weight: [N, S, S].
        skin: [F] mean encoded colour.
        gloss: How much more than its variance gloss counts.
    """
    change = wide - weighted_mean(wide, weight[:, None])
    change = torch.einsum("nij,ncij,ndij->cd", weight, change, change) / weight.sum().clamp_min(1e-6)
    white, across = _gloss_directions(skin)
    squared_sine = across @ across
    strength = (across @ change @ across) / squared_sine.clamp_min(1e-9) / (squared_sine + SAME_COLOUR)
    return change + gloss * strength * white[:, None] * white


def _discriminants(common: Tensor, disagreement: Tensor, grey: Tensor, doubt: float) -> Tensor:
    """The directions [C, F] in which `common` is largest relative to `disagreement` (both [F, F]), double precision."""
    common, disagreement = common.double(), disagreement.double()
    floor = RIDGE * disagreement.diagonal()[:3].mean() + 1e-9
    disagreement = disagreement + floor * torch.eye(len(common), device=common.device, dtype=common.dtype)
    root = torch.linalg.inv(torch.linalg.cholesky(disagreement))
    shared, vectors = torch.linalg.eigh(root @ common @ root.T)
    channels = (root.T @ vectors).flip(1).T[:CHANNELS]
    # A further mixture in which the views differ more than they agree speaks of reflection, and no longer of the surface.
    doubtful = shared.flip(0)[1:CHANNELS].clamp_min(0.0) ** doubt
    channels[1:] *= (doubtful / (1.0 + doubtful)).sqrt()[:, None]
    # Brighter stays brighter: the sign in which a mixture goes with grey.
    channels = torch.where((channels @ common @ grey.double())[:, None] >= 0, channels, -channels)
    return channels / channels[0].abs().sum()
