"""Loop and midpoint subdivision against masks written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.mesh_edges import undirected_edges
from fitter.model.subdivide import loop_subdivision, midpoint_subdivision

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
# A hexagonal fan: vertex 0 inside, 1..6 on the boundary.
FAN = np.array([[0, k, k % 6 + 1] for k in range(1, 7)])


def _edge_row(triangles: np.ndarray, count: int, first: int, second: int) -> int:
    edges, _ = undirected_edges(triangles)
    return count + int(np.flatnonzero((edges == sorted((first, second))).all(1))[0])


def _octahedron() -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    triangles = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    return points, triangles


def _volume(points: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6.0)


def test_tetrahedron_masks():
    """Closed, valence 3: old vertices 7/16 and 3/16 each; edge points 3/8, 3/8, 1/8, 1/8."""
    matrix, triangles = loop_subdivision(TETRAHEDRON, 4)
    dense = matrix.toarray()
    assert dense.shape == (10, 4) and triangles.shape == (16, 3)
    expected_old = np.full((4, 4), 3 / 16) + np.eye(4) * (7 / 16 - 3 / 16)
    np.testing.assert_allclose(dense[:4], expected_old, atol=1e-15)
    for first in range(4):
        for second in range(first + 1, 4):
            expected = np.full(4, 1 / 8)
            expected[[first, second]] = 3 / 8
            np.testing.assert_allclose(dense[_edge_row(TETRAHEDRON, 4, first, second)], expected, atol=1e-15)


def test_patch_with_boundary():
    """Valence 6 inside: 5/8 and 1/16 each; boundary 3/4, 1/8, 1/8 along it; boundary edges in their middles."""
    dense = loop_subdivision(FAN, 7)[0].toarray()
    np.testing.assert_allclose(dense[0], [5 / 8] + [1 / 16] * 6, atol=1e-15)
    for vertex in range(1, 7):
        expected = np.zeros(7)
        expected[vertex] = 3 / 4
        expected[[vertex % 6 + 1, (vertex - 2) % 6 + 1]] = 1 / 8
        np.testing.assert_allclose(dense[vertex], expected, atol=1e-15)
        following = vertex % 6 + 1
        outer = np.zeros(7)
        outer[[vertex, following]] = 1 / 2
        np.testing.assert_allclose(dense[_edge_row(FAN, 7, vertex, following)], outer, atol=1e-15)
        spoke = np.zeros(7)
        spoke[[0, vertex]] = 3 / 8
        spoke[[following, (vertex - 2) % 6 + 1]] = 1 / 8
        np.testing.assert_allclose(dense[_edge_row(FAN, 7, 0, vertex)], spoke, atol=1e-15)


@pytest.mark.parametrize("subdivide", [loop_subdivision, midpoint_subdivision])
def test_rows_sum_to_one(subdivide):
    _, octahedron = _octahedron()
    for triangles, count in ((TETRAHEDRON, 4), (FAN, 7), (octahedron, 6)):
        sums = np.asarray(subdivide(triangles, count)[0].sum(1)).ravel()
        np.testing.assert_allclose(sums, 1.0, atol=1e-14)


def test_midpoints_keep_old_vertices_and_halve_edges():
    points = np.random.default_rng(1).normal(size=(7, 3))
    matrix, triangles = midpoint_subdivision(FAN, 7)
    fine = matrix @ points
    np.testing.assert_array_equal(fine[:7], points)
    edges, _ = undirected_edges(FAN)
    np.testing.assert_allclose(fine[7:], 0.5 * (points[edges[:, 0]] + points[edges[:, 1]]), atol=1e-15)
    np.testing.assert_array_equal(triangles, loop_subdivision(FAN, 7)[1])


def test_midpoints_keep_the_surface_and_its_orientation():
    """Each triangle becomes four of a quarter of its area with its own normal."""
    points, octahedron = _octahedron()
    points = points * [1.0, 2.0, 3.0]
    matrix, triangles = midpoint_subdivision(octahedron, 6)
    fine = matrix @ points

    def doubled_areas(vertices, faces):
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    parents = np.repeat(doubled_areas(points, octahedron), 4, axis=0)
    np.testing.assert_allclose(doubled_areas(fine, triangles), parents / 4, atol=1e-12)
    assert _volume(fine, triangles) == pytest.approx(_volume(points, octahedron))


def test_loop_keeps_orientation_and_shrinks_a_convex_mesh():
    points, octahedron = _octahedron()
    matrix, triangles = loop_subdivision(octahedron, 6)
    volume = _volume(matrix @ points, triangles)
    assert 0.0 < volume < _volume(points, octahedron)


def test_an_unused_vertex_stays_where_it_is():
    dense = loop_subdivision(FAN, 8)[0].toarray()
    np.testing.assert_array_equal(dense[7], np.eye(8)[7])


def test_an_edge_of_three_triangles_is_refused():
    with pytest.raises(ValueError, match="manifold"):
        loop_subdivision(np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]), 5)
