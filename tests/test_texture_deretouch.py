"""De-retouching: the paper's φ in its own range, the ratio by hand, highlights."""

import pytest
import torch

from fitter.texture.deretouch import (
    GUARD,
    deretouched_albedo,
    detail_ratio,
    guard_term,
    without_highlights,
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


def test_albedo_of_a_known_t0_is_the_true_one():
    """With the true T0 the true A' comes out: eq. 3–4 read backwards; darker detail only, which is kept as it is."""
    generator = torch.Generator().manual_seed(2)
    coarse = 0.3 + 0.2 * torch.rand(8, 8, 3, generator=generator, dtype=torch.float64)
    true = coarse * (0.4 + 0.6 * torch.rand(8, 8, 3, generator=generator, dtype=torch.float64))
    shading = 0.5 + 0.5 * torch.rand(8, 8, 1, generator=generator, dtype=torch.float64)
    albedo = deretouched_albedo(coarse, true * shading, coarse * shading)
    assert torch.allclose(albedo, true, rtol=1e-3)


def test_highlights_are_compressed_and_lose_their_hue():
    dark = torch.tensor([[0.5, 0.3, 0.4], [0.99, 0.95, 0.9]])
    assert torch.allclose(without_highlights(dark), dark, rtol=1e-5)
    slight, shine = torch.full((3,), 1.05), torch.tensor([2.0, 2.5, 3.0])
    assert torch.allclose(without_highlights(slight), slight, rtol=2e-3)
    left = without_highlights(shine)
    assert float(left.max()) < 1.4 and float(left.max() / left.min()) < 1.1
    assert float(left.min()) > 1.2  # compressed, not cut: brighter stays brighter


def test_ratio_gradient():
    texture = torch.rand(4, 3, dtype=torch.float64) * 0.5 + 0.2
    retouched = (texture + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: detail_ratio(a, b), (texture.requires_grad_(), retouched))
