"""Preconditioned conjugate gradients on tensors of any shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def solve(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    tolerance: float = 1e-3,
    iterations: int = 200,
) -> Tensor:
    """Solve apply(x) = right for a symmetric positive definite `apply`, from x = 0.

    Stops when the preconditioned residual norm has fallen by `tolerance`, or after `iterations`. The test is made every
    eighth step only, so that a device that computes asynchronously is seldom waited for.
    """
    x = torch.zeros_like(right)
    residual = right
    z = precondition(residual)
    direction = z
    rho = (residual * z).sum()
    target = rho * tolerance**2
    for iteration in range(iterations):
        image = apply(direction)
        alpha = rho / (direction * image).sum().clamp_min(1e-30)
        x = x + alpha * direction
        residual = residual - alpha * image
        z = precondition(residual)
        rho_next = (residual * z).sum()
        if iteration % 8 == 7 and bool(rho_next <= target):
            break
        direction = z + (rho_next / rho.clamp_min(1e-30)) * direction
        rho = rho_next
    return x
