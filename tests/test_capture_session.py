"""Sessions: what belongs to one, cameras and units, lens distortion, subsets, the built-in input, the samples."""

from __future__ import annotations

import json

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from fitter.capture.builtin import load_builtin
from fitter.capture.session import check_baseline, load_session, require_landmarks
from fitter.capture.undistort import Distortion, distort_pixels
from fitter.errors import InputError
from tests.capture_inputs import (
    CAPTURES,
    calibrated_folder,
    face_points,
    needs_captures,
    picture,
    write_picture,
    write_pts,
    write_transforms,
    yaw,
)


def test_calibrated_folder_is_a_rig(tmp_path):
    folder = calibrated_folder(tmp_path / "anna", {"b": 20, "a": 0, "c": -20})
    (folder / "notes.txt").write_text("not a photograph")
    session = load_session(folder, unit="cm")
    assert (session.name, session.kind, session.unit, session.mm_per_unit) == ("anna", "rig", "cm", 10.0)
    assert [view.name for view in session.views] == ["a", "b", "c"]
    assert session.calibrated and session.warnings == () and session.skipped == ()
    first = session.views[0]
    assert first.camera.intrinsics.dtype == torch.float64
    assert first.camera.size == first.image.shape[:2] == (80, 120)
    # 1000 units of 1 cm before the face, on +z.
    np.testing.assert_allclose(first.camera.centre, [0, 0, 10000], atol=1e-9)
    np.testing.assert_array_equal(np.rint(first.image * 255), picture(seed=1))
    np.testing.assert_allclose(first.landmarks.points, face_points() + 0.5, atol=1e-6)


def test_unknown_unit_leaves_translations_alone(tmp_path):
    session = load_session(calibrated_folder(tmp_path, {"a": 0, "b": 20}))
    assert session.unit is None and session.mm_per_unit is None
    np.testing.assert_allclose(session.views[0].camera.centre, [0, 0, 1000], atol=1e-9)


def test_without_cameras_it_is_casual(tmp_path):
    folder = calibrated_folder(tmp_path / "with", {"a": 0, "b": 20})
    (tmp_path / "without").mkdir()
    photograph = write_picture(tmp_path / "without" / "y.png")
    for session in (load_session(folder, cameras="none"), load_session([photograph]), load_session(photograph)):
        assert session.kind == "casual" and not session.calibrated
    assert load_session(folder, cameras="none", kind="rig").kind == "rig"


def test_a_list_of_photographs_finds_the_cameras_beside_them(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20, "c": -20})
    session = load_session([folder / "c.png", folder / "a.png"])
    assert [view.name for view in session.views] == ["a", "c"]
    assert session.calibrated and session.warnings == ()


def test_images_subfolder_and_cameras_elsewhere(tmp_path):
    calibrated_folder(tmp_path / "scene" / "images", {"a": 0, "b": 20})
    (tmp_path / "scene" / "images" / "transforms.json").rename(tmp_path / "scene" / "transforms.json")
    session = load_session(tmp_path / "scene")
    assert session.name == "scene" and session.calibrated
    (tmp_path / "scene" / "transforms.json").rename(tmp_path / "cameras.json")
    assert not load_session(tmp_path / "scene").calibrated
    assert load_session(tmp_path / "scene", cameras=tmp_path / "cameras.json").calibrated


@pytest.mark.parametrize(("chosen", "expected"), [(["c", "a"], "ac"), ([1, 2], "bc"), (["1"], "b"), (["b.png"], "b")])
def test_subsets_by_name_and_place(tmp_path, chosen, expected):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20, "c": -20})
    session = load_session(folder, views=chosen)
    assert "".join(view.name for view in session.views) == expected
    assert session.warnings == ()


def test_max_views_spreads_over_the_session(tmp_path):
    for index in range(5):
        write_picture(tmp_path / f"{index}.png")
    assert [view.name for view in load_session(tmp_path, max_views=3).views] == ["0", "2", "4"]
    assert [view.name for view in load_session(tmp_path, max_views=1).views] == ["2"]


def test_masks_in_all_three_places_and_depths(tmp_path):
    white = np.zeros((80, 120), np.uint8)
    white[20:60, 30:90] = 255
    for name in "abcd":
        write_picture(tmp_path / f"{name}.png")
    Image.fromarray(white).save(tmp_path / "a_mask.png")
    Image.fromarray(white > 0).save(tmp_path / "b.mask.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "c.png").write_bytes(imagecodecs.png_encode(white.astype(np.uint16) * 257))
    session = load_session(tmp_path)
    assert [view.name for view in session.views] == ["a", "b", "c", "d"]
    for view in session.views[:3]:
        np.testing.assert_array_equal(view.mask, white / np.float32(255))
    assert session.views[3].mask is None


def test_transparency_serves_as_mask_unless_one_is_given(tmp_path):
    pixels = np.dstack([picture(), np.zeros((80, 120), np.uint8)])
    pixels[20:60, 30:90, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_session(tmp_path).views[0].mask, pixels[..., 3] / np.float32(255))
    Image.fromarray(np.full((80, 120), 255, np.uint8)).save(tmp_path / "a_mask.png")
    assert (load_session(tmp_path).views[0].mask == 1).all()


def test_lens_distortion_is_removed_from_everything(tmp_path):
    """A white square drawn where the lens puts it, with its landmarks, comes out where a pinhole would see it."""
    lens = Distortion(k1=-0.3, p1=0.01)
    intrinsics = np.array([[200.0, 0, 60], [0, 200, 40], [0, 0, 1]])
    ideal = np.full((68, 2), 60.0)
    ideal[:, 0] += np.linspace(-40, 40, 68)
    taken = distort_pixels(ideal, intrinsics, lens)
    columns, rows = np.meshgrid(np.arange(120) + 0.5, np.arange(80) + 0.5)
    distance = np.min([np.hypot(columns - x, rows - y) for x, y in taken], axis=0)
    line = (np.exp(-((distance / 3) ** 2)) * 255).astype(np.uint8)
    Image.fromarray(line).save(tmp_path / "a.png")
    Image.fromarray(line).save(tmp_path / "a_mask.png")
    write_pts(tmp_path / "a.pts", taken - 0.5)
    write_transforms(tmp_path / "transforms.json", {"a.png": yaw(0)}, k1=-0.3, p1=0.01)
    view = load_session(tmp_path).views[0]
    np.testing.assert_allclose(view.landmarks.points, ideal, atol=1e-5)
    np.testing.assert_allclose(view.camera.intrinsics, intrinsics)
    for plane in (view.image[..., 0], view.mask):
        # The straight line y = 60 between the two pixel rows 59 and 60.
        band = plane[40:, 25:95]
        centre = (band * (np.arange(40, 80) + 0.5)[:, None]).sum(0) / band.sum(0)
        np.testing.assert_allclose(centre, 60.0, atol=0.1)


def test_turned_calibrated_photograph(tmp_path):
    """EXIF turns the photograph; the camera file knows it as stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    write_picture(tmp_path / "a.png", exif=exif)
    write_transforms(tmp_path / "transforms.json", {"a.png": yaw(0)}, cx=50.0)
    camera = load_session(tmp_path).views[0].camera
    assert camera.size == (120, 80)
    # Stored (x, y) is seen at (80 - y, x).
    np.testing.assert_allclose(camera.intrinsics, [[200, 0, 40], [0, 200, 50], [0, 0, 1]], atol=1e-12)


def test_metric_metashape_chunk_gives_the_unit(tmp_path):
    from tests.test_capture_cameras import metashape_xml

    for name in ("a.png", "b.jpg"):
        write_picture(tmp_path / name)
    (tmp_path / "cameras.xml").write_text(metashape_xml())
    session = load_session(tmp_path)
    assert (session.unit, session.mm_per_unit) == ("m", 1000.0)
    assert any("lost" in warning for warning in session.warnings)
    overruled = load_session(tmp_path, unit="mm")
    assert overruled.mm_per_unit == 1.0
    assert any("--unit mm was used instead" in warning for warning in overruled.warnings)


def test_views_without_camera_or_landmarks(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20})
    write_picture(folder / "c.png")
    (folder / "b.pts").unlink()
    session = load_session(folder)
    assert [view.name for view in session.views] == ["a", "b"]
    assert session.skipped[0][0] == "c.png" and "no camera in transforms.json" in session.skipped[0][1]
    assert session.views[1].landmarks is None
    needed = require_landmarks(session)
    assert [view.name for view in needed.views] == ["a"]
    assert [name for name, _ in needed.skipped] == ["c.png", "b.png"]
    with pytest.raises(InputError, match=r"c\.png.*no camera"):
        load_session(folder, strict=True)
    with pytest.raises(InputError, match=r"b\.png: found no landmarks.*hrn landmarks"):
        require_landmarks(session, strict=True)


def test_foreign_formats_are_told(tmp_path):
    write_picture(tmp_path / "a.png")
    (tmp_path / "b.heic").write_bytes(b"....")
    session = load_session(tmp_path)
    assert session.skipped[0][0] == "b.heic" and "Convert the photograph to JPEG" in session.warnings[0]


def test_two_landmark_files_are_told(tmp_path):
    write_picture(tmp_path / "a.png")
    write_pts(tmp_path / "a.pts", face_points())
    np.save(tmp_path / "a.npy", face_points() + 5)
    session = load_session(tmp_path)
    np.testing.assert_allclose(session.views[0].landmarks.points, face_points() + 5.5)
    assert "a.npy, not from a.pts" in session.warnings[0]


@pytest.mark.parametrize("yaws", [(0, 89), (-40, 40), (170, 95)])
def test_baseline_up_to_90_degrees(tmp_path, yaws):
    check_baseline(load_session(calibrated_folder(tmp_path, dict(zip("ab", yaws, strict=True)))))


def test_wide_baseline_is_fine_with_a_third_view(tmp_path):
    assert len(load_session(calibrated_folder(tmp_path, {"a": -60, "b": 0, "c": 60})).views) == 3


def test_parallel_cameras_have_no_angle(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 0})
    moved = yaw(0)
    moved[0, 3] = 500
    write_transforms(folder / "transforms.json", {"a.png": yaw(0), "b.png": moved})
    assert len(load_session(folder).views) == 2


def test_loading_twice_gives_the_same(tmp_path):
    folder = calibrated_folder(tmp_path, {"b": 20, "a": 0})
    first, second = load_session(folder), load_session(folder)
    for one, other in zip(first.views, second.views, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.camera.cam_from_world, other.camera.cam_from_world)


def test_builtin_astronaut():
    session = load_builtin()
    view = session.views[0]
    assert (session.name, session.kind, view.image.shape) == ("astronaut", "casual", (512, 512, 3))
    assert view.image.dtype == np.float32 and 0 <= view.image.min() and view.image.max() <= 1
    assert view.landmarks.points.shape == (68, 2)
    # The left and right outer eye corners lie on the face of the photograph, at the same height.
    left, right = view.landmarks.points[36], view.landmarks.points[45]
    assert 150 < left[0] < right[0] < 290 and abs(left[1] - right[1]) < 10
    with pytest.raises(InputError, match="astronaut"):
        load_builtin("mona-lisa")


@needs_captures
def test_sample_rig():
    session = load_session(CAPTURES / "james", unit="mm")
    assert [view.name for view in session.views] == [f"view_{index}" for index in range(5)]
    assert session.kind == "rig" and session.calibrated and session.warnings == ()
    document = json.loads((CAPTURES / "james" / "transforms.json").read_text())
    scan = np.loadtxt(CAPTURES / "james" / "scan_ibug68.txt")
    for view, frame in zip(session.views, document["frames"], strict=True):
        np.testing.assert_allclose(view.camera.centre, np.array(frame["transform_matrix"])[:3, 3], atol=1e-6)
        in_camera = scan @ view.camera.cam_from_world[:3, :3].numpy().T + view.camera.cam_from_world[:3, 3].numpy()
        pixels = in_camera @ view.camera.intrinsics.numpy().T
        error = np.linalg.norm(pixels[:, :2] / pixels[:, 2:] - view.landmarks.points, axis=1)
        assert np.median(error) < 20  # the scan's own landmarks, about 2.7 px per mm
    assert len(load_session(CAPTURES / "james", views=["1", "2", "3"]).views) == 3


@needs_captures
def test_sample_photograph_is_the_builtin_one():
    session = load_session(CAPTURES / "astronaut")
    assert session.kind == "casual" and session.warnings == ()
    np.testing.assert_array_equal(session.views[0].image, load_builtin().views[0].image)
    np.testing.assert_array_equal(session.views[0].landmarks.points, load_builtin().views[0].landmarks.points)
