"""Laplacian deformation: eq. 2–3 against loops, the solver against a dense solve."""

import numpy as np
import pytest
import scipy.linalg
import torch

from fitter.energies.laplacian_deformation import (
    laplacian_coordinates,
    laplacian_deformation_energy,
    solve_laplacian_deformation,
    vertex_graph,
)


def _grid(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    vertices = torch.stack([x, y, 0.3 * torch.sin(x + 2 * y)], -1).reshape(-1, 3)
    triangles = []
    for row in range(size - 1):
        for column in range(size - 1):
            corner = row * size + column
            triangles += [[corner, corner + 1, corner + size], [corner + 1, corner + size + 1, corner + size]]
    return vertices, torch.tensor(triangles)


def _dense_laplacian(triangles: torch.Tensor, count: int) -> np.ndarray:
    neighbours = [set() for _ in range(count)]
    for a, b, c in triangles.tolist():
        neighbours[a] |= {b, c}
        neighbours[b] |= {a, c}
        neighbours[c] |= {a, b}
    matrix = np.zeros((count, count))
    for vertex, ring in enumerate(neighbours):
        if ring:
            matrix[vertex, vertex] = 1.0
            matrix[vertex, list(ring)] = -1.0 / len(ring)
    return matrix


def test_laplacian_coordinates_match_the_definition():
    vertices, triangles = _grid()
    # An extra vertex without any triangle has no neighbours and no Laplacian coordinate.
    vertices = torch.cat([vertices, torch.ones(1, 3, dtype=torch.float64)])
    graph = vertex_graph(triangles, len(vertices))
    expected = _dense_laplacian(triangles, len(vertices)) @ vertices.numpy()
    assert np.allclose(laplacian_coordinates(vertices, graph).numpy(), expected, atol=1e-12)
    assert int(graph.degree[-1]) == 0 and int(graph.degree[7]) == 6


def test_energy_is_a_sum_of_unsquared_norms():
    vertices, triangles = _grid(3)
    graph = vertex_graph(triangles, 9)
    deformed = vertices + torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    landmarks, weights = torch.tensor([0, 8]), torch.tensor([2.0, 0.5], dtype=torch.float64)
    targets = vertices[landmarks] + 1.0
    laplacian = _dense_laplacian(triangles, 9)
    change = laplacian @ (deformed - vertices).numpy()
    expected = np.linalg.norm(change, axis=1).sum()
    expected += (weights.numpy() * np.linalg.norm((deformed[landmarks] - targets).numpy(), axis=1)).sum()
    energy = laplacian_deformation_energy(deformed, vertices, graph, landmarks, targets, weights, epsilon=1e-9)
    assert float(energy) == pytest.approx(expected, rel=1e-7)


def test_energy_gradient_also_at_the_start():
    vertices, triangles = _grid(3)
    graph = vertex_graph(triangles, 9)
    landmarks, weights = torch.tensor([4]), torch.ones(1, dtype=torch.float64)

    def energy(deformed):
        return laplacian_deformation_energy(
            deformed, vertices, graph, landmarks, vertices[landmarks] + 1.0, weights, epsilon=0.1
        )

    for start in (vertices, vertices + 0.1 * torch.randn(9, 3, dtype=torch.float64)):
        assert torch.autograd.gradcheck(energy, (start.clone().requires_grad_(),))


def test_solver_matches_a_dense_solve():
    vertices, triangles = _grid()
    random = torch.Generator().manual_seed(2)
    landmarks = torch.tensor([0, 5, 14, 35, 14])
    targets = vertices[landmarks] + torch.randn(5, 3, generator=random, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.1, 3.0, 0.5, 2.0], dtype=torch.float64)
    laplacian = _dense_laplacian(triangles, 36)
    pull = np.zeros((5, 36))
    pull[np.arange(5), landmarks.numpy()] = np.sqrt(weights.numpy())
    system = np.concatenate([laplacian, pull])
    right = np.concatenate([laplacian @ vertices.numpy(), np.sqrt(weights.numpy())[:, None] * targets.numpy()])
    expected = scipy.linalg.lstsq(system, right)[0]
    solved = solve_laplacian_deformation(vertices, triangles, landmarks, targets, weights, tolerance=1e-12)
    assert np.abs(solved.numpy() - expected).max() < 1e-8


def test_a_translation_of_the_landmarks_moves_everything_rigidly():
    vertices, triangles = _grid(8)
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    landmarks = torch.tensor([3, 40, 60])
    solved = solve_laplacian_deformation(
        vertices, triangles, landmarks, vertices[landmarks] + shift, torch.ones(3, dtype=torch.float64), tolerance=1e-12
    )
    assert torch.allclose(solved, vertices + shift, atol=1e-6)


def test_loose_vertices_and_parts_without_landmarks_stay():
    vertices, triangles = _grid(4)
    both = torch.cat([vertices, vertices + 100.0, torch.zeros(1, 3, dtype=torch.float64)])
    faces = torch.cat([triangles, triangles + 16])
    solved = solve_laplacian_deformation(
        both, faces, torch.tensor([5]), vertices[5:6] + 1.0, torch.ones(1, dtype=torch.float64)
    )
    assert torch.equal(solved[16:], both[16:]) and torch.allclose(solved[:16], vertices + 1.0, atol=1e-4)
