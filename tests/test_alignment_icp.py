"""The parts of the search against naive twins: the batched step, samples, candidates, distinct poses."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from fitter.alignment.candidates import nose_candidates, starts_at
from fitter.alignment.icp import step, tree_lookup
from fitter.alignment.poses import Poses, angles_between, distinct
from fitter.alignment.refine import Refinement, refine
from fitter.alignment.samples import NearestField, Samples, sample_scan
from fitter.alignment.template import farthest_points, template_of


def _bumpy(seed=0, subdivisions=4):
    ball = trimesh.creation.icosphere(subdivisions, 70)
    random = np.random.default_rng(seed)
    waves = np.sin(ball.vertices / 70 @ random.normal(0, 3, (3, 5)))
    ball.vertices *= (1 + waves @ random.normal(0, 0.06, 5))[:, None]
    return np.asarray(ball.vertices), np.asarray(ball.faces)


def _poses(count, seed=0):
    random = np.random.default_rng(seed)
    return Poses(Rotation.random(count, random_state=seed).as_matrix(), random.normal(0, 10, (count, 3)))


def _naive_step(points, normals, samples, rotation, translation, gate):
    """One pose, one pair at a time, from the formulas."""
    moved = [rotation @ point + translation for point in points]
    centre = sum(moved) / len(moved)
    reach = np.sqrt(sum((point - centre) @ (point - centre) for point in moved) / len(moved))
    system, gradient = np.zeros((6, 6)), np.zeros(6)
    for point, normal in zip(moved, normals, strict=True):
        nearest = min(range(len(samples.points)), key=lambda k: np.linalg.norm(samples.points[k] - point))
        turned, partner = rotation @ normal, samples.normals[nearest]
        offset = point - samples.points[nearest]
        direction = (turned + partner) / np.linalg.norm(turned + partner)
        error = offset @ direction
        weight = (
            max(0.0, turned @ partner) * max(0.0, 1 - offset @ offset / gate**2) / (1 + (error / (0.3 * gate)) ** 2)
        )
        if samples.border[nearest]:
            weight = 0.0
        row = np.concatenate([np.cross(point - centre, direction) / reach, direction])
        system += weight * np.outer(row, row)
        gradient += weight * error * row
    system += (1e-4 * np.trace(system) / 6 + 1e-6) * np.eye(6)
    update = -np.linalg.solve(system, gradient)
    turn, shift = update[:3] / reach, update[3:]
    turn *= min(1.0, 0.4 / np.linalg.norm(turn))
    shift *= min(1.0, gate / np.linalg.norm(shift))
    change = Rotation.from_rotvec(turn).as_matrix()
    return change @ rotation, change @ (translation - centre) + centre + shift


def test_the_batched_step_is_that_of_each_pose_alone():
    random = np.random.default_rng(1)
    points, normals = random.normal(0, 40, (30, 3)), random.normal(size=(30, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    surface = points + random.normal(0, 4, points.shape)
    others = normals + random.normal(0, 0.3, normals.shape)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    samples = Samples(surface, others, random.random(30) < 0.2, cKDTree(surface))
    vectors = random.normal(0, 0.05, (4, 3))
    poses = Poses(Rotation.from_rotvec(vectors).as_matrix(), random.normal(0, 3, (4, 3)))
    stepped, _ = step(points, normals, samples, tree_lookup(samples), poses, 25.0)
    for row in range(4):
        rotation, translation = _naive_step(
            points, normals, samples, poses.rotations[row], poses.translations[row], 25.0
        )
        assert np.allclose(stepped.rotations[row], rotation, atol=1e-10)
        assert np.allclose(stepped.translations[row], translation, atol=1e-8)


def test_samples_turn_with_the_scan():
    vertices, triangles = _bumpy()
    rotation = Rotation.random(random_state=3).as_matrix()
    lying, turned = (sample_scan(v, triangles, 0) for v in (vertices, vertices @ rotation.T + 300))
    assert np.abs(lying.points @ rotation.T + 300 - turned.points).max() < 1e-6
    assert np.abs(lying.normals @ rotation.T - turned.normals).max() < 1e-6


def test_samples_of_noisy_triangles_have_the_surface_s_normals():
    ball = trimesh.creation.icosphere(6, 70)  # edges of about 1 mm
    noisy = ball.vertices + np.random.default_rng(0).normal(0, 0.7, ball.vertices.shape)
    samples = sample_scan(noisy, np.asarray(ball.faces), 0)
    outward = samples.points / np.linalg.norm(samples.points, axis=1, keepdims=True)
    cosine = (samples.normals * outward).sum(1)
    assert np.degrees(np.arccos(np.median(cosine))) < 12
    assert np.median(np.abs(np.linalg.norm(samples.points, axis=1) - 70)) < 0.3


def test_the_border_is_where_the_triangles_end_even_in_a_soup():
    vertices, triangles = _bumpy()
    triangles = triangles[(vertices[triangles][:, :, 2] > 0).all(1)]
    soup = vertices[triangles].reshape(-1, 3)
    for mesh in ((vertices, triangles), (soup, np.arange(len(soup)).reshape(-1, 3))):
        samples = sample_scan(*mesh, 0)
        assert 0.01 < samples.border.mean() < 0.15
        assert samples.points[samples.border, 2].max() < 12


def test_the_field_answers_within_about_a_voxel():
    points = _bumpy()[0]
    field, tree = NearestField.of_points(points), cKDTree(points)
    asked = np.random.default_rng(0).uniform(-90, 90, (500, 3))
    exact = tree.query(asked)[0]
    answered = np.linalg.norm(points[field(asked)] - asked, axis=1)
    assert (answered >= exact - 1e-9).all()
    assert np.percentile(answered - exact, 95) < field.voxel


def test_a_nose_is_the_first_candidate_of_a_ball_with_a_nose():
    ball = trimesh.creation.icosphere(5, 80)
    direction = np.array([0.6, 0.0, 0.8])
    bump = np.exp(-((ball.vertices / 80 - direction) ** 2).sum(1) / 0.03)
    samples = sample_scan(ball.vertices + 20 * bump[:, None] * direction, np.asarray(ball.faces), 0)
    places, forward = nose_candidates(samples, 10)
    assert np.linalg.norm(places[0] - 100 * direction) < 8
    assert forward[0] @ direction > 0.95
    starts = starts_at(places[:1], forward[:1])
    assert len(starts) == 12 and np.allclose(np.linalg.det(starts.rotations), 1.0)
    assert np.allclose(starts.rotations[:, :, 2], forward[0])
    assert angles_between(starts.rotations[0], starts.rotations[1]) == pytest.approx(30.0)


def test_distinct_poses_are_the_best_of_their_neighbourhoods():
    poses = _poses(40, seed=2)
    near = Poses(poses.rotations, poses.translations + 0.5)
    both = Poses.joined([poses, near])
    scores = np.random.default_rng(0).random(80)
    rows = distinct(both, scores, 4.0, 4.0, 80)
    assert len(rows) == 40 and (np.diff(scores[rows]) >= 0).all()
    assert all(scores[row] <= scores[(row + 40) % 80] for row in rows)
    assert list(distinct(both, scores, 4.0, 4.0, 5)) == list(rows[:5])


def test_farthest_points_are_nested_and_spread():
    points = np.random.default_rng(0).random((400, 3))
    rows = farthest_points(points, 100)
    assert list(rows[:20]) == list(farthest_points(points, 20)) and len(set(rows)) == 100
    assert cKDTree(points[rows]).query(points[rows], 2)[0][:, 1].min() > 0.1


def test_refining_finds_pose_and_modes(open_model):
    """The mean moved by known modes, a little off: what is left is well below the start's error."""
    template = template_of(open_model)
    coefficients = np.zeros((1, template.modes.shape[2]))
    coefficients[0, :4] = [1.2, -1.0, 0.8, -0.6]
    identity = np.zeros(open_model.identity_basis.shape[2], np.float32)
    identity[:4] = coefficients[0, :4]
    vertices = (open_model.mean.numpy() + open_model.identity_basis.numpy() @ identity).astype(
        np.float64
    ) - template.nose_tip
    face = open_model.regions["face"].numpy()
    triangles = open_model.triangles.numpy()
    samples = sample_scan(vertices, triangles[face[triangles].all(1)], 0)
    start = Poses(Rotation.from_rotvec([[0.05, -0.05, 0.05]]).as_matrix(), np.array([[2.0, -2.0, 2.0]]))
    refined = refine(template, samples, start, Refinement(400, 25, (12.0, 5.0)))
    truth = template.shape(coefficients)[0, :400]
    left = np.linalg.norm(refined.fitted.points(refined.shapes)[0] - truth, axis=1)
    assert np.median(left) < 1.2
    goal = truth - truth.mean(0)
    source = template.spread.points[:400]
    u, _, vt = np.linalg.svd(goal.T @ (source - source.mean(0)))
    assert angles_between(refined.poses.rotations[0], u @ vt) < 1.5
