"""A0' and T0 of painted skin in known light: shading and shadows leave, spots stay, the tone is the photograph's."""

import pytest
import torch

from fitter.texture.colour import luminance
from fitter.texture.delight import TONE_RANGE, photograph_tone, skin_light, smooth_skin, weighted_median
from fitter.texture.deretouch import deretouched_albedo

SIZE = 128
MODEL = torch.tensor([0.35, 0.21, 0.16])
EVERYWHERE = torch.ones(SIZE, SIZE)


def _shading() -> torch.Tensor:
    """[n, n] smooth light from one side, 0.75 to 1.25."""
    return torch.linspace(0.75, 1.25, SIZE).expand(SIZE, SIZE)


def _skin(colour: torch.Tensor) -> torch.Tensor:
    """Bare skin with a mole of 4 texels, half as bright."""
    skin = colour.expand(SIZE, SIZE, 3).clone()
    skin[60:64, 40:44] *= 0.5
    return skin


def _albedo(texture: torch.Tensor, irradiance: torch.Tensor, plain: torch.Tensor = EVERYWHERE) -> torch.Tensor:
    base = MODEL.expand(SIZE, SIZE, 3)
    light = skin_light(irradiance[None], (EVERYWHERE * plain)[None])
    skin = smooth_skin(texture, base, light, EVERYWHERE, plain)
    return deretouched_albedo(skin.albedo, texture, skin.retouched)


def test_shading_leaves_and_the_mole_stays():
    shading = _shading()[..., None]
    albedo = _albedo(_skin(MODEL) * shading, shading.expand(SIZE, SIZE, 3))
    bare = albedo[8:56, 8:-8]
    assert torch.allclose(bare.mean((0, 1)), MODEL, rtol=0.04)
    assert float(bare.std((0, 1)).max() / bare.mean()) < 0.02  # the texture itself varies by 14 %
    assert torch.allclose(albedo[62, 42], 0.5 * MODEL, rtol=0.06)


def test_cast_shadow_that_the_light_does_not_explain_mostly_leaves():
    x = torch.linspace(-1, 1, SIZE)
    shadow = 1.0 - 0.45 * torch.exp(-4 * (x[:, None] ** 2 + x**2))[..., None]
    albedo = _albedo(_skin(MODEL) * shadow, torch.ones(SIZE, SIZE, 3))
    assert float(luminance(albedo[70, 64] / MODEL)) > 0.8 > 0.6 > float(shadow.min())


def test_lips_and_brows_keep_their_contrast():
    texture, plain = _skin(MODEL), EVERYWHERE.clone()
    lips = (slice(90, 104), slice(40, 90))
    texture[lips] *= torch.tensor([0.9, 0.5, 0.55])
    plain[86:108, 36:94] = 0.0
    albedo = _albedo(texture, torch.ones(SIZE, SIZE, 3), plain)
    assert torch.allclose(albedo[97, 65], MODEL * torch.tensor([0.9, 0.5, 0.55]), rtol=0.05)


def test_tone_is_between_the_models_and_the_photographs():
    """Skin twice as bright as the model's and less red: the fit calls that light; the albedo takes its share of it."""
    true = torch.tensor([0.6, 0.46, 0.36])
    irradiance = (true / MODEL).expand(SIZE, SIZE, 3)
    albedo = _albedo(_skin(true), irradiance)[8:50, 8:-8].mean((0, 1))
    assert float(luminance(MODEL)) * 1.2 < float(luminance(albedo)) < float(luminance(true))
    ratios = [float(colour[0] / colour[2]) for colour in (true, albedo, MODEL)]
    assert ratios == sorted(ratios) and ratios[1] - ratios[0] < 0.3 * (ratios[2] - ratios[0])


@pytest.mark.parametrize("exposure", [0.05, 0.3, 3.0, 20.0])
def test_exposure_changes_the_tone_within_bounds(exposure):
    tone = photograph_tone(torch.full((3,), exposure))
    assert torch.allclose(tone, tone[:1].expand(3))
    assert TONE_RANGE[0] - 1e-6 <= float(tone[0]) <= TONE_RANGE[1] + 1e-6
    assert torch.allclose(photograph_tone(torch.ones(3)), torch.ones(3))


def test_a_view_counts_where_it_sees():
    """Two lights, each view on its own half: the fused shading is each one's; a blind view has no say."""
    left = EVERYWHERE.clone()
    left[:, 64:] = 0.0
    first, second = torch.full((SIZE, SIZE, 3), 0.5), torch.full((SIZE, SIZE, 3), 2.0)
    second[:, 96:] = 2.4
    light = skin_light(torch.stack([first, second, -second]), torch.stack([left, 1 - left, 0 * left]))
    assert torch.allclose(light.colour, torch.full((3,), 1.25), atol=0.25)
    assert torch.allclose(light.shading[:, 5:58], torch.ones(SIZE, 53), atol=0.01)
    assert 1.1 < float(light.shading[:, 104:].mean() / light.shading[:, 70:90].mean()) < 1.21


def test_weighted_median_by_hand():
    values = torch.tensor([3.0, 1.0, 2.0])
    assert float(weighted_median(values, torch.tensor([1.0, 1.0, 1.0]))) == 2.0
    assert float(weighted_median(values, torch.tensor([5.0, 1.0, 1.0]))) == 3.0
    assert float(weighted_median(values, torch.tensor([0.0, 1.0, 0.0]))) == 1.0
