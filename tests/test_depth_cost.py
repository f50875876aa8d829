"""A depth from the cost of trying many: known parabolas, and the cases that tell nothing."""

from __future__ import annotations

import pytest
import torch

from fitter.energies.depth_cost import BESIDE, DOUBTED, SURE, estimate_depth

DEPTHS = torch.arange(-6, 7, dtype=torch.float64)


def _curve(values: torch.Tensor) -> torch.Tensor:
    """[D, 1, 1]."""
    return values[:, None, None]


@pytest.mark.parametrize("depth", [-3.4, -0.5, 0.0, 1.25, 4.0])
@pytest.mark.parametrize("curvature", [0.3, 2.0])
def test_a_parabola_is_found(depth, curvature):
    found = estimate_depth(_curve(curvature * (DEPTHS - depth) ** 2))
    assert float(found.offset) == pytest.approx(depth, abs=1e-9)
    assert float(found.curvature) == pytest.approx(curvature, rel=1e-9)


def test_samples_are_independent():
    """A grid of curves gives what each gives alone."""
    random = torch.Generator().manual_seed(3)
    depth = 8.0 * torch.rand(4, 5, generator=random, dtype=torch.float64) - 4.0
    steepness = torch.rand(4, 5, generator=random, dtype=torch.float64) + 0.1
    cost = steepness * (DEPTHS[:, None, None] - depth).abs() ** 1.5
    together = estimate_depth(cost)
    for row in range(4):
        for column in range(5):
            alone = estimate_depth(cost[:, row : row + 1, column : column + 1])
            assert float(together.offset[row, column]) == float(alone.offset)
            assert float(together.curvature[row, column]) == float(alone.curvature)
    assert float((together.offset - depth).abs().max()) < 0.25


@pytest.mark.parametrize("values", [DEPTHS, -DEPTHS, torch.ones_like(DEPTHS), torch.zeros_like(DEPTHS)])
def test_no_minimum_inside_says_nothing(values):
    found = estimate_depth(_curve(values + 10.0 * (values.abs().max() > 0)))
    assert float(found.curvature) == 0.0 and bool(found.offset.isfinite())


def test_two_minima_that_are_alike_are_a_guess():
    """The better of two counts nothing at a lead below DOUBTED, in full above SURE, and in between in between."""

    def with_lead(lead: float) -> float:
        cost = torch.full_like(DEPTHS, 9.0)
        cost[2], cost[2 + BESIDE + 2] = 1.0 - lead, 1.0
        return float(estimate_depth(_curve(cost)).curvature)

    full = 0.5 * 2.0 * (9.0 - (1.0 - SURE))
    assert with_lead(SURE) == pytest.approx(full)
    assert with_lead(0.5 * DOUBTED) == 0.0
    middle = 0.5 * (DOUBTED + SURE)
    assert with_lead(middle) == pytest.approx(0.5 * (9.0 - (1.0 - middle)))


def test_neighbours_of_a_minimum_are_not_another():
    """A search that reaches no farther than the minimum is wide has nothing to confuse it with."""
    short = DEPTHS[5:8]
    found = estimate_depth(_curve(1.0 + 0.01 * short**2))
    assert float(found.curvature) == pytest.approx(0.01)


@pytest.mark.parametrize("depths", [3, 5, 17])
def test_compiled_loops_find_the_same(depths):
    random = torch.Generator().manual_seed(depths)
    cost = torch.rand(depths, 30, 40, generator=random, dtype=torch.float64)
    cost[:, :5] = 0.0
    cost[:, 5:10] += (torch.arange(depths, dtype=torch.float64)[:, None, None] - depths // 2) ** 2
    expected, found = estimate_depth(cost), estimate_depth(cost.float())
    torch.testing.assert_close(found.offset.double(), expected.offset, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(found.curvature.double(), expected.curvature, rtol=1e-4, atol=1e-5)
