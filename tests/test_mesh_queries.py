"""Closest points and rays against libigl's tree and against spheres, where the answer is known."""

from __future__ import annotations

import igl
import numpy as np
import pytest
import torch
import trimesh

from fitter.kernels.mesh_queries import MeshQueries


@pytest.fixture(scope="module")
def bumpy():
    """A bumpy ball of radius about 80 mm, 500 mm from the origin."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=80.0)
    vertices = ball.vertices * (1.0 + 0.05 * np.sin(9.0 * ball.vertices[:, :1] / 80.0)) + [500.0, -200.0, 300.0]
    return torch.from_numpy(vertices), torch.from_numpy(np.asarray(ball.faces))


def test_closest_points_are_libigls(bumpy):
    vertices, triangles = bumpy
    queries = MeshQueries(vertices, triangles)
    generator = torch.Generator().manual_seed(1)
    points = vertices[torch.randint(len(vertices), (500,), generator=generator)]
    points = points + 6.0 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    at = queries.closest(points)
    squared, _, closest = igl.point_mesh_squared_distance(points.numpy(), vertices.numpy(), triangles.numpy())
    np.testing.assert_allclose(at.distance.numpy(), np.sqrt(squared), atol=2e-4)
    # Along a flat surface the minimum is flat, too.
    np.testing.assert_allclose(queries.interpolate(vertices, at).numpy(), closest, atol=1e-2)
    assert bool(at.found.all())


def test_reach_leaves_far_points_out(bumpy):
    vertices, triangles = bumpy
    queries = MeshQueries(vertices, triangles)
    outward = torch.nn.functional.normalize(vertices[:50] - vertices.mean(0), dim=-1)
    points = torch.cat([vertices[:50] + 3.0 * outward, vertices[:50] + 30.0 * outward])
    at = queries.closest(points, reach=8.0)
    assert at.found.tolist() == [True] * 50 + [False] * 50
    assert bool(torch.isinf(at.distance[50:]).all())


def test_rays_meet_a_ball_where_geometry_says():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=50.0)
    queries = MeshQueries(torch.from_numpy(ball.vertices), torch.from_numpy(np.asarray(ball.faces)))
    offsets = torch.linspace(-30.0, 30.0, 7, dtype=torch.float64)
    origins = torch.stack([offsets, torch.zeros(7), torch.full((7,), 80.0)], -1).double()
    directions = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).expand(7, 3)
    at = queries.cast(origins, directions, 100.0)
    expected = 80.0 - torch.sqrt(2500.0 - offsets.square())
    torch.testing.assert_close(at.distance, expected, atol=0.05, rtol=0.0)
    hit = queries.interpolate(torch.from_numpy(ball.vertices), at)
    torch.testing.assert_close(hit[:, :2], origins[:, :2], atol=1e-3, rtol=0.0)
    assert not bool(queries.cast(origins, -directions, 100.0).found.any())
    assert not bool(queries.cast(origins, directions, 10.0).found.any())


def test_many_points_on_threads_are_those_of_few(bumpy):
    """Points are shared out to threads; asked for in pieces too small for that, each has the same answer."""
    vertices, triangles = bumpy
    queries = MeshQueries(vertices, triangles)
    generator = torch.Generator().manual_seed(2)
    points = vertices[torch.randint(len(vertices), (20_011,), generator=generator)]
    points = points + 2.0 * torch.randn(len(points), 3, generator=generator, dtype=torch.float64)
    inward = torch.nn.functional.normalize(vertices.mean(0) - points, dim=-1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        many = queries.closest(points, reach=2.0), queries.cast(points, inward, 2.0)
    finally:
        torch.set_num_threads(before)
    for part, rows in enumerate(torch.arange(len(points)).split(1000)):
        few = queries.closest(points[rows], reach=2.0), queries.cast(points[rows], inward[rows], 2.0)
        for one, other in zip(many, few, strict=True):
            for name in ("triangle", "weights", "distance", "found"):
                assert torch.equal(getattr(one, name)[rows], getattr(other, name)), (part, name)


def test_a_moved_mesh_answers_as_one_built_there(bumpy):
    vertices, triangles = bumpy
    generator = torch.Generator().manual_seed(3)
    elsewhere = vertices * torch.tensor([1.1, 0.9, 1.0], dtype=torch.float64) + torch.tensor([20.0, -5.0, 8.0])
    points = elsewhere[torch.randint(len(vertices), (500,), generator=generator)]
    points = points + 3.0 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    moved = MeshQueries(vertices, triangles)
    assert moved.move(elsewhere)
    built = MeshQueries(elsewhere, triangles)
    one, other = moved.closest(points), built.closest(points)
    np.testing.assert_allclose(one.distance.numpy(), other.distance.numpy(), atol=2e-4)
    at = moved.interpolate(elsewhere, one)
    np.testing.assert_allclose(at.numpy(), built.interpolate(elsewhere, other).numpy(), atol=1e-2)
    assert not moved.move(elsewhere[1:])
