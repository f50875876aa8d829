"""Lighting in closed form where shape, albedo and image are fixed."""

from __future__ import annotations

import torch
from torch import Tensor

from .shading import spherical_harmonics


def solve_lighting(
    image_linear: Tensor, albedo: Tensor, normals: Tensor, weights: Tensor, ridge: float = 1e-4
) -> Tensor:
    """Weighted least squares for order-2 lighting, each channel by itself (Jin et al. 2021, eq. 5).

    Args:
        image_linear: [N, 3] observed linear RGB.
        albedo: [N, 3].
        normals: [N, 3] unit, in the frame in which the lighting is wanted.
        weights: [N], not negative; 0 drops a sample.
        ridge: Pull towards no light, relative to the mean diagonal of the normal matrix; keeps directions that no
            normal sees at rest.

    Returns:
        [9, 3] radiance coefficients for `fitter.render.shading.shade`; zero if nothing has weight.

    Raises:
        ValueError: If the shapes do not fit.
    """
    n = normals.shape[0]
    if image_linear.shape != (n, 3) or albedo.shape != (n, 3) or weights.shape != (n,) or normals.shape != (n, 3):
        raise ValueError(
            f"[N, 3] image, albedo, normals and [N] weights expected, got {tuple(image_linear.shape)}, "
            f"{tuple(albedo.shape)}, {tuple(normals.shape)}, {tuple(weights.shape)}"
        )
    functions = spherical_harmonics(normals)
    design = (functions[None] * albedo.T[:, :, None]) * weights.clamp_min(0.0).sqrt()[None, :, None]
    observed = (image_linear * weights.clamp_min(0.0).sqrt()[:, None]).T[:, :, None]
    matrix = design.transpose(1, 2) @ design
    right = design.transpose(1, 2) @ observed
    mean_diagonal = matrix.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(matrix.dtype).tiny ** 0.5)
    identity = torch.eye(9, dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve(matrix + ridge * mean_diagonal[:, None, None] * identity, right)[..., 0].T
