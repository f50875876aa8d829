"""Captures of generated subjects: skins of all tones, cameras and landmarks that agree, folders that load."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("anny")
from benchmarks.sensor import SENSORS
from benchmarks.subjects import generate_subject, random_pose
from benchmarks.subjects.cameras import camera_ring, detected_landmarks, pixels
from benchmarks.subjects.lights import Lighting, random_lighting
from benchmarks.subjects.photograph import CaptureSettings, capture, developed
from benchmarks.subjects.pigment import TONES, skin_reflectance
from benchmarks.subjects.quick import QuickRenderer
from benchmarks.subjects.radiance import kept_radiance
from benchmarks.subjects.skin import Look, look_of, skin_of
from fitter.capture.session import load_session
from fitter.compare.scan import load_scan, load_scan_landmarks

EDGE = 4.0
"""mm: coarse, for speed."""
QUICK = CaptureSettings(seed=1, renderer="quick", views=3, size=96, edge_mm=EDGE, posed=True)


@pytest.fixture(scope="module")
def subject(open_model):
    """One face."""
    return generate_subject(1, edge_mm=EDGE)


@pytest.fixture(scope="module")
def folder(open_model, tmp_path_factory):
    """One quick capture."""
    return capture(tmp_path_factory.mktemp("captures"), QUICK)


def test_tones_go_from_very_light_to_very_dark():
    colours = skin_reflectance(np.array(TONES), np.full(len(TONES), 0.01))
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert len(TONES) >= 6 and (np.diff(luminance) < 0).all()
    assert luminance[0] > 0.33 and luminance[-1] < 0.08
    assert (colours[:, 0] > colours[:, 1]).all() and (colours[:, 1] > colours[:, 2]).all()


def test_blood_reddens():
    pale, flushed = skin_reflectance(np.full(2, 0.02), np.array([0.005, 0.05]))
    assert flushed[1] / flushed[0] < 0.8 * pale[1] / pale[0]


def test_colour_is_a_function_of_position(subject):
    skin = skin_of(subject)
    look = look_of(subject, skin)
    chosen = np.arange(0, len(subject.rest), 7)
    part = skin(
        subject.rest[chosen],
        {name: share[chosen] for name, share in subject.regions.items()},
        subject.hidden_depth[chosen],
    )
    np.testing.assert_allclose(part.albedo, look.albedo[chosen], atol=1e-9)
    assert 0.0 <= look.albedo.min() and look.albedo.max() <= 1.0


def test_regions_have_their_colours(subject):
    look = look_of(subject, skin_of(subject, tone=1, stubble=0.0))
    counted = ~subject.left_out
    lips = np.median(look.albedo[counted & (subject.regions["lips"] > 0.9)], 0)
    cheek = np.linalg.norm(subject.rest - 0.5 * subject.rest_landmarks[[14, 35]].sum(0), axis=1) < 15.0
    skin = np.median(look.albedo[cheek & counted], 0)
    assert lips[1] / lips[0] < 0.9 * skin[1] / skin[0]
    eyes = look.albedo[subject.mask("eyes")]
    assert eyes.max() < 0.7 and look.roughness[subject.mask("eyes")].max() < 0.2


def test_a_subject_has_the_same_skin_in_every_expression(subject):
    smiling = generate_subject(1, edge_mm=EDGE, expression="smile")
    np.testing.assert_array_equal(look_of(smiling, skin_of(smiling)).albedo, look_of(subject, skin_of(subject)).albedo)


def test_cameras_move_with_the_subject(subject):
    moved = subject.moved(random_pose(3))
    here = camera_ring(subject, 3, 100, np.random.default_rng(0))[0]
    there = camera_ring(moved, 3, 100, np.random.default_rng(0))[0]
    for first, second in zip(here, there, strict=True):
        np.testing.assert_allclose(pixels(first, subject.landmarks), pixels(second, moved.landmarks), atol=1e-6)


def test_hidden_jaw_points_go_to_the_outline(subject):
    camera = camera_ring(subject, 2, 400, np.random.default_rng(0))[0][1]
    found, visible = detected_landmarks(subject, camera, np.random.default_rng(1))
    true = pixels(camera, subject.landmarks)
    # From the subject's left the right half of the jaw cannot be seen; the picture's left is the outline.
    assert not visible[2:6].any() and visible[12:15].all()
    assert (found[2:6, 0] < true[2:6, 0] - 5.0).all()
    inner = np.flatnonzero(visible & (np.arange(68) > 16))
    assert np.abs(found - true)[inner].max() < 5.0


def test_uniform_light_shows_the_albedo(subject):
    grey = np.full((len(subject.vertices), 3), 0.5)
    look = Look(grey, np.full(len(grey), 0.5), np.zeros(len(grey)))
    camera = camera_ring(subject, 1, 64, np.random.default_rng(0))[0][0]
    image = QuickRenderer(subject, look, Lighting((), np.ones(3))).photograph(camera)
    place = pixels(camera, subject.landmarks[[30]]).astype(int)[0]
    np.testing.assert_allclose(image[place[1], place[0]], 0.5, atol=0.01)


def test_sensor_noise_is_that_of_a_camera():
    # Electrons arrive by Poisson's law: the standard deviation of n of them is the root of n.
    linear = np.full((400, 400), 0.2)
    for sensor in SENSORS.values():
        seen = sensor.expose(linear, np.random.default_rng(0))
        expected = np.hypot(np.sqrt(0.2 * sensor.full_well) / sensor.full_well, sensor.read_noise)
        np.testing.assert_allclose(seen.std(), expected, rtol=0.01)
    picture = developed(np.full((200, 200, 3), 0.2), SENSORS["small"], np.random.default_rng(0)).astype(float)
    assert 0.5 < picture.std() < 3.0 and abs(picture.mean() - 123.6) < 0.5


def test_rendered_light_is_kept_for_other_sensors(tmp_path):
    path, calls = tmp_path / "radiance" / "one.npz", []

    def render():
        calls.append(1)
        return [np.full((2, 3, 3), 0.25), np.full((2, 3, 3), 0.5)]

    first, again = kept_radiance(path, render), kept_radiance(path, render)
    assert first.shape == (2, 2, 3, 3) and len(calls) == 1 and (first == again).all()
    np.testing.assert_allclose(first[:, 0, 0, 0], [0.25, 0.5])
    studio, small = CaptureSettings(seed=1), CaptureSettings(seed=1, sensor="small")
    assert studio.name != small.name and studio.radiance_name == small.radiance_name
    assert studio.radiance_name != CaptureSettings(seed=1, samples=49).radiance_name


def test_the_folder_loads_as_a_session(folder):
    session = load_session(folder, unit="mm")
    assert [view.name for view in session.views] == ["view_0", "view_1", "view_2"] and not session.warnings
    truth = np.load(folder / "truth.npz")
    marks = load_scan_landmarks(folder / "scan_ibug68.txt", "mm")
    for number, view in enumerate(session.views):
        assert view.image.shape[:2] == (96, 96)
        # The session's cameras project the true landmarks to where the truth says, and the detector is near.
        projected = pixels(view.camera.to(torch.float64), marks)
        np.testing.assert_allclose(projected, truth["landmarks_2d"][number], atol=0.01)
        seen = truth["landmarks_visible"][number]
        found = np.asarray(view.landmarks.points)
        assert np.abs(found - projected)[seen].max() < 1.5
    scan = load_scan(folder / "scan.ply", "mm")
    assert len(scan.vertices) == len(truth["counted"]) == len(truth["detail"])
    assert np.linalg.norm(scan.vertices - marks[30], axis=1).min() < 2.0


def test_faces_are_in_the_pictures(folder):
    for view in load_session(folder, unit="mm").views:
        image = np.asarray(view.image)
        left, top = np.asarray(view.landmarks.points).min(0).astype(int)
        right, bottom = np.asarray(view.landmarks.points).max(0).astype(int)
        face, border = image[top:bottom, left:right].reshape(-1, 3), image[:, :2].reshape(-1, 3)
        assert np.abs(np.median(face, 0) - np.median(border, 0)).max() > 0.05
        assert face.std() > 0.03


def test_a_capture_is_made_once_and_the_same_again(folder, tmp_path):
    stamp = (folder / "view_0.png").stat().st_mtime_ns
    assert capture(folder.parent, QUICK) == folder
    assert (folder / "view_0.png").stat().st_mtime_ns == stamp
    again = capture(tmp_path, QUICK)
    for name in ("view_0.png", "view_2.pts", "scan.ply", "transforms.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert not [path for path in tmp_path.iterdir() if path != again]
    assert json.loads((again / "subject.json").read_text("utf-8"))["renderer"] == "quick"


def test_other_settings_are_another_folder():
    names = {
        CaptureSettings(seed=1).name,
        CaptureSettings(seed=1, size=512).name,
        CaptureSettings(seed=2).name,
        QUICK.name,
    }
    assert len(names) == 4


def test_path_tracing_sees_what_the_quick_renderer_sees(subject):
    pytest.importorskip("mitsuba")
    from benchmarks.subjects.mitsuba_scene import PathTracer

    random = np.random.default_rng(4)
    look, lighting = look_of(subject, skin_of(subject, tone=2)), random_lighting(random)
    camera = camera_ring(subject, 1, 64, random)[0][0]
    traced = PathTracer(subject, look, lighting, samples=9).photograph(camera)
    quick = QuickRenderer(subject, look, lighting).photograph(camera)
    assert traced.shape == quick.shape
    # Shadows and bounces make the difference, not the place or the scale.
    room = np.abs(quick - lighting.room).max(-1) < 1e-6
    assert np.abs(traced[room] - lighting.room).max(-1).mean() < 0.02
    assert 0.7 < np.median(traced[~room]) / np.median(quick[~room]) < 1.2
    assert np.corrcoef(traced[~room].ravel(), quick[~room].ravel())[0, 1] > 0.8
