"""Edges of a mesh against sorting and loops: soups, hubs of fans, edges of three triangles, vertices that nothing uses."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.mesh_edges import HUB, corners_by_vertex, edge_table, undirected_edges


def _soup(seed: int) -> tuple[np.ndarray, int]:
    """Random triangles with distinct corners; with few vertices every kind of edge occurs."""
    random = np.random.default_rng(seed)
    vertices = int(random.integers(3, 40))
    triangles = random.integers(0, vertices, (int(random.integers(1, 300)), 3))
    return triangles[(triangles != np.roll(triangles, -1, axis=1)).all(1)], vertices + 2


def _fan() -> tuple[np.ndarray, int]:
    """A closed fan around one vertex with more edges than are sorted by insertion."""
    count = 3 * HUB
    rim = np.arange(1, count + 1)
    return np.stack([np.zeros(count, int), rim, np.roll(rim, -1)], 1), count + 1


MESHES = [_soup(seed) for seed in range(12)] + [_fan(), (np.zeros((0, 3), int), 4)]


@pytest.mark.parametrize("mesh", MESHES, ids=range(len(MESHES)))
def test_table_against_a_loop(mesh):
    triangles, count = mesh
    owners: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for face, corners in enumerate(triangles.tolist()):
        for edge in range(3):
            start, end = corners[edge], corners[(edge + 1) % 3]
            owners.setdefault((min(start, end), max(start, end)), []).append((face, start))
    table = edge_table(triangles, count)
    for face, corners in enumerate(triangles.tolist()):
        for edge in range(3):
            start, end = corners[edge], corners[(edge + 1) % 3]
            users = owners[min(start, end), max(start, end)]
            assert table.uses[face, edge] == len(users)
            others = [user for user in users if user != (face, start)]
            if len(users) != 2:
                assert table.neighbours[face, edge] == -1 and not table.agrees[face, edge]
            elif others:
                assert table.neighbours[face, edge] == others[0][0]
                assert table.agrees[face, edge] == (others[0][1] != start)


@pytest.mark.parametrize("mesh", MESHES, ids=range(len(MESHES)))
def test_edges_and_corners_against_sorting(mesh):
    triangles, count = mesh
    pairs = np.sort(np.stack([triangles, np.roll(triangles, -1, axis=1)], -1).reshape(-1, 2), axis=1)
    edges, numbers = undirected_edges(triangles)
    expected, inverse = np.unique(pairs, axis=0, return_inverse=True)
    np.testing.assert_array_equal(edges, expected)
    np.testing.assert_array_equal(numbers.ravel(), inverse.ravel())
    offsets, corners = corners_by_vertex(triangles, count)
    np.testing.assert_array_equal(corners, np.argsort(triangles.ravel(), kind="stable"))
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(triangles.ravel(), minlength=count))
