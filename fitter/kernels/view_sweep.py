"""What views differ by at many depths of a surface, on the CPU in a few passes over memory.

On other devices, and for what these kernels do not know, `fitter.energies.consistency` makes the same of whole tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .registry import choose_backend


def has_sweep_kernels(tensor: Tensor) -> bool:
    """Whether these functions may be called: on the CPU with float32, and without gradients."""
    plain = tensor.dtype == torch.float32 and not tensor.requires_grad
    return plain and choose_backend(tensor.device) == "numba_cpu"


def differences_along(
    images: Sequence[Tensor], lines: Sequence[tuple[Tensor, Tensor]], depths: Tensor, weight: Tensor, scale: Tensor
) -> Tensor:
    """What each view differs by from the weighted mean of all, [C, D, N, K].

    Args:
        images: One per view, [C, H, W]; sizes may differ. Sampled bilinearly, the border held constant.
        lines: Per view the homogeneous pixels [K, 3] of its image at depth 0, and their change per unit of depth [K, 3].
        depths: [D].
        weight: [N, K].
        scale: [N] what brings the views to one scale.
    """
    from .numba_cpu import sweep

    values = torch.empty(images[0].shape[0], len(depths), len(images), weight.shape[1])
    for view, (image, (start, along)) in enumerate(zip(images, lines, strict=True)):
        sweep.look_along(*_arrays(image, start, along, depths), values[:, :, view].numpy())
    sweep.take_mean_out(values.numpy(), *_arrays(weight, scale))
    return values


def means_of_squares(difference: Tensor, weight: Tensor, texel: Tensor, side: int, factor: int) -> Tensor:
    """Weighted differences in the mean over squares of a side × side grid, [C, D, N, side / f, side / f].

    Args:
        difference: [C, D, N, K].
        weight: [N, K].
        texel: [K] int64 row * side + column.
        side: A multiple of the factor.
        factor: Side f of a square, texels. Texels without a sample count as 0.
    """
    from .numba_cpu import sweep

    coarse = side // factor
    sums = torch.empty(*difference.shape[:3], coarse, coarse)
    # Divided once per point, not at every depth.
    square = (texel // side // factor * coarse + texel % side // factor).int()
    flat = sums.view(-1, sums.shape[2], coarse * coarse)
    sweep.sum_in_squares(*_arrays(difference.flatten(0, 1), weight, square), flat.numpy())
    return sums / factor**2


def robust_sums(
    difference: Tensor, broad: Tensor, weight: Tensor, texel: Tensor, side: int, sigma: float, robust: float
) -> Tensor:
    """Geman-McClure energies of the differences without their broad part, summed over channels and views, [D, K].

    Args:
        difference: [C, D, N, K].
        broad: [C, D, N, side / f, side / f], interpolated bilinearly at the texels.
        weight: [N, K].
        texel: [K] int64 row * side + column.
        side: Of the grid of texels.
        sigma: Expected difference.
        robust: Geman-McClure scale, in units of `sigma`.
    """
    from .numba_cpu import sweep

    energy = torch.empty(difference.shape[1], difference.shape[3])
    factor = side // broad.shape[-1]
    numbers = np.float32(sigma), np.float32(robust)
    sweep.sum_robustly(*_arrays(difference, broad, weight, texel), side, factor, *numbers, energy.numpy())
    return energy


def least_cost(cost: Tensor, doubted: float, sure: float, beside: int) -> tuple[Tensor, Tensor]:
    """Offset and curvature [S, S] of the least of costs [D, S, S]; see `fitter.energies.depth_cost.estimate_depth`.

    Args:
        cost: [D, S, S], D odd and at least 3.
        doubted: Lead over any depth elsewhere up to which the curvature is 0.
        sure: Lead from which it counts in full.
        beside: Steps within which another depth is the same minimum.
    """
    from .numba_cpu import sweep

    offset, curvature = torch.empty(cost.shape[1:]), torch.empty(cost.shape[1:])
    numbers = np.float32(doubted), np.float32(sure), beside
    sweep.find_least(*_arrays(cost), *numbers, offset.numpy(), curvature.numpy())
    return offset, curvature


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' own memory as arrays; copies only what is not contiguous."""
    return [one.detach().contiguous().numpy() for one in tensors]
