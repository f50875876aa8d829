"""Bad input: one clear line that names the file, what was found, what was expected, and what to do."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from fitter.capture.landmark_files import write_landmarks
from fitter.capture.providers import make_provider
from fitter.capture.session import load_session, require_landmarks
from fitter.capture.types import Landmarks
from fitter.errors import InputError
from tests.capture_inputs import calibrated_folder, face_points, write_picture, write_pts, write_transforms, yaw


def refused(pattern: str):
    """Expect an InputError whose one line matches."""
    return pytest.raises(InputError, match=pattern)


def photograph(folder, name: str = "a", **options):
    folder.mkdir(parents=True, exist_ok=True)
    return write_picture(folder / f"{name}.png", **options)


def test_empty_and_missing_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with refused(r"empty: found no photograph; expected at least one JPEG, PNG or TIFF\. Give the folder"):
        load_session(tmp_path / "empty")
    with refused(r"nowhere: found no such file or folder; expected a folder or photographs\. Check the path"):
        load_session(tmp_path / "nowhere")
    with refused(r"a\.png: found no such file or folder"):
        load_session([tmp_path / "a.png"])
    with refused("no path"):
        load_session([])
    (tmp_path / "empty" / "a.heic").write_bytes(b"x")
    with refused(r"only formats that are not read \(a\.heic\).*Convert the photographs to JPEG"):
        load_session(tmp_path / "empty")


def test_landmarks_without_their_image(tmp_path):
    photograph(tmp_path)
    write_pts(tmp_path / "b.pts", face_points())
    np.save(tmp_path / "c.npy", face_points())
    (tmp_path / "d.json").write_text(json.dumps(face_points().tolist()))
    (tmp_path / "settings.json").write_text("{}")
    warnings = load_session(tmp_path).warnings
    assert len(warnings) == 3
    for name, warning in zip(("b.pts", "c.npy", "d.json"), warnings, strict=True):
        assert warning.startswith(f"{name}: landmarks without their photograph {name[0]}.*")


def test_mask_without_its_image(tmp_path):
    photograph(tmp_path)
    Image.new("L", (120, 80), 255).save(tmp_path / "b_mask.png")
    assert load_session(tmp_path).warnings == ("b_mask.png: a mask without its photograph b.* was left out",)


def test_landmarks_outside_the_image(tmp_path):
    photograph(tmp_path)
    write_pts(tmp_path / "a.pts", face_points() * 4)
    with refused(r"a\.pts: found \d+% of the landmarks outside .*; expected points within 120 x 80 .*hrn landmarks"):
        load_session(tmp_path)
    photograph(tmp_path, "b")
    session = load_session(tmp_path)
    assert [view.name for view in session.views] == ["b"]
    assert session.skipped[0][0] == "a.png" and "outside" in session.skipped[0][1]
    with refused("outside"):
        load_session(tmp_path, strict=True)


def test_landmarks_for_another_size(tmp_path):
    photograph(tmp_path)
    write_landmarks(tmp_path / "a.json", Landmarks(face_points() / 2, np.ones(68), "ibug68"), (40, 60))
    with refused(r"a\.json: found landmarks for a picture of 60 x 40 pixels; expected 120 x 80.*again"):
        load_session(tmp_path)


def test_landmarks_made_before_the_photograph_was_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path, exif=exif)
    write_landmarks(tmp_path / "a.json", Landmarks(face_points(), np.ones(68), "ibug68"), (80, 120))
    with refused(r"a\.json: found landmarks .* 120 x 80 pixels; expected 80 x 120.*turned upright as its EXIF tag"):
        load_session(tmp_path)
    (tmp_path / "a.json").unlink()
    write_pts(tmp_path / "a.pts", np.tile([115.0, 40.0], (68, 1)))
    with refused(r"a\.pts: found 100% .*turned upright as its EXIF tag"):
        load_session(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_landmarks_that_are_no_numbers(tmp_path, value):
    photograph(tmp_path)
    points = face_points()
    points[3, 1] = value
    write_pts(tmp_path / "a.pts", points)
    with refused(r"a\.pts: found NaN or infinite landmarks; expected finite numbers"):
        load_session(tmp_path)


def test_mask_of_another_size_or_black(tmp_path):
    photograph(tmp_path)
    Image.new("L", (60, 80), 255).save(tmp_path / "a_mask.png")
    with refused(r"a_mask\.png: found a mask of 60 x 80 pixels; expected 120 x 80"):
        load_session(tmp_path)
    Image.new("L", (120, 80), 0).save(tmp_path / "a_mask.png")
    with refused(r"a_mask\.png: found a mask that is black everywhere"):
        load_session(tmp_path)
    (tmp_path / "masks").mkdir()
    Image.new("L", (120, 80), 255).save(tmp_path / "masks" / "a.png")
    with refused(r"several masks \(a_mask\.png, masks/a\.png\)"):
        load_session(tmp_path)


def test_duplicate_stems(tmp_path):
    photograph(tmp_path)
    write_picture(tmp_path / "a.jpg")
    with refused(r"two photographs of the same name \(a\.jpg and a\.png\).*rename"):
        load_session(tmp_path)
    photograph(tmp_path / "one", "x")
    photograph(tmp_path / "two", "x")
    with refused(r"one.x\.png and .*two.x\.png"):
        load_session([tmp_path / "one", tmp_path / "two"])


def test_camera_file_that_names_absent_images(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20, "c": 40})
    (folder / "c.png").unlink()
    (folder / "c.pts").unlink()
    session = load_session(folder)
    assert [view.name for view in session.views] == ["a", "b"]
    assert session.warnings == ("transforms.json names c.png, which is not there",)
    write_transforms(folder / "transforms.json", {"x.png": yaw(0), "y.png": yaw(10)})
    with refused(
        r"transforms\.json: found cameras for photographs that are not there \(x\.png, y\.png\); expected .*a"
    ):
        load_session(folder)


def test_camera_file_of_other_photographs_in_the_folder(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20})
    extra = photograph(folder, "extra")
    with refused(r"transforms\.json: found no camera for extra\.png; expected .*--cameras none"):
        load_session(extra)
    assert load_session(extra, cameras="none").kind == "casual"


def _with_pose(folder, change) -> None:
    pose = yaw(20)
    write_transforms(folder / "transforms.json", {"a.png": yaw(0), "b.png": change(pose)})


def _nan(pose):
    pose[0, 3] = np.nan
    return pose


def _scaled(pose):
    pose[:3, :3] *= 2.5
    return pose


def _sheared(pose):
    pose[0, 1] += 0.1
    return pose


def _mirrored(pose):
    pose[:3, 0] *= -1
    return pose


CAMERA_FAULTS = [
    (
        _nan,
        r"transforms\.json \(b\.png\): found a camera pose with NaN or infinite entries; expected a finite pose\. .+",
    ),
    (_scaled, r"transforms\.json \(b\.png\): found a camera rotation scaled by (2\.5|0\.4); expected a rigid .+scale"),
    (_sheared, r"transforms\.json \(b\.png\): found a camera transform that is not rigid; expected a rigid .+"),
    (_mirrored, r"transforms\.json \(b\.png\): found a mirrored camera .+right-handed"),
]


@pytest.mark.parametrize(("change", "message"), CAMERA_FAULTS)
def test_nan_and_non_rigid_cameras(tmp_path, change, message):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20})
    _with_pose(folder, change)
    session = load_session(folder)
    assert [view.name for view in session.views] == ["a"]
    assert session.skipped[0][0] == "b.png"
    with refused(message):
        load_session(folder, strict=True)
    with refused(message):
        load_session(folder, views=["b"])


def test_no_usable_camera_at_all(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": 0, "b": 20})
    write_transforms(folder / "transforms.json", {"a.png": _scaled(yaw(0)), "b.png": _scaled(yaw(20))})
    with refused(r"no usable photograph among 2; expected at least one\. First: .*scaled by"):
        load_session(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"fl_x": float("nan")},
        {"fl_x": -5.0},
        {"cx": float("inf")},
        {"k1": float("nan")},
        {"fl_x": None, "camera_angle_x": 0.0},
        {"w": float("inf")},
        {"h": 0},
    ],
)
def test_unusable_intrinsics(tmp_path, change):
    folder = calibrated_folder(tmp_path, {"a": 0})
    write_transforms(folder / "transforms.json", {"a.png": yaw(0)}, **change)
    with refused(r"transforms\.json \(a\.png\): found .*; expected (finite|the photograph's size)"):
        load_session(folder)


def test_malformed_camera_files(tmp_path):
    photograph(tmp_path)
    cases = {
        "{": "no readable JSON",
        '{"frames": []}': "no list of frames",
        '{"frames": [{"file_path": "a.png"}]}': r"a\.png\): found no 4 x 4 `transform_matrix`",
        '{"frames": [{"transform_matrix": []}]}': r"frame 0\): found no `file_path`",
        json.dumps({"frames": [{"file_path": "a.png", "transform_matrix": yaw(0).tolist()}]}): "no focal length",
        json.dumps({"fl_x": "9", "frames": [{"file_path": "a", "transform_matrix": yaw(0).tolist()}]}): "fl_x = '9'",
    }
    for text, message in cases.items():
        (tmp_path / "transforms.json").write_text(text)
        with refused(rf"transforms\.json.*{message}"):
            load_session(tmp_path)
    with refused(r"no\.json: found no such file"):
        load_session(tmp_path, cameras=tmp_path / "no.json")


def test_only_two_views_too_far_apart(tmp_path):
    folder = calibrated_folder(tmp_path, {"a": -50, "b": 0, "c": 50})
    with refused(r"only two views \(a and c\), 100 degrees apart; expected at most 90 .* Add a view between them"):
        load_session(folder, views=["a", "c"])
    # Losing the middle one to missing landmarks is the same mistake.
    (folder / "b.pts").unlink()
    with refused("100 degrees apart"):
        require_landmarks(load_session(folder))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_corrupt_and_empty_images(tmp_path, suffix):
    path = write_picture(tmp_path / f"a.{suffix}")
    data = path.read_bytes()
    for content, found in (
        (b"", "an empty file \\(0 bytes\\)"),
        (data[: len(data) // 2], "a damaged image"),
        (b"hello" * 50, "a file that is not an image"),
    ):
        path.write_bytes(content)
        with refused(rf"a\.{suffix}: found {found}.*; expected a readable JPEG, PNG or TIFF photograph\. Export"):
            load_session(tmp_path)
    photograph(tmp_path, "b")
    session = load_session(tmp_path)
    assert [view.name for view in session.views] == ["b"]
    assert session.skipped[0][0] == f"a.{suffix}"
    assert session.warnings[0].startswith(f"a.{suffix} was skipped")


def test_too_small_image(tmp_path):
    photograph(tmp_path, height=40, width=120)
    with refused(r"a\.png: found 120 x 40 pixels; expected at least 64 on each side"):
        load_session(tmp_path)


def test_provider_that_finds_no_face(tmp_path, monkeypatch):
    module = types.ModuleType("face_alignment")
    module.LandmarksType = types.SimpleNamespace(TWO_D=1)
    module.FaceAlignment = type(
        "FaceAlignment",
        (),
        {
            "__init__": lambda self, kind, device, flip_input: None,
            "get_landmarks_from_image": lambda self, image, return_bboxes, return_landmark_score: (None, None, None),
        },
    )
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    provider = make_provider("face-alignment")
    photograph(tmp_path)
    with refused(r"a\.png: found no face \(face-alignment\); expected one face.*clearer photograph"):
        require_landmarks(load_session(tmp_path), provider)
    photograph(tmp_path, "b")
    with refused(r"no landmarks among 2; expected at least one\. First: .*a\.png: found no face"):
        require_landmarks(load_session(tmp_path), provider)
    write_pts(tmp_path / "b.pts", face_points())
    session = require_landmarks(load_session(tmp_path), provider)
    assert [view.name for view in session.views] == ["b"]
    assert session.skipped[0][0] == "a.png"


def test_no_landmarks_and_no_provider(tmp_path):
    photograph(tmp_path)
    with refused(r"a\.png: found no landmarks; expected a \.pts, \.json or \.npy .*hrn landmarks"):
        require_landmarks(load_session(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "inch"}, "--unit: found 'inch'; expected mm, cm or m"),
        ({"kind": "studio"}, "--kind: found 'studio'; expected rig or casual"),
        ({"views": ["z"]}, "--views: found 'z'; expected one of a, or 0 to 0"),
        ({"views": [7]}, "--views: found 7"),
        ({"views": []}, "--views: found an empty list"),
        ({"max_views": 0}, "--max-views: found 0"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    photograph(tmp_path)
    with refused(message):
        load_session(tmp_path, **options)


def test_messages_are_one_line(tmp_path):
    (tmp_path / "a.json").write_text("{\n\n")
    photograph(tmp_path)
    with pytest.raises(InputError) as caught:
        load_session(tmp_path)
    assert "\n" not in str(caught.value)
