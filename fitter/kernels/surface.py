"""Vertex normals and the basis product, on whatever device and in whatever precision the tensors have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .registry import choose_backend, load_backend

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology


def vertex_normals(vertices: Tensor, topology: MeshTopology, backend: str | None = None) -> Tensor:
    """Area-weighted unit normals, differentiable.

    Args:
        vertices: [B, V, 3] positions, any unit.
        topology: Triangles counter-clockwise seen from outside, on the same device.
        backend: Name of a backend; None takes the device's default (float64 always takes the reference).

    Returns:
        [B, V, 3] unit normals, pointing outside; zero at vertices without area.

    Raises:
        ValueError: If the vertices are not [B, V, 3] of the topology.
    """
    if vertices.ndim != 3 or vertices.shape[1:] != (topology.n_vertices, 3):
        raise ValueError(f"vertices must be [B, {topology.n_vertices}, 3], got {tuple(vertices.shape)}")
    if vertices.dtype != torch.float32 and backend is None:
        backend = "torch_reference"
    return load_backend(choose_backend(vertices.device, backend)).vertex_normals(vertices, topology)


def basis_product(basis: Tensor, coefficients: Tensor, backend: str | None = None) -> Tensor:
    """Product of a tall basis and a coefficient vector; torch's own is several times slower on the CPU.

    Args:
        basis: [N, K], row-major; a constant on the kernel path (a basis that needs a gradient takes the reference).
        coefficients: [K], differentiable.
        backend: Name of a backend; None takes the device's default (float64 always takes the reference).

    Returns:
        [N] product.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if basis.ndim != 2 or coefficients.shape != basis.shape[1:]:
        raise ValueError(
            f"basis [N, K] and coefficients [K] expected, got {tuple(basis.shape)} and {tuple(coefficients.shape)}"
        )
    if (basis.dtype != torch.float32 or basis.requires_grad) and backend is None:
        backend = "torch_reference"
    return load_backend(choose_backend(basis.device, backend)).basis_product(basis, coefficients)
