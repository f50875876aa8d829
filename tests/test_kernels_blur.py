"""Gaussian blur of grids: in compiled loops, as a convolution, and as two products with a dense matrix."""

import pytest
import torch

from fitter.kernels.blur import gaussian_blur


def _matrix(count: int, sigma: float) -> torch.Tensor:
    """[count, count] what each element takes from each other one along an axis."""
    offsets = torch.arange(count, dtype=torch.float64)
    distance = (offsets[:, None] - offsets).abs()
    reach = max(1, int(3.0 * sigma + 0.5))
    all_taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2).sum()
    return torch.where(distance <= reach, torch.exp(-0.5 * (distance / sigma) ** 2), 0.0) / all_taps


@pytest.mark.parametrize(
    ("shape", "sigma"), [((2, 3, 40, 40), 1.3), ((33, 50), 2.5), ((4, 5), 3.0), ((1, 64, 17), 0.4)]
)
def test_blur_is_a_product_along_each_axis(shape, sigma):
    grid = torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = _matrix(shape[-2], sigma) @ grid @ _matrix(shape[-1], sigma)
    torch.testing.assert_close(gaussian_blur(grid, sigma), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gaussian_blur(grid.float(), sigma).double(), expected, rtol=1e-5, atol=1e-6)
    # Views with other strides are blurred as what they show.
    turned = grid.float().transpose(-1, -2)
    torch.testing.assert_close(gaussian_blur(turned, sigma).double(), expected.transpose(-1, -2), rtol=1e-5, atol=1e-6)


def test_blur_has_gradients():
    grid = torch.rand(20, 20, generator=torch.Generator().manual_seed(2), requires_grad=True)
    weights = torch.rand(20, 20, generator=torch.Generator().manual_seed(3))
    (gaussian_blur(grid, 1.5) * weights).sum().backward()
    # The blur is its own adjoint.
    torch.testing.assert_close(grid.grad, gaussian_blur(weights, 1.5), rtol=1e-4, atol=1e-5)
