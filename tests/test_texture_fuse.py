"""Fusion: known gains come back, seams vanish, detail stays sharp."""

import pytest
import torch

from fitter.texture.filters import smooth_blur
from fitter.texture.fuse import equalising_gains, fuse_textures, sharpness_weight

SIZE = 96


def _truth() -> torch.Tensor:
    noise = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.25 + 0.2 * smooth_blur(noise, 2.0) + 0.05 * noise


def _halves() -> torch.Tensor:
    """Three views that overlap in a chain: left, middle, right."""
    weights = torch.zeros(3, SIZE, SIZE, dtype=torch.float64)
    weights[0, :, :48] = 1.0
    weights[1, :, 30:70] = 1.0
    weights[2, :, 56:] = 1.0
    return weights


def test_gains_of_a_chain_are_recovered():
    applied = torch.tensor([[1.2, 1.0, 0.9], [1.0, 1.0, 1.0], [0.8, 0.9, 1.1]], dtype=torch.float64)
    textures = _truth() * applied[:, None, None]
    gains = equalising_gains(textures, _halves())
    expected = 1.0 / applied
    expected = expected / expected.log().mean(0).exp()
    assert torch.allclose(gains, expected, rtol=1e-6)
    assert torch.allclose(gains.log().mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9)


def test_views_without_overlap_keep_their_brightness():
    weights = _halves()[[0, 2]]
    weights[0, :, 40:] = 0.0
    gains = equalising_gains(torch.stack([_truth(), 0.5 * _truth()]), weights)
    assert torch.allclose(gains, torch.ones(2, 3, dtype=torch.float64))


def test_agreeing_views_fuse_to_the_truth():
    truth, weights = _truth(), _halves()
    textures = truth.expand(3, SIZE, SIZE, 3) * (weights > 0)[..., None]
    fused = fuse_textures(textures, weights)
    # Not exact: near its border a view's low band rests on fewer texels than its neighbour's.
    error = (fused.colour - truth).abs()
    assert float(error.max()) < 0.01 and float(error.mean()) < 2e-4
    assert torch.allclose(fused.weight, weights.sum(0))


def test_a_seam_of_smoothly_differing_light_vanishes():
    truth, weights = _truth(), _halves()[[0, 2]]
    weights[0, :, :64], weights[1, :, 32:] = 1.0, 1.0
    # Light that varies over each view: no single gain can equalise it.
    slope = torch.linspace(0.8, 1.3, SIZE, dtype=torch.float64)[None, :, None]
    textures = torch.stack([truth * slope, truth * slope.flip(1)]) * (weights > 0)[..., None]
    fused = fuse_textures(textures, weights)
    step = (fused.colour / truth).mean((0, 2)).diff().abs().max()
    hard = torch.where((torch.arange(SIZE) < 48)[:, None], textures[0], textures[1])
    hard_step = (hard / truth).mean((0, 2)).diff().abs().max()
    plain = (textures * weights[..., None]).sum(0) / weights.sum(0)[..., None]
    plain_step = (plain / truth).mean((0, 2)).diff().abs().max()
    assert float(step) < 0.03 and float(step) < 0.4 * float(plain_step)
    assert float(hard_step) < 0.03 or float(step) < float(hard_step)


def test_detail_comes_from_the_better_view_and_is_not_averaged_away():
    truth = _truth()
    shifted = truth.roll(2, 1)  # a view that is two texels misaligned
    weights = torch.stack([torch.full((SIZE, SIZE), 1.0), torch.full((SIZE, SIZE), 0.5)]).double()
    fused = fuse_textures(torch.stack([truth, shifted]), weights)
    average = (truth + 0.5 * shifted) / 1.5

    def detail(texture):
        return (texture - smooth_blur(texture, 2.0))[8:-8, 8:-8]

    assert float((detail(fused.colour) - detail(truth)).std()) < 0.3 * float((detail(average) - detail(truth)).std())


def test_unseen_is_zero_and_finite():
    weights = _halves()
    weights[:, :10] = 0.0
    textures = torch.rand(3, SIZE, SIZE, 3, dtype=torch.float64) * (weights > 0)[..., None]
    fused = fuse_textures(textures, weights)
    assert torch.equal(fused.colour[:10], torch.zeros(10, SIZE, 3, dtype=torch.float64))
    assert torch.isfinite(fused.colour).all() and float(fused.colour[10:].min()) >= 0.0
    single = fuse_textures(textures[:1], weights[:1])
    seen = weights[0] > 0
    assert torch.allclose(single.colour[seen], textures[0][seen], atol=1e-9)


def test_sharpness_weight():
    footprint = torch.tensor([0.5, 1.0, 4.0])
    assert sharpness_weight(footprint).tolist() == [0.25, 1.0, 1.0]
    assert float(sharpness_weight(torch.tensor(1.0), blur=1.0)) == pytest.approx(0.2)
