"""Maps as grids: adjoints by dot products, Laplacians on polynomials, blurs against a naive twin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fitter.hierarchy.grid import (
    DENSE_LIMIT,
    AxisInterpolation,
    GridSampling,
    laplacian,
    masked_blur,
    sample_map,
)
from fitter.hierarchy.stencil import Couplings, Stencil
from fitter.hierarchy.vertex_sampling import VertexSampling
from fitter.kernels.blur import gaussian_blur

CPU = torch.device("cpu")
SIZES = [(8, 8), (8, 21), (5, 40), (12, 7), (1, 6)]


def bilaplacian(grid: torch.Tensor) -> torch.Tensor:
    return laplacian(laplacian(grid))


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _matrix(axis: AxisInterpolation) -> torch.Tensor:
    """[fine, coarse] by interpolating unit vectors."""
    return axis.apply(torch.eye(axis.coarse, dtype=torch.float64), 0)


@pytest.mark.parametrize(("coarse", "fine"), SIZES)
def test_axis_interpolation_is_linear_between_texel_centres(coarse, fine):
    axis = AxisInterpolation.build(coarse, fine, CPU, torch.float64)
    matrix = _matrix(axis)
    assert torch.allclose(matrix.sum(1), torch.ones(fine, dtype=torch.float64))
    for row in range(fine):
        position = (row + 0.5) / fine * coarse - 0.5
        position = min(max(position, 0.0), coarse - 1.0)
        expected = [max(0.0, 1.0 - abs(position - column)) for column in range(coarse)]
        assert torch.allclose(matrix[row], torch.tensor(expected, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("coarse", "fine"), SIZES)
@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_adjoint_is_the_transpose(coarse, fine, dimension):
    axis = AxisInterpolation.build(coarse, fine, CPU, torch.float64)
    shape = [3, 4, 5]
    shape[dimension] = coarse
    x = _random(*shape)
    y = _random(*[fine if k == dimension else n for k, n in enumerate(shape)], seed=1)
    assert torch.allclose((axis.apply(x, dimension) * y).sum(), (x * axis.adjoint(y, dimension)).sum(), rtol=1e-12)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("resolution", "samples"), [(6, 6), (6, 17), (9, 5)])
def test_grid_sampling_adjoint_and_couplings(resolution, samples, dense):
    """Small maps are sampled by a matrix, large ones by gathering: either way the adjoint is the transpose."""
    sampling = GridSampling.build(resolution, samples, CPU, torch.float64)
    sampling = sampling if dense else replace(sampling, matrix=None)
    basis = torch.eye(resolution**2, dtype=torch.float64).view(-1, resolution, resolution)
    matrix = sampling.apply(basis).flatten(1).T
    weight = _random(samples, samples).abs()
    assert torch.allclose(sampling.adjoint(weight).flatten(), matrix.T @ weight.flatten(), atol=1e-12)
    _check_couplings(sampling.couplings(weight), matrix.T @ torch.diag(weight.flatten()) @ matrix)


def _check_couplings(found: Couplings, normal: torch.Tensor) -> None:
    """Against the whole normal matrix [R R, R R], which couples nothing but neighbours."""
    size = found.own.shape[-1]
    normal = normal.view(size, size, size, size)
    assert torch.allclose(torch.einsum("yxyx->yx", normal), found.own, atol=1e-12)
    for name, (down, right) in {"right": (0, 1), "down": (1, 0), "diagonal": (1, 1)}.items():
        for y in range(size - down):
            for x in range(size - right):
                assert torch.allclose(normal[y, x, y + down, x + right], getattr(found, name)[y, x], atol=1e-12)
    grid = _random(1, size, size)
    applied = Stencil.of([Couplings(*(part[None, None] for part in _parts(found)))]).apply(grid)
    assert torch.allclose(applied[0].flatten(), normal.reshape(size**2, -1) @ grid.flatten(), atol=1e-12)


def _parts(found: Couplings) -> tuple[torch.Tensor, ...]:
    return found.own, found.right, found.down, found.diagonal


def test_couplings_of_vertices():
    uv = torch.rand(60, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 1.1 - 0.05
    sampling = VertexSampling.build(uv, 7)
    matrix = sampling.apply(torch.eye(49, dtype=torch.float64).view(-1, 7, 7))[..., 0].T
    weight = _random(60, 1).abs()
    _check_couplings(sampling.couplings(weight), matrix.T @ torch.diag(weight[:, 0]) @ matrix)


def test_grid_sampling_and_sample_map_agree():
    """A map sampled at texel centres of a finer grid is what interpolation at those coordinates gives."""
    grid = _random(3, 7, 7)
    fine = GridSampling.build(7, 19, CPU, torch.float64).apply(grid)
    centre = (torch.arange(19, dtype=torch.float64) + 0.5) / 19
    v, u = torch.meshgrid(centre, centre, indexing="ij")
    values = sample_map(grid, torch.stack([u, v], -1).view(-1, 2))
    assert torch.allclose(values.T.view(3, 19, 19), fine, atol=1e-12)


def test_large_maps_are_sampled_alike():
    grid = _random(DENSE_LIMIT + 2, DENSE_LIMIT + 2)
    sampling = GridSampling.build(DENSE_LIMIT + 2, 40, CPU, torch.float64)
    assert sampling.matrix is None
    matrix = _matrix(sampling.axis)
    assert torch.allclose(sampling.apply(grid), matrix @ grid @ matrix.T, atol=1e-12)


def test_row_zero_of_a_map_is_v_zero():
    grid = torch.arange(12.0, dtype=torch.float64).view(1, 3, 4)[..., :3]
    at_centre = sample_map(grid, torch.tensor([[2.5 / 3, 0.5 / 3]], dtype=torch.float64))
    assert float(at_centre) == pytest.approx(float(grid[0, 0, 2]))


@pytest.mark.parametrize("operator", [laplacian, bilaplacian])
def test_laplacians_are_symmetric_and_blind_to_constants(operator):
    x, y = _random(2, 9, 9), _random(2, 9, 9, seed=1)
    assert torch.allclose((operator(x) * y).sum(), (x * operator(y)).sum(), rtol=1e-12)
    assert float(operator(torch.ones(9, 9, dtype=torch.float64)).abs().max()) < 1e-14
    sign = -1 if operator is laplacian else 1
    assert sign * float((operator(x) * x).sum()) > 0


def test_laplacian_of_a_quadratic_inside():
    row, column = torch.meshgrid(*[torch.arange(8.0, dtype=torch.float64)] * 2, indexing="ij")
    grid = 1.5 * row**2 - 0.25 * column**2 + row * column + 3 * row
    assert torch.allclose(laplacian(grid)[1:-1, 1:-1], torch.full((6, 6), 2.5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(bilaplacian(grid)[2:-2, 2:-2], torch.zeros(4, 4, dtype=torch.float64), atol=1e-11)


def test_diagonals_that_the_preconditioner_assumes():
    unit = torch.zeros(9, 9, dtype=torch.float64)
    unit[4, 4] = 1.0
    assert float(laplacian(unit)[4, 4]) == -4.0 and float(bilaplacian(unit)[4, 4]) == 20.0


def _naive_blur(grid: torch.Tensor, weight: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, int(3.0 * sigma + 0.5))
    height, width = grid.shape
    out = torch.zeros_like(grid)
    for row in range(height):
        for column in range(width):
            total = mass = 0.0
            for i in range(max(0, row - radius), min(height, row + radius + 1)):
                for j in range(max(0, column - radius), min(width, column + radius + 1)):
                    w = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2)) * float(weight[i, j])
                    total, mass = total + w * float(grid[i, j]), mass + w
            out[row, column] = total / mass if mass > 0 else 0.0
    return out


def test_masked_blur_is_the_weighted_mean_of_the_neighbourhood():
    grid = _random(14, 14)
    weight = (_random(14, 14, seed=1) > -0.3).double() * _random(14, 14, seed=2).abs()
    weight[:4, :5] = 0.0
    found = masked_blur(grid[None], weight[None], 1.4)[0]
    expected = _naive_blur(grid, weight, 1.4)
    near = _naive_blur(weight, torch.ones_like(weight), 1.4) > 1e-2
    assert torch.allclose(found[near], expected[near], atol=1e-3)


def test_wide_blur_on_a_coarser_grid_stays_close():
    """At a large width the blur runs on a coarser grid; on a smooth field of height 1 little changes."""
    centre = torch.linspace(0, 1, 128, dtype=torch.float64)
    grid = torch.sin(7 * centre)[:, None] * torch.cos(5 * centre)[None]
    weight = torch.ones_like(grid)
    weight[:20] = 0.0
    sigma = 12.0
    direct = gaussian_blur(grid * weight, sigma) / (gaussian_blur(weight, sigma) + 1e-6)
    found = masked_blur(grid[None], weight[None], sigma)[0]
    assert float((found - direct)[24:].abs().max()) < 0.05


def test_blur_ignores_what_has_no_weight():
    grid, weight = _random(20, 20), torch.ones(20, 20, dtype=torch.float64)
    weight[7:11, 7:11] = 0.0
    changed = torch.where(weight > 0, grid, torch.full_like(grid, 1e3))
    assert torch.equal(masked_blur(grid, weight, 2.0), masked_blur(changed, weight, 2.0))
