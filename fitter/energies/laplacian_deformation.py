"""Laplacian deformation towards landmarks (Jin et al. 2021, eq. 2–3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VertexGraph:
    """The edges of a mesh, each in both directions."""

    source: Tensor
    """[2E] int64 vertex numbers, ascending."""
    target: Tensor
    """[2E] int64: `target[k]` is a neighbour of `source[k]`."""
    degree: Tensor
    """[V] int64 number of neighbours, N_i."""


def vertex_graph(triangles: Tensor, vertex_count: int) -> VertexGraph:
    """Adjacency of the vertices of triangles [F, 3] int64."""
    pairs = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = torch.cat([pairs, pairs.flip(-1)])
    keys = torch.unique(pairs[:, 0] * vertex_count + pairs[:, 1])
    source, target = torch.div(keys, vertex_count, rounding_mode="floor"), keys % vertex_count
    return VertexGraph(source, target, torch.bincount(source, minlength=vertex_count))


def laplacian_coordinates(vertices: Tensor, graph: VertexGraph) -> Tensor:
    """L(v_i) = v_i - mean of its neighbours (Jin et al. 2021, eq. 2, ω_ij = 1 / N_i).

    Args:
        vertices: [V, 3] mm.
        graph: Adjacency.

    Returns:
        [V, 3] mm; zero at vertices without neighbours.
    """
    degree = graph.degree.to(vertices.dtype)[:, None]
    total = torch.zeros_like(vertices).index_add(0, graph.source, vertices[graph.target])
    return torch.where(degree > 0, vertices - total / degree.clamp_min(1.0), torch.zeros_like(vertices))


def laplacian_deformation_energy(
    deformed: Tensor,
    vertices: Tensor,
    graph: VertexGraph,
    landmark_vertices: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    epsilon: float = 1e-4,
) -> Tensor:
    """Sum of the changes of the Laplacian coordinates and of the weighted distances to the landmarks (Jin eq. 3).

    The norms are as printed, not squared; each is rounded off near zero, sqrt(x² + epsilon²) - epsilon, because at the
    start all of them are zero.

    Args:
        deformed: [V, 3] mm, the geometry that is free.
        vertices: [V, 3] mm, the initial geometry.
        graph: Adjacency of the mesh.
        landmark_vertices: [M] int64 vertex of each landmark.
        targets: [M, 3] mm, where the landmarks should be.
        weights: [M] weight of each landmark; the paper takes higher ones in the centre of the face than at its border.
        epsilon: Rounding, mm.

    Returns:
        Scalar, mm.
    """
    change = laplacian_coordinates(deformed - vertices, graph)
    return _norms(change, epsilon).sum() + (weights * _norms(deformed[landmark_vertices] - targets, epsilon)).sum()


def solve_laplacian_deformation(
    vertices: Tensor,
    triangles: Tensor,
    landmark_vertices: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
) -> Tensor:
    """The least-squares twin of eq. 3, solved in one go.

    Minimises the sum of |L(v'_i) - L(v_i)|² and of weights · |v'_i - target_i|²: linear, solved for the offset by
    conjugate gradients with the diagonal as preconditioner, without forming the matrix.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3] int64.
        landmark_vertices: [M] int64; a vertex may occur more than once.
        targets: [M, 3] mm.
        weights: [M] non-negative.
        tolerance: Stop when the residual has fallen to this fraction of the right-hand side.
        max_steps: Upper bound of the steps; wide meshes with few landmarks need many.

    Returns:
        [V, 3] mm. Parts of the mesh without any landmark stay where they are.
    """
    graph = vertex_graph(triangles, vertices.shape[0])
    degree = graph.degree.to(vertices.dtype)
    inverse_degree = torch.where(degree > 0, 1.0 / degree.clamp_min(1.0), torch.zeros_like(degree))
    pull = torch.zeros_like(degree).index_add(0, landmark_vertices, weights)
    right_side = torch.zeros_like(vertices).index_add(
        0, landmark_vertices, weights[:, None] * (targets - vertices[landmark_vertices])
    )

    def transposed_laplacian(values: Tensor) -> Tensor:
        scaled = values * inverse_degree[:, None]
        own = torch.where(degree[:, None] > 0, values, torch.zeros_like(values))
        return own - torch.zeros_like(values).index_add(0, graph.target, scaled[graph.source])

    def normal_matrix(values: Tensor) -> Tensor:
        return transposed_laplacian(laplacian_coordinates(values, graph)) + pull[:, None] * values

    neighbours = torch.zeros_like(degree).index_add(0, graph.target, inverse_degree[graph.source].square())
    diagonal = (degree > 0).to(degree.dtype) + neighbours + pull
    diagonal = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))
    return vertices + _conjugate_gradients(normal_matrix, right_side, diagonal[:, None], tolerance, max_steps)


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right_side: Tensor, diagonal: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Solve a positive semi-definite system for [V, K] right-hand sides, columns independent."""
    solution = torch.zeros_like(right_side)
    residual = right_side
    search = residual / diagonal
    product = (residual * search).sum(0)
    limit = tolerance * right_side.norm(dim=0)
    tiny = torch.finfo(right_side.dtype).tiny
    for _ in range(max_steps):
        if bool((residual.norm(dim=0) <= limit).all()):
            break
        image = matrix(search)
        step = product / (search * image).sum(0).clamp_min(tiny)
        solution = solution + step * search
        residual = residual - step * image
        scaled = residual / diagonal
        next_product = (residual * scaled).sum(0)
        search = scaled + (next_product / product.clamp_min(tiny)) * search
        product = next_product
    return solution


def _norms(values: Tensor, epsilon: float) -> Tensor:
    return (values.square().sum(-1) + epsilon**2).sqrt() - epsilon
