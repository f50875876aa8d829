"""Connectivity tables against a loop over the triangles."""

import pytest
import torch

from fitter.render import MeshTopology
from tests.render_scenes import sphere


def test_two_triangles_by_hand():
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [2, 1, 3]]), 5)
    assert topology.triangles.dtype == torch.int32
    assert topology.neighbours.tolist() == [[-1, 1, -1], [0, -1, -1]]
    assert topology.corner_offsets.tolist() == [0, 1, 3, 5, 6, 6]
    assert topology.corners.tolist() == [0, 1, 4, 2, 3, 5]
    assert (topology.n_triangles, topology.n_vertices) == (2, 5)


def test_neighbours_against_loop():
    _, topology = sphere(1)
    triangles = topology.triangles.tolist()
    owners: dict[frozenset, list[int]] = {}
    for face, corners in enumerate(triangles):
        for k in range(3):
            owners.setdefault(frozenset((corners[k], corners[(k + 1) % 3])), []).append(face)
    for face, corners in enumerate(triangles):
        for k in range(3):
            others = [f for f in owners[frozenset((corners[k], corners[(k + 1) % 3]))] if f != face]
            expected = others[0] if len(others) == 1 else -1
            assert topology.neighbours[face, k] == expected


def test_edge_of_three_triangles_is_boundary():
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    assert (topology.neighbours[:, 0] == -1).all()


def test_bad_triangles_are_refused():
    with pytest.raises(ValueError, match="F, 3"):
        MeshTopology.from_triangles(torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="only 2"):
        MeshTopology.from_triangles(torch.tensor([[0, 1, 2]]), 2)
