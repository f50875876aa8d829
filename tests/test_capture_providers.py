"""Landmark providers and `hrn landmarks`, with small stand-ins for the optional packages."""

from __future__ import annotations

import enum
import hashlib
import sys
import types
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from fitter.capture.landmark_files import read_landmarks
from fitter.capture.providers import make_provider, provider_status
from fitter.capture.session import load_session, require_landmarks
from fitter.cli.landmarks import landmarks_command
from fitter.errors import InputError, MissingPartError
from tests.capture_inputs import face_points, picture, write_picture


class _Kinds(enum.IntEnum):
    TWO_D = 1


@pytest.fixture
def face_alignment(monkeypatch):
    """A module with face-alignment's interface that finds two faces in bright photographs and none in dark ones."""
    module = types.ModuleType("face_alignment")
    module.__spec__ = types.SimpleNamespace(name="face_alignment")
    module.LandmarksType = _Kinds
    module.calls = []

    class FaceAlignment:
        def __init__(self, landmarks_type, device="cuda", flip_input=True, compile=True):
            assert landmarks_type == _Kinds.TWO_D
            module.calls.append({"device": device, "compile": compile})

        def get_landmarks_from_image(self, image, return_bboxes=False, return_landmark_score=False):
            assert image.dtype == np.uint8
            assert return_bboxes and return_landmark_score
            if image.mean() < 20:
                return None, None, None
            small = face_points() * 0.1
            return [small, face_points()], [np.zeros(68), np.full(68, 1.2)], [None, None]

    module.FaceAlignment = FaceAlignment
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    return module


@pytest.fixture
def mediapipe(monkeypatch):
    """A module with the interface of MediaPipe Tasks."""
    module = types.ModuleType("mediapipe")
    module.__spec__ = types.SimpleNamespace(name="mediapipe")
    fractions = np.random.default_rng(0).uniform(0.3, 0.7, (478, 2))
    module.fractions = fractions

    class FaceLandmarker:
        @staticmethod
        def create_from_options(options):
            if b"model" not in open(options.base_options, "rb").read():
                raise ValueError("Unable to open zip archive.")
            return FaceLandmarker()

        def detect(self, image):
            points = [types.SimpleNamespace(x=x, y=y, z=0.0) for x, y in fractions]
            return types.SimpleNamespace(face_landmarks=[points] if image.data.mean() > 20 else [])

    vision = types.SimpleNamespace(
        FaceLandmarker=FaceLandmarker,
        FaceLandmarkerOptions=lambda base_options, num_faces: types.SimpleNamespace(base_options=base_options),
    )
    module.tasks = types.SimpleNamespace(vision=vision, BaseOptions=lambda model_asset_path: model_asset_path)
    module.ImageFormat = types.SimpleNamespace(SRGB="srgb")
    module.Image = lambda image_format, data: types.SimpleNamespace(data=data)
    monkeypatch.setitem(sys.modules, "mediapipe", module)
    return module


def test_face_alignment_takes_the_largest_face(face_alignment):
    landmarks = make_provider("face-alignment").detect(picture().astype(np.float32) / 255)
    np.testing.assert_allclose(landmarks.points, face_points() + 0.5)  # pixel indices to pixel centres
    np.testing.assert_allclose(landmarks.confidence, 0.6)  # the scores of the picture and its mirror image are summed
    assert landmarks.scheme == "ibug68"
    assert face_alignment.calls == [{"device": "cpu", "compile": False}]


def test_face_alignment_without_weights(face_alignment):
    def fail(self, *args, **kwargs):
        raise URLError("no route to host")

    face_alignment.FaceAlignment.__init__ = fail
    with pytest.raises(MissingPartError, match=r"weights of face-alignment is missing.*no route.*2DFAN4.*checkpoints"):
        make_provider("face-alignment")


def test_mediapipe_points_are_fractions(mediapipe, tmp_path):
    (tmp_path / "face.task").write_bytes(b"model")
    provider = make_provider(model_file=tmp_path / "face.task")
    assert provider.checksum == hashlib.sha256(b"model").hexdigest()
    landmarks = provider.detect(picture(80, 120).astype(np.float32) / 255)
    np.testing.assert_allclose(landmarks.points, mediapipe.fractions * (120, 80))
    assert landmarks.scheme == "mediapipe478"


def test_mediapipe_model_file_errors(mediapipe, tmp_path):
    with pytest.raises(MissingPartError, match=r"model file is missing.*--model-file"):
        make_provider("mediapipe")
    with pytest.raises(InputError, match=r"no\.task: found no readable file.*Download"):
        make_provider("mediapipe", model_file=tmp_path / "no.task")
    (tmp_path / "bad.task").write_bytes(b"something")
    with pytest.raises(InputError, match=r"bad\.task.*does not accept.*zip archive"):
        make_provider("mediapipe", model_file=tmp_path / "bad.task")


def test_missing_packages_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MissingPartError, match=r"hrn-fitter\[landmarks\]"):
        make_provider("face-alignment")
    (tmp_path / "face.task").write_bytes(b"model")
    with pytest.raises(MissingPartError, match=r"hrn-fitter\[mediapipe\]"):
        make_provider("mediapipe", model_file=tmp_path / "face.task")
    with pytest.raises(InputError, match="face-alignment or mediapipe"):
        make_provider("dlib")


def test_status_of_installed_providers(face_alignment, mediapipe):
    status = provider_status()
    assert status["face-alignment"][0] and status["mediapipe"][0]
    assert "face_landmarker" in status["mediapipe"][1]


def test_session_asks_the_provider_only_where_no_file_is(face_alignment, tmp_path):
    write_picture(tmp_path / "a.png")
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(tmp_path / "dark.png")
    np.save(tmp_path / "b.npy", face_points() + 3)
    write_picture(tmp_path / "b.png")
    session = require_landmarks(load_session(tmp_path), make_provider("face-alignment"))
    assert [view.name for view in session.views] == ["a", "b"]
    np.testing.assert_allclose(session.views[0].landmarks.points, face_points() + 0.5)
    np.testing.assert_allclose(session.views[1].landmarks.points, face_points() + 3.5)
    assert session.skipped[0][0] == "dark.png"
    assert "no face" in session.skipped[0][1]


def test_command_writes_landmarks_and_overlays(face_alignment, tmp_path):
    write_picture(tmp_path / "a.png")
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(tmp_path / "dark.png")
    lines: list[str] = []
    written = landmarks_command([tmp_path], say=lines.append)
    assert [path.name for path in written] == ["a.json"]
    np.testing.assert_allclose(read_landmarks(written[0], (80, 120)).points, face_points() + 0.5, atol=1e-4)
    overlay = np.asarray(Image.open(tmp_path / "a_landmarks.png"))
    changed = (overlay != picture()).any(axis=2)
    for x, y in face_points():
        assert changed[round(y), round(x)]
    assert changed.mean() < 0.2
    assert any("dark.png" in line and "no face" in line for line in lines)
    # The overlay is not taken for a photograph, neither by a session nor by a second run.
    assert [view.name for view in load_session(tmp_path).views] == ["a", "dark"]
    assert len(landmarks_command([tmp_path], say=lines.append)) == 1


def test_command_shows_the_checksum_and_writes_elsewhere(mediapipe, tmp_path):
    (tmp_path / "photos").mkdir()
    write_picture(tmp_path / "photos" / "a.png")
    (tmp_path / "face.task").write_bytes(b"model")
    lines: list[str] = []
    landmarks_command(
        [tmp_path / "photos"], None, tmp_path / "face.task", tmp_path / "out", draw=False, say=lines.append
    )
    assert hashlib.sha256(b"model").hexdigest() in lines[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]
    assert read_landmarks(tmp_path / "out" / "a.json", (80, 120)).scheme == "mediapipe478"


def test_command_without_a_provider_says_what_to_do(monkeypatch, tmp_path):
    write_picture(tmp_path / "a.png")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match=r"pip install 'hrn-fitter\[landmarks\]'.*--model-file"):
        landmarks_command([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
