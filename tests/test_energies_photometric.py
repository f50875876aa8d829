"""Photometric energies against naive loops, hand-computed numbers and gradcheck."""

import pytest
import torch

from fitter.energies.photometric import photometric_energy, robust_photometric_energy, skin_attention


def _images(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    rendered, observed = torch.rand((2, 2, 4, 5, 3), generator=generator, dtype=torch.float64)
    weights = torch.rand((2, 4, 5), generator=generator, dtype=torch.float64)
    return rendered, observed, weights


def test_photometric_matches_a_naive_loop():
    rendered, observed, weights = _images()
    per_image = []
    for image in range(2):
        total = norm = 0.0
        for row in range(4):
            for column in range(5):
                difference = rendered[image, row, column] - observed[image, row, column]
                total += float(weights[image, row, column]) * float(difference.norm())
                norm += float(weights[image, row, column])
        per_image.append(total / norm)
    energy = photometric_energy(rendered, observed, weights, epsilon=1e-9)
    assert float(energy) == pytest.approx(sum(per_image) / 2, rel=1e-8)


def test_photometric_by_hand():
    observed = torch.zeros(1, 1, 2, 3)
    rendered = torch.tensor([[[[0.3, 0.4, 0.0], [1.0, 1.0, 1.0]]]])
    # Only the first pixel has attention: its distance is 0.5.
    energy = photometric_energy(rendered, observed, torch.tensor([[[0.7, 0.0]]]), epsilon=1e-6)
    assert float(energy) == pytest.approx(0.5, abs=1e-5)


def test_no_attention_is_zero_with_zero_gradient():
    rendered, observed, weights = _images()
    rendered.requires_grad_()
    energy = photometric_energy(rendered, observed, torch.zeros_like(weights))
    energy.backward()
    assert float(energy.detach()) == 0.0 and float(rendered.grad.abs().max()) == 0.0


def test_identical_images_have_a_finite_gradient():
    rendered = torch.rand(1, 3, 3, 3, requires_grad=True)
    energy = photometric_energy(rendered, rendered.detach().clone(), torch.ones(1, 3, 3))
    energy.backward()
    assert float(energy.detach()) == pytest.approx(0.0, abs=1e-9) and torch.isfinite(rendered.grad).all()


def test_robust_energy_by_hand():
    rendered = torch.tensor([[[[0.1, 0.0, 0.0], [10.0, 0.0, 0.0]]]], dtype=torch.float64)
    observed = torch.zeros_like(rendered)
    weights = torch.tensor([[[1.0, 3.0]]], dtype=torch.float64)
    expected = (1.0 * 0.5 + 3.0 * 100.0 / 100.01) / 4.0
    energy = robust_photometric_energy(rendered, observed, weights, scale=0.1)
    assert float(energy) == pytest.approx(expected, rel=1e-12)


def test_robust_energy_does_not_see_exposure_when_its_scale_follows():
    rendered, observed, weights = _images()
    bright = robust_photometric_energy(rendered, observed, weights, scale=0.2)
    dark = robust_photometric_energy(rendered / 5, observed / 5, weights, scale=torch.full((2, 1, 1), 0.04))
    assert float(bright) == pytest.approx(float(dark), rel=1e-6)


@pytest.mark.parametrize("robust", [False, True])
def test_gradients(robust):
    rendered, observed, weights = _images(1)
    rendered.requires_grad_()

    def energy(image):
        if robust:
            return robust_photometric_energy(image, observed, weights, scale=0.3)
        return photometric_energy(image, observed, weights)

    assert torch.autograd.gradcheck(energy, (rendered,))


def test_skin_attention():
    probability = torch.tensor([[[0.9, 0.4, 0.8]]])
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    assert skin_attention(probability, mask).tolist() == [[[1.0, pytest.approx(0.4), 0.0]]]
