"""De-retouching: the paper's φ in its own range, the ratio by hand, the default filter's behaviour."""

import pytest
import torch

from fitter.texture.deretouch import (
    GUARD,
    deretouched_albedo,
    detail_ratio,
    guard_term,
    smooth_retouch,
)


def test_rescaled_guard_is_the_papers_in_0_to_255():
    texture, retouched = torch.rand(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    retouched[:10] *= 0.01
    phi = 1.0 / ((255 * retouched) ** 3 + 1e-6)
    paper = (255 * texture + phi) / (255 * retouched + phi)
    assert torch.allclose(detail_ratio(texture, retouched, limit=1e9), paper, rtol=1e-9)


def test_ratio_in_the_middle_and_near_zero():
    texture, retouched = torch.tensor([0.3, 0.5, 0.1]), torch.tensor([0.4, 0.4, 0.2])
    assert torch.allclose(detail_ratio(texture, retouched), texture / retouched, rtol=1e-5)
    # The caveat: the unscaled φ would leave about 1.
    unscaled = 1.0 / (retouched**3 + 1e-6)
    assert float(((texture + unscaled) / (retouched + unscaled) - 1).abs().max()) < 0.02
    # Dark skin (2 % in linear light) is hardly touched by the guard.
    assert float(detail_ratio(torch.tensor(0.015), torch.tensor(0.02))) == pytest.approx(0.75, rel=0.01)
    black = detail_ratio(torch.tensor([0.0, 1e-4, 1.0]), torch.zeros(3), limit=1e9)
    assert torch.allclose(black, torch.ones(3), atol=1e-3)
    assert float(guard_term(torch.tensor(GUARD))) == pytest.approx(GUARD, rel=1e-5)
    every = detail_ratio(torch.ones(1000), torch.linspace(0, 0.1, 1000), limit=1e9)
    assert float(every.max()) < 0.571 / GUARD
    assert float(detail_ratio(torch.ones(1), torch.tensor([0.01]))) == 4.0


def _skin(tone: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Smoothly shaded skin of 128 px with a mole of 3 px and a strong lip-like edge; and the same without the mole."""
    axis = torch.linspace(0, 1, 128, dtype=torch.float64)
    shading = 0.6 + 0.4 * axis[:, None].expand(128, 128)
    clean = tone * shading[..., None] * torch.tensor([1.0, 0.7, 0.55], dtype=torch.float64)
    clean[96:, :, 1:] *= 0.4
    clean[96:] *= 0.6
    spotted = clean.clone()
    spotted[40:43, 60:63] *= 0.9
    return spotted, clean


@pytest.mark.parametrize("tone", [0.6, 0.05])
def test_default_retouch_removes_a_faint_mole_and_keeps_edges_on_every_skin(tone):
    spotted, clean = _skin(tone)
    retouched = smooth_retouch(spotted, torch.ones(128, 128))
    assert float((retouched / clean - 1)[38:45, 58:65].abs().max()) < 0.05
    assert float((retouched / clean - 1)[[92, 100]].abs().max()) < 0.02  # a few texels beside the edge
    albedo = torch.full_like(spotted, 0.4)
    detailed, _ = deretouched_albedo(albedo, spotted, torch.ones(128, 128))
    assert float(detailed[41, 61].mean()) == pytest.approx(0.4 * 0.9, rel=0.05)
    assert float((detailed[10:30, 20:100] - 0.4).abs().max()) < 0.01


def test_injected_retouch_gives_the_albedo_back():
    """With the true T0 the true A' comes out: eq. 3–4 read backwards."""
    generator = torch.Generator().manual_seed(2)
    coarse = 0.3 + 0.2 * torch.rand(8, 8, 3, generator=generator, dtype=torch.float64)
    true = coarse * (0.8 + 0.4 * torch.rand(8, 8, 3, generator=generator, dtype=torch.float64))
    shading = 0.5 + 0.5 * torch.rand(8, 8, 1, generator=generator, dtype=torch.float64)
    albedo, retouched = deretouched_albedo(
        coarse, true * shading, torch.ones(8, 8), retouch=lambda texture, weight: coarse * shading
    )
    assert torch.allclose(albedo, true, rtol=1e-4) and torch.equal(retouched, coarse * shading)


def test_unseen_texels_keep_the_models_albedo():
    texture, weight = torch.rand(16, 16, 3), torch.ones(16, 16)
    weight[:, 8:] = 0.0
    texture[:, 8:] = 0.0
    coarse = torch.full((16, 16, 3), 0.5)
    albedo, _ = deretouched_albedo(coarse, texture, weight)
    assert torch.equal(albedo[:, 8:], coarse[:, 8:]) and torch.isfinite(albedo).all()


def test_ratio_gradient():
    texture = torch.rand(4, 3, dtype=torch.float64) * 0.5 + 0.2
    retouched = (texture + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: detail_ratio(a, b), (texture.requires_grad_(), retouched))
