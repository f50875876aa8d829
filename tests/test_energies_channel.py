"""The channel that views agree on: gloss, noise and texture of known colours, put into views by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fitter.energies.channel import (
    DIFFERENCE_SCALE,
    GREY,
    MixtureRule,
    changing_reflection,
    discriminant_channels,
    equally_exposed,
    highlight_trust,
    pair_covariances,
    with_differences,
)

SIZE, VIEWS, LOWPASS = 64, 4, 4.0
DARK = torch.tensor([0.40, 0.28, 0.20], dtype=torch.float64)
LIGHT = torch.tensor([0.72, 0.60, 0.55], dtype=torch.float64)


def _noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _views(skin: torch.Tensor, melanin: tuple[float, float, float], gloss: float, noise: float) -> torch.Tensor:
    """[N, 3, S, S] encoded: one texture in all views, in each view other gloss in white light, and noise."""
    texture = torch.tensor(melanin, dtype=torch.float64)[:, None, None] * _noise(SIZE, SIZE, seed=0)
    linear = (skin[:, None, None] + texture).clamp_min(0.01) ** 2.4
    v, u = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float64)] * 2, indexing="ij")
    views = []
    for view in range(VIEWS):
        lobe = torch.exp(-((u - 12.0 - 11.0 * view) ** 2 + (v - 30.0) ** 2) / 150.0)
        glitter = lobe * (1.0 + 0.5 * _noise(SIZE, SIZE, seed=5 + view)).clamp_min(0.0)
        views.append((linear + gloss * glitter) ** (1 / 2.4) + noise * _noise(3, SIZE, SIZE, seed=20 + view))
    return torch.stack(views)


def _response(channel: torch.Tensor, skin: torch.Tensor) -> tuple[float, float]:
    """Share of a change of the skin's own colour, and of white light on it, that a channel sees (of grey's share)."""
    changes = (skin, skin**-1.4)
    return tuple(float((channel @ c).abs() / (torch.tensor(GREY, dtype=torch.float64) @ c)) for c in changes)


def test_without_gloss_the_better_channel_counts_more():
    """Equal noise, twice the texture in green as in red and blue: the discriminant is the matched filter (1, 2, 1)."""
    channel = discriminant_channels(
        _views(LIGHT, (0.01, 0.02, 0.01), 0.0, 0.01), torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64), LOWPASS
    )[0]
    assert float(channel.abs().sum()) == pytest.approx(1.0)
    assert channel.numpy() == pytest.approx(np.array([0.25, 0.5, 0.25]), abs=0.06)


def test_gloss_on_dark_skin_is_not_seen():
    views = _views(DARK, (0.03, 0.02, 0.012), 0.05, 0.003)
    channel = discriminant_channels(views, torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64), LOWPASS)[0]
    texture, gloss = _response(channel, DARK)
    assert gloss < 0.1 and texture > 0.15
    assert float(channel @ torch.tensor([0.03, 0.02, 0.012], dtype=torch.float64)) > 0


def test_less_gloss_weighs_less():
    """With the same noise, a channel gives up more signal for blindness the more gloss there is."""
    weight = torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64)
    seen = [
        _response(discriminant_channels(_views(DARK, (0.03, 0.02, 0.012), gloss, 0.01), weight, LOWPASS)[0], DARK)[1]
        for gloss in (0.0, 0.004, 0.05)
    ]
    assert seen[0] > seen[1] > seen[2]


def test_exposure_and_unseen_views_do_not_matter():
    views = _views(DARK, (0.03, 0.02, 0.012), 0.03, 0.004)
    weight = torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64)
    channels = discriminant_channels(views, weight, LOWPASS)
    exposed = views * torch.tensor([0.8, 1.0, 1.1, 1.3], dtype=torch.float64)[:, None, None, None]
    assert discriminant_channels(exposed, weight, LOWPASS)[0].numpy() == pytest.approx(channels[0].numpy(), abs=0.03)
    weight[3] = 0.0
    first = discriminant_channels(views, weight, LOWPASS)
    views[3] = 0.9
    assert torch.allclose(first, discriminant_channels(views, weight, LOWPASS))


def test_grey_where_nothing_is_seen_twice():
    views = _views(LIGHT, (0.02, 0.02, 0.02), 0.0, 0.01)
    weight = torch.zeros(VIEWS, SIZE, SIZE, dtype=torch.float64)
    weight[0] = 1.0
    assert discriminant_channels(views, weight, LOWPASS).numpy() == pytest.approx(np.array([GREY]))


def test_a_second_mixture_of_noise_has_no_say():
    """One pattern in all colours: what the first mixture leaves is noise alone."""
    texture = 0.02 * _noise(SIZE, SIZE, seed=1) * torch.ones(3, 1, 1, dtype=torch.float64)
    noise = torch.stack([0.01 * _noise(3, SIZE, SIZE, seed=30 + view) for view in range(VIEWS)])
    channels = discriminant_channels(
        LIGHT[:, None, None] + texture + noise, torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64), LOWPASS
    )
    assert float(channels[1].abs().sum()) < 0.05


def test_the_second_mixture_disagrees_as_much_and_says_something_else():
    """Blood in green, melanin in red and blue, each with its own pattern: two mixtures hold both."""
    blood, melanin = _noise(SIZE, SIZE, seed=1), _noise(SIZE, SIZE, seed=2)
    texture = torch.stack([0.03 * melanin, 0.02 * blood, 0.02 * melanin])
    noise = torch.stack([0.01 * _noise(3, SIZE, SIZE, seed=30 + view) for view in range(VIEWS)])
    channels = discriminant_channels(
        LIGHT[:, None, None] + texture + noise, torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64), LOWPASS
    )
    assert channels.shape == (2, 3)
    spread = torch.einsum("kc,ncij->nkij", channels, noise).std(dim=(0, 2, 3))
    assert float(spread[1] / spread[0]) == pytest.approx(0.9, abs=0.15)
    seen = torch.einsum("kc,cij->kij", channels, texture).flatten(1)
    assert abs(float(torch.corrcoef(seen)[0, 1])) < 0.1
    # Red and blue together carry more than green alone; the other mixture is what they leave: green.
    assert float(channels[0, [0, 2]].abs().sum()) > 3 * float(channels[0, 1].abs())
    assert float(channels[1, 1].abs()) > 3 * float(channels[1, [0, 2]].abs().sum())


def test_pair_covariances_against_loops():
    values, weight = (
        _noise(3, 3, 5, 6, seed=1),
        torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(2)).double(),
    )
    within, between, count = np.zeros((3, 3)), np.zeros((3, 3)), 0.0
    for one in range(3):
        for other in range(3):
            if one == other:
                continue
            for i in range(5):
                for j in range(6):
                    w = float(weight[one, i, j] * weight[other, i, j])
                    a, b = values[one, :, i, j].numpy(), values[other, :, i, j].numpy()
                    within += w * np.outer(a, a)
                    between += w * np.outer(a, b)
                    count += w
    found = pair_covariances(values, weight)
    assert found[0].numpy() == pytest.approx(within / count, rel=1e-9)
    assert found[1].numpy() == pytest.approx(between / count, rel=1e-9)


def test_changes_of_the_skins_own_colour_are_not_taken_for_gloss():
    """Views that differ in the brightness of the skin only add nothing in the direction of white light."""
    weight = torch.ones(2, SIZE, SIZE, dtype=torch.float64)
    body = DARK / DARK.norm()
    wide = DARK[None, :, None, None] + body[None, :, None, None] * 0.02 * _noise(2, 1, SIZE, SIZE, seed=3)
    change = changing_reflection(wide, weight, DARK)
    values, vectors = torch.linalg.eigh(change)
    assert float((vectors[:, -1] @ body).abs()) == pytest.approx(1.0, abs=1e-6)
    assert float(values[:2].abs().max()) < 1e-9 * float(values[-1])


def test_highlights_lose_trust_and_texture_does_not():
    views = _views(DARK, (0.03, 0.02, 0.012), 0.15, 0.002)
    weight = torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64)
    trust = highlight_trust(views, weight)
    for view in range(VIEWS):
        peak = 12 + 11 * view
        assert float(trust[view, 28:32, peak - 2 : peak + 3].mean()) < 0.1
    assert float(trust[:, 56:].min()) > 0.8
    plain = highlight_trust(_views(DARK, (0.03, 0.02, 0.012), 0.0, 0.002), weight)
    assert float((plain > 0.5).double().mean()) > 0.95


def test_trust_where_nothing_is_seen_twice():
    views, weight = _views(LIGHT, (0.02, 0.02, 0.02), 0.1, 0.0), torch.zeros(VIEWS, SIZE, SIZE, dtype=torch.float64)
    weight[1] = 1.0
    assert float(highlight_trust(views, weight).min()) == 1.0


def test_differences_of_linear_light_by_hand():
    """White light on top changes the colours and not their differences."""
    linear = torch.tensor([0.30, 0.15, 0.05], dtype=torch.float64)
    dull, glossy = (with_differences((linear + white).pow(1 / 2.4)[:, None, None])[:, 0, 0] for white in (0.0, 0.4))
    assert dull[3:].numpy() / DIFFERENCE_SCALE == pytest.approx([0.25, 0.15])
    assert glossy[3:].numpy() == pytest.approx(dull[3:].numpy())
    assert float((glossy - dull)[:3].min()) > 0.1


def test_mixtures_of_exposed_views_are_the_mixture_exposed():
    """A view with other exposure shows its own mixture, times that exposure."""
    colours = 0.2 + 0.4 * torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    channels, gains = _noise(2, 5, seed=2), torch.tensor([0.7, 1.0, 1.5], dtype=torch.float64)
    own = equally_exposed(channels, gains)
    even = torch.einsum("cf,fij->cij", channels, with_differences(colours))
    for gain, mixture in zip(gains, own, strict=True):
        seen = torch.einsum("cf,fij->cij", mixture, with_differences(gain * colours))
        assert seen.numpy() == pytest.approx((gain * even).numpy(), rel=1e-9)


def test_with_differences_strong_gloss_is_not_seen():
    """Gloss as bright as dark skin itself: a mixture of encoded colours is blind to faint gloss only."""
    views = _views(DARK, (0.03, 0.02, 0.012), 0.12, 0.003)
    weight = torch.ones(VIEWS, SIZE, SIZE, dtype=torch.float64)
    melanin = torch.tensor([0.03, 0.02, 0.012], dtype=torch.float64)
    seen = []
    for rule in (MixtureRule(), MixtureRule(differences=True)):
        channel = discriminant_channels(views, weight, LOWPASS, rule)[0]

        def value(encoded: torch.Tensor, channel: torch.Tensor = channel) -> torch.Tensor:
            features = encoded if len(channel) == 3 else with_differences(encoded[:, None, None])[:, 0, 0]
            return channel @ features

        gloss = value((DARK**2.4 + 0.12) ** (1 / 2.4)) - value(DARK)
        seen.append(float((gloss / (value(DARK + melanin) - value(DARK))).abs()))
    assert seen[1] < 0.5 * seen[0]
