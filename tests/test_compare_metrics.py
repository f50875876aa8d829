"""Comparison against naive twins: closest points, normals, Procrustes, ICP, the crop."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.compare.align import Similarity, icp, procrustes, rotation_from_vector
from fitter.compare.metrics import point_errors, score_points
from fitter.compare.scan import MM_PER_UNIT, FaceFrame, Scan, crop, face_frame
from fitter.compare.surface import Surface
from fitter.mesh_normals import vertex_normals
from tests.factories import area_weighted_normals, toy_model


def _segment(point, a, b):
    t = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return a + t * (b - a)


def _closest_in_triangle(point, a, b, c):
    """Project to the plane; if that falls outside, the best of the three edges. No cleverness."""
    normal = np.cross(b - a, c - a)
    inside = point - normal * ((point - a) @ normal) / (normal @ normal)
    signs = [np.cross(q - p, inside - p) @ normal for p, q in ((a, b), (b, c), (c, a))]
    if min(signs) >= 0:
        return inside
    return min((_segment(point, p, q) for p, q in ((a, b), (b, c), (c, a))), key=lambda q: np.linalg.norm(q - point))


def _naive(points, vertices, triangles):
    """Closest points, distances and interpolated normals by trying every triangle."""
    normals = area_weighted_normals(vertices, triangles)
    results = []
    for point in points:
        best = None
        for face in triangles:
            a, b, c = vertices[face]
            close = _closest_in_triangle(point, a, b, c)
            distance = np.linalg.norm(close - point)
            if best is None or distance < best[0]:
                weights = np.linalg.lstsq(np.stack([a, b, c], 1), close, rcond=None)[0]
                normal = weights @ normals[face]
                best = (distance, close, normal / np.linalg.norm(normal))
        results.append(best)
    return [np.array(column) for column in zip(*results, strict=True)]


@pytest.fixture(scope="module")
def dome():
    model = toy_model()
    triangles = model.atlas_triangles.numpy()
    return Surface(model.mean.numpy()[: triangles.max() + 1], triangles)


def test_distances_and_normals_agree_with_brute_force(dome):
    rng = np.random.default_rng(0)
    points = dome.vertices[rng.choice(len(dome.vertices), 25)] + rng.normal(0, 4, (25, 3))
    found = dome.closest(points)
    distances, closest, normals = _naive(points, dome.vertices, dome.triangles)
    np.testing.assert_allclose(found.distances, distances, atol=1e-6)
    np.testing.assert_allclose(found.points, closest, atol=1e-6)
    np.testing.assert_allclose(dome.normals_at(found), normals, atol=1e-6)


def test_score_agrees_with_its_definition(dome):
    rng = np.random.default_rng(1)
    points = dome.vertices[::9] + rng.normal(0, 2, dome.vertices[::9].shape)
    normals = rng.normal(size=points.shape) + np.array([0, 0, 3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    distances, _, fitted = _naive(points, dome.vertices, dome.triangles)
    angles = np.rad2deg(np.arccos((fitted * normals).sum(1)))
    score = score_points(points, normals, dome)
    assert score.count == len(points)
    for value, expected in (
        (score.median, np.median(distances)),
        (score.mean, np.mean(distances)),
        (score.rms, np.sqrt(np.mean(distances**2))),
        (score.p90, np.percentile(distances, 90)),
        (score.p95, np.percentile(distances, 95)),
        (score.normal_median, np.median(angles)),
        (score.normal_mean, np.mean(angles)),
        (score.within_1mm, np.mean(distances <= 1)),
        (score.within_2mm, np.mean(distances <= 2)),
    ):
        assert value == pytest.approx(expected, abs=1e-6)


def _horn(source, target, scale):
    """Horn 1987: the rotation as the leading eigenvector of a 4 x 4 matrix, unlike the package's SVD."""
    a, b = source - source.mean(0), target - target.mean(0)
    s = a.T @ b
    delta = np.array([s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]])
    n = np.block([[np.trace(s), delta[None]], [delta[:, None], s + s.T - np.trace(s) * np.eye(3)]])
    w, x, y, z = np.linalg.eigh(n)[1][:, -1]
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    factor = (b * (a @ rotation.T)).sum() / (a**2).sum() if scale else 1.0
    return factor, rotation, target.mean(0) - factor * rotation @ source.mean(0)


@pytest.mark.parametrize("scale", [False, True])
def test_procrustes_agrees_with_horn(scale):
    rng = np.random.default_rng(2)
    source = rng.normal(0, 50, (68, 3))
    target = 1.3 * source @ rotation_from_vector(np.array([0.5, -1.0, 0.3])).T + rng.normal(0, 2, (68, 3)) + 100
    factor, rotation, translation = _horn(source, target, scale)
    pose = procrustes(source, target, scale=scale)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(pose.translation, translation, atol=1e-6)
    assert pose.scale == pytest.approx(factor, abs=1e-9)


def test_procrustes_never_mirrors():
    rng = np.random.default_rng(3)
    source = rng.normal(0, 50, (20, 3))
    assert np.linalg.det(procrustes(source, source * [-1, 1, 1], scale=True).rotation) == pytest.approx(1)


@pytest.mark.parametrize("factor", [1.0, 1.12])
def test_icp_recovers_a_known_transform(dome, factor):
    rng = np.random.default_rng(4)
    corners = dome.vertices[dome.triangles[rng.integers(0, len(dome.triangles), 1500)]]
    weights = rng.dirichlet((1, 1, 1), len(corners))
    on_surface = (corners * weights[..., None]).sum(1)
    truth = Similarity(factor, rotation_from_vector(np.array([0.1, -0.15, 0.08])), np.array([6.0, -9.0, 4.0]))
    pose = icp(truth(on_surface), dome, scale=factor != 1.0)
    np.testing.assert_allclose(pose(dome.vertices), truth(dome.vertices), atol=1e-3)
    assert point_errors(truth(on_surface), np.zeros_like(on_surface), dome, pose).distances.max() < 1e-3


def test_icp_is_not_pulled_by_a_few_strays(dome):
    corners = dome.vertices[dome.triangles]
    points = np.concatenate([corners.mean(1), [[0, 60, 200], [10, 60, 220], [-10, 60, 210]]])
    pose = icp(points + np.array([2.0, 0, 0]), dome)
    np.testing.assert_allclose(pose.translation, [2, 0, 0], atol=1e-3)


def test_icp_with_normals_is_not_drawn_to_an_inner_sheet(dome):
    """A second sheet 4 mm inside faces inwards, as the inside of a cheek does; some points begin nearer to it."""
    inner = dome.vertices - 4.0 * dome.normals
    inwards = dome.triangles[:, ::-1] + len(dome.vertices)
    both = Surface(np.concatenate([dome.vertices, inner]), np.concatenate([dome.triangles, inwards]))
    rows = np.arange(0, len(dome.triangles), 2)
    points, normals = dome.vertices[dome.triangles[rows]].mean(1), dome.face_normals(rows)
    truth = Similarity(1.0, rotation_from_vector(np.array([0.08, 0.02, 0.0])), np.array([0.0, 0.0, -2.0]))
    moved, turned = truth(points), normals @ truth.rotation.T
    np.testing.assert_allclose(icp(moved, both, normals=turned)(points), moved, atol=0.01)
    assert np.linalg.norm(icp(moved, both)(points) - moved, axis=1).mean() > 0.2
    inside_out = icp(moved, dome, normals=-turned)
    np.testing.assert_allclose(inside_out(points), moved, atol=0.01)


def test_similarity_algebra():
    pose = Similarity(1.7, rotation_from_vector(np.array([0.2, 0.5, -1.0])), np.array([1.0, 2, 3]))
    other = Similarity(0.4, rotation_from_vector(np.array([-0.7, 0.1, 0.2])), np.array([-4.0, 2, 9]))
    points = np.random.default_rng(5).normal(size=(7, 3))
    np.testing.assert_allclose(pose.inverse()(pose(points)), points, atol=1e-12)
    np.testing.assert_allclose(pose.after(other)(points), pose(other(points)), atol=1e-12)
    np.testing.assert_allclose(pose(points), points @ pose.matrix()[:3, :3].T + pose.matrix()[:3, 3], atol=1e-12)


def test_crop_counts_near_and_forward_only():
    vertices = np.array([[0, 0, 0], [79.9, 0, 0], [80.1, 0, 0], [0, 10, 0], [0, 0, -5.0]])
    normals = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, -1], [0, 0, 0.0]])
    scan = Scan(vertices, np.zeros((0, 3), int), normals)
    assert crop(scan, FaceFrame(np.zeros(3), np.array([0, 0, 1.0])), 80.0).tolist() == [0, 1]


def test_face_frame_looks_out_of_the_face():
    model = toy_model()
    landmarks = model.landmarks(model.mean).numpy()
    turn = rotation_from_vector(np.array([0.4, 2.0, -0.3]))
    forward = face_frame(landmarks).forward
    assert forward[2] > 0.97
    np.testing.assert_allclose(face_frame(landmarks @ turn.T + 50).forward, turn @ forward, atol=1e-9)
    np.testing.assert_allclose(face_frame(landmarks).nose_tip, landmarks[30])


def test_scan_normals_are_area_weighted(dome):
    np.testing.assert_allclose(
        vertex_normals(dome.vertices, dome.triangles), area_weighted_normals(dome.vertices, dome.triangles), atol=1e-12
    )
    assert MM_PER_UNIT == {"mm": 1.0, "cm": 10.0, "m": 1000.0}
