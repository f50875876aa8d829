"""Photo-consistency: what it must not see, what it must see, and a depth recovered from parallax."""

from __future__ import annotations

import pytest
import torch

from fitter.energies.consistency import (
    consistency_terms,
    eliminate_texture,
    exposure_gains,
    robust_weight,
    typical_contrast,
    weighted_mean,
)

SIZE = 48
SETTINGS = {
    "gain": {"mode": "gain", "lowpass": 6.0, "window": 5.0, "sigma": 0.3},
    "lcn": {"mode": "lcn", "lowpass": 6.0, "window": 3.0, "sigma": 0.5},
}
MODES = sorted(SETTINGS)


def _texture(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Grey of a textured plane at any position, in samples."""
    waves = torch.sin(0.9 * u + 0.3 * v) + torch.cos(0.4 * u - 1.1 * v) + torch.sin(0.23 * u * 1.7 + 0.8 * v)
    return 0.45 + 0.06 * waves


def _grid() -> tuple[torch.Tensor, torch.Tensor]:
    v, u = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float64)] * 2, indexing="ij")
    return u, v


def _views(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """One texture seen alike by all views, under different weights."""
    values = _texture(*_grid()).expand(count, SIZE, SIZE).clone()
    random = torch.Generator().manual_seed(0)
    weight = 0.3 + 0.7 * torch.rand(count, SIZE, SIZE, generator=random, dtype=torch.float64)
    return values, weight


def _noisy(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    values, weight = _views(count)
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return values + 0.01 * noise, weight


@pytest.mark.parametrize("mode", MODES)
def test_views_that_agree_have_no_residual(mode):
    values, weight = _views()
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    # In lcn each view's floor of the contrast depends a little on where it sees well.
    assert float(terms.residual.abs().max()) < (1e-6 if mode == "gain" else 1e-2)
    assert float(terms.energy) < 1e-5 and float(terms.grey) < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_views_that_differ_have_one(mode):
    values, weight = _views()
    values[1] = _texture(_grid()[0] + 1.0, _grid()[1])
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    assert float(terms.residual.abs().mean()) > 0.3 and float(terms.energy) > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_contrast_does_not_matter(mode):
    """Photographs k times as bright have the same residuals: dark skin counts like bright skin."""
    values, weight = _noisy()
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    for factor in (0.4, 2.0):
        scaled = consistency_terms(values * factor, weight, **SETTINGS[mode])
        assert torch.allclose(scaled.residual, terms.residual, rtol=1e-3, atol=1e-4)
        assert torch.allclose(scaled.slope * factor, terms.slope, rtol=1e-3)
        assert float(scaled.grey) == pytest.approx(factor * float(terms.grey), rel=1e-3)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_variance_is_that_of_the_noise(factor):
    """Twice the noise has four times the variance, and it is the mean of the squared residuals."""
    values, weight = _noisy()
    louder = values + (factor - 1.0) * (values - _views()[0])
    terms, other = (consistency_terms(v, weight, **SETTINGS["gain"], robust=50.0) for v in (values, louder))
    assert float(terms.variance) == pytest.approx(float((terms.weight * terms.residual**2).sum() / terms.weight.sum()))
    before, after = (float(typical_contrast(v, weight, 5.0).mean()) for v in (values, louder))
    assert float(other.variance / terms.variance) == pytest.approx((factor * before / after) ** 2, rel=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_exposure_of_a_view_does_not_matter(mode):
    values, weight = _noisy()
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    exposure = torch.tensor([0.5, 1.0, 1.4], dtype=torch.float64)[:, None, None]
    exposed = consistency_terms(values * exposure, weight, **SETTINGS[mode])
    assert float((exposed.residual - terms.residual).abs().mean()) < 0.01 * float(terms.residual.abs().mean())


def test_gains_are_found():
    values, weight = _views()
    truth = torch.tensor([0.6, 1.1, 1.4], dtype=torch.float64)
    found = exposure_gains(values * truth[:, None, None], weight, rounds=12)
    assert torch.allclose(found / found[0], truth / truth[0], rtol=1e-3)
    assert float(found.log().sum()) == pytest.approx(0.0, abs=1e-9)


def test_smooth_light_is_taken_out():
    """`gain` compares what is finer than its low-pass: a slow change of light in one view leaves little."""
    values, weight = _views()
    u, _ = _grid()
    lit = values.clone()
    lit[0] = lit[0] + 0.05 * torch.sin(u / SIZE * 2.0)
    fine = values.clone()
    fine[0] = fine[0] + 0.05 * torch.sin(u * 1.5)
    slow, quick = (consistency_terms(v, weight, **SETTINGS["gain"]).residual[:, 8:-8, 8:-8] for v in (lit, fine))
    assert float(slow.abs().mean()) < 0.25 * float(quick.abs().mean())


@pytest.mark.parametrize("mode", MODES)
def test_what_one_view_sees_has_no_weight(mode):
    values, weight = _noisy()
    weight[1:, :, :20] = 0.0
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    assert float(terms.weight[:, :, :20].max()) == 0.0 and float(terms.residual[:, :, :20].abs().max()) == 0.0
    assert float(terms.weight[:, :, 24:].min()) > 0.0
    alone = consistency_terms(values[:1], weight[:1], **SETTINGS[mode])
    assert float(alone.weight.max()) == 0.0 and float(alone.energy) == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_what_a_view_does_not_see_does_not_matter(mode):
    values, weight = _noisy()
    weight[2, 10:30, 10:30] = 0.0
    first = consistency_terms(values, weight, **SETTINGS[mode])
    values[2, 10:30, 10:30] = 0.9
    second = consistency_terms(values, weight, **SETTINGS[mode])
    seen = weight > 0
    assert torch.allclose(first.residual[seen], second.residual[seen], atol=1e-6)


def test_a_gross_outlier_loses_its_weight():
    assert float(robust_weight(torch.tensor(0.0), 3.0)) == 1.0
    # Geman-McClure: the weight is the derivative of r² / (1 + r²/s²) with respect to r², by hand at r = s.
    assert float(robust_weight(torch.tensor(3.0), 3.0)) == pytest.approx(0.25)
    values, weight = _noisy()
    values[0, 20, 20] += 0.5
    terms = consistency_terms(values, weight, **SETTINGS["gain"])
    assert float(terms.weight[0, 20, 20]) < 0.02 * float(terms.weight[0, 30, 30])


@pytest.mark.parametrize("mode", MODES)
def test_slope_is_the_derivative_of_the_residual(mode):
    """With respect to a view's own grey, the mean held: a single sample barely moves its window's mean and contrast."""
    values, weight = _noisy(2)
    weight[0] *= 1e-3
    weight[0] += 0.02  # the mean follows view 1, so that view 0 changes alone
    terms = consistency_terms(values, weight, **SETTINGS[mode])
    step = 1e-4
    moved = values.clone()
    moved[0, 24, 24] += step
    change = consistency_terms(moved, weight, **SETTINGS[mode]).residual - terms.residual
    numeric = float(change[0, 24, 24]) / step
    assert numeric == pytest.approx(float(terms.slope[0, 24, 24]), rel=0.15)


def test_energy_against_a_loop():
    values, weight = _noisy(2)
    terms = consistency_terms(values, weight, **SETTINGS["gain"], robust=3.0)
    second = weight.amin(0)
    total = mass = 0.0
    for view in range(2):
        for i in range(SIZE):
            for j in range(SIZE):
                w = float(weight[view, i, j] * min(1.0, float(second[i, j]) / 0.25))
                r = float(terms.residual[view, i, j])
                total, mass = total + w * r**2 / (1 + r**2 / 9.0), mass + w
    assert float(terms.energy) == pytest.approx(total / mass, rel=1e-9)


def test_typical_contrast_of_noise():
    """White noise of deviation 0.02: a wide window finds it."""
    noise = 0.5 + 0.02 * torch.randn(2, 96, 96, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = typical_contrast(noise, torch.ones_like(noise), 4.0)
    assert torch.allclose(found, torch.full((2,), 0.02, dtype=torch.float64), rtol=0.05)


def test_eliminate_texture_against_a_loop():
    random = torch.Generator().manual_seed(2)
    slopes = torch.randn(3, 7, 2, 4, generator=random, dtype=torch.float64)
    weight = torch.rand(3, 7, generator=random, dtype=torch.float64)
    weight[:, 2] = 0.0
    found = eliminate_texture(slopes, weight)
    for k in range(7):
        mean = sum(weight[v, k] * slopes[v, k] for v in range(3)) / max(float(weight[:, k].sum()), 1e-6)
        for v in range(3):
            assert torch.allclose(found[v, k], slopes[v, k] - mean, atol=1e-12)
    assert float((weight[..., None, None] * found).sum(0).abs().max()) < 1e-12


def test_weighted_mean_of_nothing_is_zero():
    assert torch.equal(weighted_mean(torch.ones(2, 3), torch.zeros(2, 3)), torch.zeros(3))


@pytest.mark.parametrize("mode", MODES)
def test_parallax_gives_the_depth_of_a_plane(mode):
    """Two views whose samples slide apart by `disparity` per unit of depth: Gauss-Newton steps find the depth."""
    u, v = _grid()
    disparity, truth = torch.tensor([0.8, -0.8], dtype=torch.float64), 0.9
    weight = torch.ones(2, SIZE, SIZE, dtype=torch.float64)
    depth, step = 0.0, 1e-4
    for _ in range(8):
        # A view samples its photograph where the assumed depth sends the point; at the true depth, all see the same.
        shift = [float(d) * (depth - truth) for d in disparity]
        values = torch.stack([_texture(u + s, v) for s in shift])
        ahead = torch.stack([_texture(u + s + float(d) * step, v) for s, d in zip(shift, disparity, strict=True)])
        terms = consistency_terms(values, weight, **SETTINGS[mode])
        motion = (ahead - values) / step * terms.slope
        jacobian = eliminate_texture(motion.flatten(1), terms.weight.flatten(1))
        weighted = jacobian * terms.weight.flatten(1)
        depth -= float((weighted * terms.residual.flatten(1)).sum() / (weighted * jacobian).sum())
    assert depth == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize("mode", MODES)
def test_a_second_channel_has_the_first_ones_scale(mode):
    """Half as bright and half as noisy as the first, it is not brought to the first one's contrast: it counts half."""
    values, weight = _noisy()
    first = consistency_terms(values, weight, **SETTINGS[mode])
    second = consistency_terms(0.5 * values, weight, **SETTINGS[mode], beside=first)
    assert torch.equal(second.slope, first.slope)
    assert torch.allclose(second.residual, 0.5 * first.residual, atol=1e-5)
