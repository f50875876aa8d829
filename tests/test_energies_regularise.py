"""Regularisers: known fields, independence of resolution, naive loops, gradcheck."""

import math

import pytest
import torch

from fitter.energies.regularise import (
    bilaplacian_energy,
    displacement_l1,
    gaussian_prior,
    laplacian_energy,
    map_laplacian,
    total_variation,
    unit_interval_prior,
)


def _ramp(size: int, slope_u: float, slope_v: float, texel_mm: float) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float64) * texel_mm
    return (slope_v * axis[:, None] + slope_u * axis[None, :])[None]


@pytest.mark.parametrize("texel_mm", [0.5, 4.0])
def test_a_ramp_costs_its_slope_at_any_resolution(texel_mm):
    field = _ramp(9, 0.3, 0.4, texel_mm)
    assert float(total_variation(field, texel_mm, epsilon=1e-9)) == pytest.approx(0.5, rel=1e-6)
    assert float(laplacian_energy(field, texel_mm)) == pytest.approx(0.25, rel=1e-9)
    assert float(bilaplacian_energy(field, texel_mm)) == pytest.approx(0.0, abs=1e-20)


def test_a_parabola_costs_its_curvature():
    texel_mm = 2.0
    axis = torch.arange(8, dtype=torch.float64) * texel_mm
    field = (0.5 * 0.1 * axis**2).expand(8, 8)[None]
    assert torch.allclose(map_laplacian(field, texel_mm), torch.full((1, 6, 6), 0.1, dtype=torch.float64))
    assert float(bilaplacian_energy(field, texel_mm)) == pytest.approx(0.01, rel=1e-9)


def test_laplacian_matches_a_naive_loop_with_local_texel_size():
    torch.manual_seed(0)
    field, texel = torch.rand(2, 5, 5, dtype=torch.float64), 1.0 + torch.rand(5, 5, dtype=torch.float64)
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    for row in range(1, 4):
        for column in range(1, 4):
            ring = sum(field[:, row + a, column + b] for a, b in ((-1, 0), (1, 0), (0, -1), (0, 1)))
            expected[:, row - 1, column - 1] = (ring - 4 * field[:, row, column]) / texel[row, column] ** 2
    assert torch.allclose(map_laplacian(field, texel), expected)


def test_invalid_texels_do_not_count():
    field = torch.zeros(3, 8, 8, dtype=torch.float64)
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[:, 4:] = False
    field[:, :, 4:] = 100.0
    for energy in (total_variation, laplacian_energy, bilaplacian_energy):
        assert float(energy(field, 1.0, valid)) == pytest.approx(0.0, abs=1e-12)
        assert float(energy(field, 1.0)) > 1.0
    assert float(displacement_l1(field[0], valid)) == pytest.approx(0.0, abs=1e-12)
    assert float(total_variation(field, 1.0, torch.zeros(8, 8, dtype=torch.bool))) == 0.0


def test_displacement_l1_by_hand():
    displacement = torch.tensor([[0.5, -0.1], [0.0, 0.2]], dtype=torch.float64)
    assert float(displacement_l1(displacement, epsilon=1e-9)) == pytest.approx(0.2, rel=1e-6)


def test_priors_by_hand():
    coefficients = torch.tensor([[1.0, -2.0], [0.0, 2.0]])
    assert float(gaussian_prior(coefficients)) == pytest.approx((5.0 + 4.0) / 2)
    assert float(gaussian_prior(coefficients, torch.tensor([1.0, 2.0]), 1.0)) == pytest.approx((2.25 + 1.25) / 2)
    inside = torch.tensor([0.0, 0.4, 1.0])
    assert float(unit_interval_prior(inside)) == 0.0
    assert float(unit_interval_prior(torch.tensor([-0.1, 1.2, 0.5]), sigma=0.1)) == pytest.approx(1.0 + 4.0, rel=1e-5)


def test_gradients():
    torch.manual_seed(1)
    field = torch.randn(3, 5, 5, dtype=torch.float64, requires_grad=True)
    valid = torch.rand(5, 5) > 0.2
    for energy in (total_variation, laplacian_energy, bilaplacian_energy):
        assert torch.autograd.gradcheck(lambda item, energy=energy: energy(item, 1.5, valid), (field,))
    assert torch.autograd.gradcheck(lambda item: displacement_l1(item[0]), (field,))
    assert torch.autograd.gradcheck(lambda item: unit_interval_prior(item.flatten()), (field,))


def test_total_variation_keeps_a_step_that_thin_plate_smears():
    """Why both exist: a step of height h costs TV the same however sharp, the squared energies more when sharp."""
    sharp, soft = torch.zeros(1, 4, 32), torch.zeros(1, 4, 32)
    sharp[..., 16:] = 1.0
    soft[..., 8:24] = torch.linspace(0, 1, 16)
    soft[..., 24:] = 1.0
    ratio = float(total_variation(sharp, epsilon=1e-7) / total_variation(soft, epsilon=1e-7))
    assert math.isclose(ratio, 1.0, rel_tol=1e-3)
    assert float(bilaplacian_energy(sharp)) > 50 * float(bilaplacian_energy(soft))
