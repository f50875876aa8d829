"""Landmark files: formats, pixel convention, round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fitter.capture.landmark_files import find_landmark_files, read_landmarks, write_landmarks
from fitter.capture.types import Landmarks
from fitter.errors import InputError
from tests.capture_inputs import face_points, write_pts

SIZE = (80, 120)


def test_pts_counts_pixels(tmp_path):
    points = face_points()
    points[0] = [0, 0]
    landmarks = read_landmarks(write_pts(tmp_path / "a.pts", points), SIZE)
    assert landmarks.scheme == "ibug68"
    # The first pixel's centre is 0 in the file and 0.5 in the engine.
    assert landmarks.points[0].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(landmarks.points, points + 0.5, atol=1e-6)
    assert (landmarks.confidence == 1).all()


def test_npy_with_confidence(tmp_path):
    confidence = np.linspace(0, 1, 68)
    np.save(tmp_path / "a.npy", np.c_[face_points(), confidence])
    landmarks = read_landmarks(tmp_path / "a.npy", SIZE)
    np.testing.assert_allclose(landmarks.points, face_points() + 0.5)
    np.testing.assert_allclose(landmarks.confidence, confidence)


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("count", [468, 478])
def test_mediapipe_points_as_fractions_and_as_pixels(tmp_path, count, columns):
    fractions = np.random.default_rng(0).uniform(0.2, 0.8, (count, 3))
    np.save(tmp_path / "fractions.npy", fractions[:, :columns])
    pixels = fractions.copy()
    pixels[:, :2] *= (120, 80)
    np.save(tmp_path / "pixels.npy", pixels[:, :columns])
    for name in ("fractions.npy", "pixels.npy"):
        landmarks = read_landmarks(tmp_path / name, SIZE)
        assert landmarks.scheme == "mediapipe478"
        assert landmarks.points.shape == (478, 2)
        np.testing.assert_allclose(landmarks.points[:count], pixels[:, :2])
        assert (landmarks.confidence[:468] == 1).all()
        assert (landmarks.confidence[count:] == 0).all()


def test_json_object_and_bare_list(tmp_path):
    points = face_points()
    (tmp_path / "a.json").write_text(json.dumps({"scheme": "ibug68", "points": points.tolist()}))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.json", SIZE).points, points)
    (tmp_path / "b.json").write_text(json.dumps(points.tolist()))
    np.testing.assert_allclose(read_landmarks(tmp_path / "b.json", SIZE).points, points + 0.5)


def test_written_landmarks_come_back(tmp_path):
    given = Landmarks(points=face_points() + 0.123, confidence=np.linspace(0.1, 0.9, 68), scheme="ibug68")
    write_landmarks(tmp_path / "a.json", given, SIZE)
    read = read_landmarks(tmp_path / "a.json", SIZE)
    np.testing.assert_allclose(read.points, given.points, atol=1e-4)
    np.testing.assert_allclose(read.confidence, given.confidence, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_preference_among_several_files(tmp_path):
    for suffix in ("pts", "json", "npy"):
        (tmp_path / f"a.{suffix}").touch()
    assert [path.suffix for path in find_landmark_files(tmp_path / "a.png")] == [".json", ".npy", ".pts"]


def test_some_points_outside_are_fine(tmp_path):
    points = face_points()
    points[:6] = [130, 40]  # 6 of 68 are less than a tenth
    assert read_landmarks(write_pts(tmp_path / "a.pts", points), SIZE).points[0, 0] == 130.5


@pytest.mark.parametrize("count", [5, 67, 98])
def test_wrong_count(tmp_path, count):
    with pytest.raises(InputError, match=rf"a\.pts: found {count} points; expected 68 iBUG .* MediaPipe"):
        read_landmarks(write_pts(tmp_path / "a.pts", np.full((count, 2), 40.0)), SIZE)


def test_malformed_files(tmp_path):
    cases = {
        "a.pts": ("68 points", "n_points"),
        "b.pts": ("version: 1\nn_points: 3\n{\n1 2\n3 x\n}", "lines that are not two numbers"),
        "c.pts": ("version: 1\nn_points: 3\n{\n1 2\n3 4\n}", "2 points; expected the 3"),
        "a.json": ("{not json", "no readable JSON"),
        "b.json": ('{"frames": []}', "no usable `points`"),
        "a.npy": ("text", "no plain numeric array"),
    }
    for name, (text, expected) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=expected):
            read_landmarks(tmp_path / name, SIZE)
    document = {"scheme": "mediapipe478", "points": face_points().tolist()}
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="scheme 'mediapipe478' with 68 points"):
        read_landmarks(tmp_path / "c.json", SIZE)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="no plain numeric array"):
        read_landmarks(tmp_path / "a.npy", SIZE)
