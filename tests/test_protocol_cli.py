"""`hrn eval`: exit codes, one-line errors, side-by-side processes, and predictions made from photographs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from benchmarks.protocols import MODULES, protocol
from benchmarks.protocols.predictions import FitSettings, make_predictions
from benchmarks.protocols.types import Options
from fitter.cli.main import run
from fitter.errors import InputError
from tests.protocol_data import SEVEN, Faces, save_mesh, save_points


@pytest.fixture(scope="module")
def faces(open_model):
    return Faces(open_model, 90.0)


@pytest.fixture(scope="module")
def data(faces, tmp_path_factory):
    """NoW with two subjects; one image each."""
    root = tmp_path_factory.mktemp("data")
    for seed, subject in enumerate(("A", "B"), 1):
        vertices, triangles, marks = faces.face(seed)
        save_mesh(root / "scans" / subject / "s.obj", vertices, triangles)
        save_points(root / "scans_lmks_onlypp" / subject / "s.pp", marks[SEVEN])
    (root / "imagepathsvalidation.txt").write_text("A/selfie/a.jpg\nB/selfie/b.jpg\n")
    return root


def _predict(faces, folder, subjects=("A", "B")):
    for seed, subject in enumerate(subjects, 1):
        vertices, triangles, marks = faces.face(seed)
        stem = folder / subject / "selfie" / subject.lower()
        save_mesh(stem.with_suffix(".obj"), vertices, triangles)
        save_points(stem.with_suffix(".npy"), marks[SEVEN])
    return folder


def test_every_protocol_is_there():
    for name in MODULES:
        chosen = protocol(name)
        assert chosen.name == name
        assert chosen.notes


def test_a_complete_run_in_two_processes(faces, data, tmp_path, capsys):
    predictions = _predict(faces, tmp_path / "p")
    out = tmp_path / "o"
    call = ["eval", "now", str(data), str(predictions), "--out", str(out), "--no-pictures"]
    assert run([*call, "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 scored" in shown
    assert "2 of them now" in shown
    before = (out / "results.csv").read_bytes()
    shutil.rmtree(out)
    assert run([*call, "--workers", "0"]) == 0
    assert (out / "results.csv").read_bytes() == before


def test_missing_predictions_end_with_2_and_keep_the_table(faces, data, tmp_path, capsys):
    predictions = _predict(faces, tmp_path / "p", ("A",))
    call = ["eval", "now", str(data), str(predictions), "--out", str(tmp_path / "o"), "--no-pictures", "--workers", "0"]
    assert run(call) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hrn eval:")
    assert "1 missing and 0 refused" in error
    assert "INCOMPLETE" in (tmp_path / "o" / "results.md").read_text()
    assert run([*call, "--allow-missing"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["then", "DATA", "P"],
        ["now", "NOWHERE", "P"],
        ["now", "DATA", "NOWHERE"],
        ["now", "DATA", "P", "--workers", "-1"],
        ["now", "DATA", "NOWHERE", "--fit"],
        ["now-metrical", "DATA", "NOWHERE", "--fit"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(faces, data, tmp_path, capsys, arguments):
    places = {"DATA": data, "P": tmp_path / "p", "NOWHERE": tmp_path / "nowhere"}
    assert run(["eval", *(str(places.get(word, word)) for word in arguments), "--out", str(tmp_path / "o")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hrn eval")]
    assert len(lines) == 1
    assert not (tmp_path / "o" / "results.md").exists()


def _photographs(data, folder, landmarks):
    """NoW's photographs: the built-in one for both subjects."""
    from fitter.capture.builtin import load_builtin

    view = load_builtin("astronaut").views[0]
    shutil.copytree(data, folder)
    from PIL import Image

    small = Image.fromarray((view.image * 255).astype(np.uint8)).resize((256, 256), Image.Resampling.LANCZOS)
    for line in (folder / "imagepathsvalidation.txt").read_text().split():
        path = folder / "NoW_Dataset" / line
        path.parent.mkdir(parents=True)
        small.save(path)
        if landmarks:
            np.save(path.with_suffix(".npy"), view.landmarks.points * 256 / view.image.shape[0])
    return folder


def test_fit_makes_neutral_predictions_and_keeps_them(data, tmp_path):
    folder = _photographs(data, tmp_path / "d", True)
    settings = FitSettings(config="draft")
    made = make_predictions("now", folder, tmp_path / "p", Options(), settings)
    assert (made.done, made.failed) == (["A/selfie/a", "B/selfie/b"], [])
    first = tmp_path / "p" / "A" / "selfie" / "a.obj"
    marks = np.loadtxt(first.with_suffix(".txt"))
    assert marks.shape == (7, 3)
    assert 70 < np.linalg.norm(marks[0] - marks[3]) < 110
    before = first.stat().st_mtime_ns
    assert make_predictions("now", folder, tmp_path / "p", Options(), settings).done == []
    assert first.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "p" / "made_by.json").read_text())["config"] == "draft"
    first.unlink()
    with pytest.raises(InputError, match="other settings"):
        make_predictions("now", folder, tmp_path / "p", Options(), FitSettings(config="photo"))


def test_fit_without_landmarks_says_so_once(data, tmp_path):
    pytest.importorskip("torch")
    folder = _photographs(data, tmp_path / "d", False)
    from fitter.capture.providers import make_provider

    try:
        make_provider(None)
    except InputError:
        with pytest.raises(InputError, match="landmarks"):
            make_predictions("now", folder, tmp_path / "p", Options(), FitSettings(config="draft"))
    else:
        pytest.skip("a detector is installed")


def test_keypoints_of_realy_are_carried_to_another_face(open_model):
    """From one face of the model to another: landmarks exactly, the other 17 to within a few millimetres."""
    from benchmarks.protocols.realy_template import carried_keypoints
    from fitter.compare.surface import Surface

    whole = Faces(open_model)
    first, second = whole.face(1), whole.face(2)
    rows = np.flatnonzero(np.linalg.norm(first[0] - first[2][30], axis=1) < 60)[::97][:17]
    source = np.concatenate([first[2], first[0][rows]])
    found = carried_keypoints(source, second[2], Surface(second[0], second[1]))
    assert np.median(np.linalg.norm(found[17:68] - second[2][17:], axis=1)) < 0.1
    assert np.median(np.linalg.norm(found[68:] - second[0][rows], axis=1)) < 4.0


def test_a_fit_in_facescapes_frames():
    """A point on the optical axis is the cube's middle, one at the image's right upper corner is (1, 1)."""
    from types import SimpleNamespace

    from benchmarks.protocols.facescape import PUPILS_MM
    from benchmarks.protocols.predictions import _in_frame

    intrinsics = np.array([[600.0, 0, 128], [0, 600, 128], [0, 0, 1]])
    view = SimpleNamespace(cam_from_world=np.eye(4), intrinsics=intrinsics, size=(256, 256))
    reach = 500 * 128 / 600
    points = np.array([[0, 0, 500.0], [reach, -reach, 500.0], [0, 0, 490.0], [0, 0, 510.0]])
    cube = _in_frame(points, view, "cube")
    np.testing.assert_allclose(cube[:2], [[0, 0, -2], [1, 1, -2]], atol=1e-12)
    # 10 mm towards the camera is as much of the cube as 10 mm across.
    assert cube[2, 2] - cube[0, 2] == pytest.approx(10 * 600 / 500 / 128)
    np.testing.assert_allclose(_in_frame(points, view, "camera"), points / PUPILS_MM)
