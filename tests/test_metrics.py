"""Benchmark metrics and alignments against naive twins, and on cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from benchmarks import crops, metrics
from benchmarks.alignments import (
    Similarity,
    alternating_icp,
    is_reflection,
    landmark_alignment,
    least_squares_alignment,
    region_icp,
)
from fitter.compare.surface import Surface
from tests import naive_metrics as naive
from tests.factories import toy_model


@pytest.fixture(scope="module")
def dome():
    model = toy_model()
    triangles = model.atlas_triangles.numpy()
    return Surface(model.mean.double().numpy()[: triangles.max() + 1], triangles)


@pytest.fixture(scope="module")
def other(dome):
    """A deformed dome, so that nothing fits exactly."""
    vertices = dome.vertices.copy()
    vertices[:, 2] += 2.5 * np.sin(vertices[:, 0] / 17) * np.cos(vertices[:, 1] / 23)
    return Surface(vertices, dome.triangles)


def _pose(seed=0, scale=1.0, degrees=4.0, shift=3.0):
    random = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * random.normal(size=3) / np.sqrt(3)).as_matrix()
    return Similarity(scale, turn, random.normal(0, shift, 3))


def _points(surface, count, seed, noise=1.5):
    random = np.random.default_rng(seed)
    points, _ = trimesh.sample.sample_surface(
        trimesh.Trimesh(surface.vertices, surface.triangles, process=False), count, seed=seed
    )
    return np.asarray(points) + random.normal(0, noise, (count, 3))


def test_distances_agree_with_brute_force_under_one_transform(dome):
    pose, points = _pose(1, 1.1), _points(dome, 60, 1, 5.0)
    points = pose(points)
    vertices = pose(dome.vertices)
    np.testing.assert_allclose(
        metrics.scan_to_mesh(points, dome, pose), naive.distances(points, vertices, dome.triangles), atol=1e-6
    )
    np.testing.assert_allclose(
        metrics.point_to_plane(points, dome, pose), naive.plane_distances(points, vertices, dome.triangles), atol=1e-6
    )


def test_rmse_and_chamfer_agree_with_their_definitions(dome, other):
    assert metrics.root_mean_square(np.array([3.0, 4.0])) == pytest.approx(np.sqrt(12.5))
    there = naive.distances(dome.vertices, other.vertices, other.triangles)
    back = naive.distances(other.vertices, dome.vertices, dome.triangles)
    expected = (there.sum() + back.sum()) / (len(there) + len(back))
    assert metrics.chamfer_distance(dome, other) == pytest.approx(expected, abs=1e-6)
    a, b = dome.vertices[:40], other.vertices[30:90]
    table = np.linalg.norm(a[:, None] - b, axis=-1)
    assert metrics.chamfer_points(a, b) == pytest.approx(0.5 * (table.min(0).mean() + table.min(1).mean()))


def test_normal_error_true_and_mapped():
    random = np.random.default_rng(0)
    first = random.normal(size=(50, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = first @ Rotation.from_rotvec([0.2, -0.1, 0.3]).as_matrix().T
    true = np.mean([np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b) for a, b in zip(first, second, strict=True)])
    assert metrics.mean_normal_error(first, second, mapped=False) == pytest.approx(true, abs=1e-6)
    angles = []
    for a, b in zip(first, second, strict=True):
        p, q = [x + 1 for x in a], [x + 1 for x in b]
        cosine = sum(x * y for x, y in zip(p, q, strict=True)) / (np.hypot(np.hypot(*p[:2]), p[2]) * np.linalg.norm(q))
        angles.append(np.arccos(min(1.0, cosine)))
    assert metrics.mean_normal_error(first, second, mapped=True) == pytest.approx(np.mean(angles), abs=1e-6)
    # Known by hand: +x against +z is a right angle; mapped (2, 1, 1) against (1, 1, 2) has a cosine of 5/6.
    x, z = np.array([[1.0, 0, 0]]), np.array([[0, 0, 1.0]])
    assert metrics.mean_normal_error(x, z, mapped=False) == pytest.approx(np.pi / 2)
    assert metrics.mean_normal_error(x, z, mapped=True) == pytest.approx(np.arccos(5 / 6))


def test_nme_is_a_share_of_the_box():
    truth = np.array([[0.0, 0], [40, 0], [0, 90], [40, 90]])
    assert metrics.normalised_mean_error(truth + np.array([3, 4]), truth) == pytest.approx(5 / 60)
    assert metrics.normalised_mean_error(truth + np.array([3, 4]), truth, 10.0) == pytest.approx(0.5)


def test_bootstrap_is_over_subjects_and_seeded():
    random = np.random.default_rng(3)
    subjects = np.repeat(np.arange(8), 50)
    values = np.repeat(random.normal(1.5, 0.3, 8), 50) + random.normal(0, 0.01, 400)
    found = metrics.bootstrap_interval(values, subjects, seed=4)
    assert found == metrics.bootstrap_interval(values, subjects, seed=4)
    assert found.value == pytest.approx(values.mean())
    # Images of one person say the same: the interval is as wide as eight people make it, not four hundred images.
    of_images = metrics.bootstrap_interval(values, np.arange(400), seed=4)
    assert found.high - found.low > 4 * (of_images.high - of_images.low)
    single = metrics.bootstrap_interval(values[:50], subjects[:50])
    assert single.low == single.value == single.high


def test_cumulative_curve_counts():
    curve = metrics.cumulative_curve(np.array([0.5, 1.0, 3.0, 9.0]), np.array([0.0, 1.0, 8.0]))
    np.testing.assert_allclose(curve, [0.0, 0.5, 0.75])


def test_crop_of_the_seven_points():
    marks = np.array([[-45.0, 0, 0], [-15, 0, 0], [15, 0, 0], [45, 0, 0], [0, -50, 0], [-25, -80, 0], [25, -80, 0]])
    centre, radius = crops.seven_point_ball(marks, crops.NOW_FACTOR)
    np.testing.assert_allclose(centre, [0, -35, 0])
    assert radius == pytest.approx(1.4 * (90 + 50) / 2)
    assert crops.seven_point_ball(marks, crops.FG2018_FACTOR)[1] == pytest.approx(84.0)
    vertices = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1, 0], [9, 9, 9]])
    kept, triangles = crops.submesh(
        vertices, np.array([[0, 1, 2], [1, 2, 3]]), crops.inside_ball(vertices, [0, 0, 0], 2)
    )
    assert len(kept) == 3
    assert triangles.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("scale", [False, True])
def test_landmark_alignment_agrees_with_horn(scale):
    random = np.random.default_rng(5)
    source = random.normal(0, 30, (7, 3))
    target = _pose(2, 1.3, 160.0)(source) + random.normal(0, 2, (7, 3))
    found, twin = landmark_alignment(source, target, scale=scale), naive.horn(source, target, scale)
    np.testing.assert_allclose(found(source), naive.moved(source, twin), atol=1e-6)
    assert not is_reflection(found)


def test_a_reflection_is_taken_only_where_allowed():
    random = np.random.default_rng(6)
    source = random.normal(0, 30, (7, 3))
    mirrored = source * [-1, 1, 1]
    assert not is_reflection(landmark_alignment(source, mirrored, scale=True))
    allowed = landmark_alignment(source, mirrored, scale=True, reflect=True)
    assert is_reflection(allowed)
    np.testing.assert_allclose(allowed(source), mirrored, atol=1e-9)
    assert not is_reflection(landmark_alignment(source, _pose(3)(source), scale=True, reflect=True))


@pytest.mark.parametrize("scale", [False, True])
def test_least_squares_recovers_a_known_transform(dome, scale):
    pose = _pose(7, 1.07 if scale else 1.0, 6.0, 4.0)
    points = pose(_points(dome, 400, 7, 0.0))
    found = least_squares_alignment(points, dome, Similarity.identity(), scale=scale)
    assert found.converged
    assert found.distances.max() < 1e-4
    np.testing.assert_allclose(found.pose.matrix(), pose.matrix(), atol=1e-4)


@pytest.mark.parametrize("scale", [False, True])
def test_least_squares_agrees_with_a_second_solver(other, dome, scale):
    points = _pose(8, 1.03 if scale else 1.0, 3.0, 2.0)(_points(dome, 70, 8, 0.4))
    found = least_squares_alignment(points, other, Similarity.identity(), scale=scale, tolerance=1e-7, steps=200)
    twin = naive.minimise_distances(points, other.vertices, other.triangles, (1.0, np.eye(3), np.zeros(3)), scale)
    np.testing.assert_allclose(
        found.distances, naive.distances(points, naive.moved(other.vertices, twin), other.triangles), atol=1e-3
    )


def test_alternating_icp_agrees_with_a_second_loop(other, dome):
    points = dome.vertices[::2]
    partners = _pose(9, 1.02, 2.0, 2.0)(points)
    found = alternating_icp(points, other, partners)
    twin = naive.alternating(points, other.vertices, other.triangles, partners, 1e-3)
    np.testing.assert_allclose(found.pose(dome.vertices), naive.moved(dome.vertices, twin), atol=1e-3)


def test_region_icp_brings_a_region_home(dome):
    pose = _pose(10, 1.0, 4.0, 2.0)
    region = dome.vertices[dome.vertices[:, 1] < 0]
    moved = Surface(pose(dome.vertices), dome.triangles)
    keypoints = region[::9]
    found = region_icp(region, moved, keypoints, pose(keypoints), 5, tolerance=1e-12, steps=500)
    np.testing.assert_allclose(found(moved.vertices), dome.vertices, atol=1e-2)
