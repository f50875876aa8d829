"""Landmarks that fix the pose: some wrong, too few, mirrored, elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fitter.alignment import align_scan
from fitter.alignment.landmarks import pose_of_landmarks, procrustes, usable
from fitter.alignment.template import template_of
from fitter.capture.types import ScanLandmarks
from fitter.errors import InputError


@pytest.fixture(scope="module")
def scan(open_model):
    """The mean's face in a pose, its landmarks and the pose."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=11).as_matrix()
    pose[:3, 3] = [200.0, -100.0, 300.0]
    face = open_model.regions["face"].numpy()
    triangles = open_model.triangles.numpy()
    triangles = triangles[face[triangles].all(1)]
    used, inverse = np.unique(triangles, return_inverse=True)
    vertices = open_model.mean.double().numpy()[used] @ pose[:3, :3].T + pose[:3, 3]
    landmarks = open_model.landmarks(open_model.mean).double().numpy() @ pose[:3, :3].T + pose[:3, 3]
    return vertices, inverse.reshape(-1, 3), landmarks, pose


def _given(landmarks, numbers):
    return ScanLandmarks(landmarks[numbers], np.array(numbers), "test")


def _close(result, pose, degrees=1.0, millimetres=1.0):
    turn = np.degrees(Rotation.from_matrix(result.scan_from_model[:3, :3] @ pose[:3, :3].T).magnitude())
    return turn < degrees and np.linalg.norm(result.scan_from_model[:3, 3] - pose[:3, 3]) < millimetres


def test_four_landmarks_are_enough_and_contour_points_are_never_asked(scan, open_model):
    vertices, triangles, landmarks, pose = scan
    wrong_contour = landmarks.copy()
    wrong_contour[:17] += 300.0
    given = _given(wrong_contour, [*range(17), 36, 45, 33, 54])
    result = align_scan(vertices, triangles, open_model, landmarks=given)
    assert _close(result, pose) and result.method == "landmarks" and result.certain
    assert np.isnan(result.runner_up) and not result.warnings


def test_wrong_landmarks_are_named_and_let_go(scan, open_model):
    vertices, triangles, landmarks, pose = scan
    bent = landmarks.copy()
    bent[[30, 48]] += [60.0, 0.0, 40.0]
    result = align_scan(vertices, triangles, open_model, landmarks=_given(bent, list(range(17, 68))))
    assert _close(result, pose) and result.certain
    assert "30, 48" in result.warnings[0]


@pytest.mark.parametrize("numbers", [[30, 36, 45], [27, 28, 29, 30], list(range(17))])
def test_landmarks_that_fix_no_pose_are_left_to_the_search(scan, open_model, numbers):
    vertices, triangles, landmarks, pose = scan
    result = align_scan(vertices, triangles, open_model, landmarks=_given(landmarks, numbers))
    assert _close(result, pose) and result.method == "search"
    assert "were not used" in result.warnings[0]


@pytest.mark.parametrize(("shift", "whose"), [(150.0, "the landmarks' alone"), (12.0, "the surface's")])
def test_landmarks_elsewhere_are_said_to_disagree(scan, open_model, shift, whose):
    vertices, triangles, landmarks, pose = scan
    elsewhere = landmarks + shift * pose[:3, 1]
    result = align_scan(vertices, triangles, open_model, landmarks=_given(elsewhere, list(range(17, 68))))
    assert not result.certain and "disagree" in result.warnings[0] and whose in result.warnings[0]
    assert _close(result, pose) == (whose == "the surface's")


def test_mirrored_landmarks_are_found_out(scan, open_model):
    vertices, triangles, landmarks, pose = scan
    # Numbered from the wrong side: the eyes', brows' and mouth's points change places.
    swapped = landmarks.copy()
    pairs = [(17, 26), (18, 25), (21, 22), (36, 45), (39, 42), (31, 35), (48, 54), (40, 47), (41, 46), (50, 52)]
    for left, right in pairs:
        swapped[[left, right]] = landmarks[[right, left]]
    numbers = sorted({number for pair in pairs for number in pair} | {27, 30, 33, 51, 57})
    result = align_scan(vertices, triangles, open_model, landmarks=_given(swapped, numbers))
    assert _close(result, pose) and "mirrored" in result.warnings[0]


def test_landmarks_with_impossible_numbers_are_refused(scan):
    landmarks = scan[2]
    with pytest.raises(InputError, match="0 to 67"):
        usable(ScanLandmarks(landmarks[:4], np.array([20, 30, 40, 68]), "test"))
    with pytest.raises(InputError, match="0 to 67"):
        usable(ScanLandmarks(landmarks[:4], np.array([20, 30, 40]), "test"))


def test_procrustes_recovers_a_pose_and_never_mirrors():
    random = np.random.default_rng(0)
    points, weights = random.normal(size=(6, 3)), random.uniform(0.1, 1.0, 6)
    rotation, shift = Rotation.random(random_state=1).as_matrix(), random.normal(size=3)
    found = procrustes(points, points @ rotation.T + shift, weights)
    assert np.allclose(found[0], rotation) and np.allclose(found[1], shift)
    assert np.linalg.det(procrustes(points, points * [-1, 1, 1], weights)[0]) == pytest.approx(1.0)


def test_a_fifth_of_wrong_points_does_not_move_the_pose(open_model):
    template = template_of(open_model)
    numbers = np.arange(17, 68)
    random = np.random.default_rng(3)
    points = template.landmarks[numbers] + 5.0
    points[random.choice(len(points), 10, replace=False)] += random.normal(0, 60, (10, 3))
    pose = pose_of_landmarks(template, numbers, points, 0)
    assert np.linalg.norm(pose.pose.translations[0] - 5.0) < 0.5 and not pose.mirrored
