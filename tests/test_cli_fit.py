"""`hrn fit` from the outside: exit codes, one line per mistake, whole results or none, equal bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fitter.cli.main import COMMANDS, run
from fitter.export.folder import MARKER, UNSTABLE, is_complete
from fitter.result.checkpoint import NAME
from tests.recovery_scene import known_face, write_session

CONFIGURATION = """name: tiny
maps: {deformation: 16, displacement: 32, texture: 64, dense_levels: 0}
stages:
  - {name: start, solver: initialise}
  - name: landmarks
    solver: gauss_newton
    free: [head_pose, identity, expression]
    energies: {landmark: {weight: 1.0}, identity_prior: {sigma: 1.0}, expression_prior: {sigma: 0.3}}
    steps: 3
  - name: m1
    solver: gauss_newton
    free: [deformation]
    energies: {consistency: {lowpass: 3}, smoothness: {bilaplacian: 0.01}}
    passes: [{samples: 48, image: 96, steps: 2}]
"""


@pytest.fixture(scope="module")
def inputs(open_model, tmp_path_factory) -> dict[str, str]:
    """A session folder of two small photographs, and a quick configuration."""
    folder = tmp_path_factory.mktemp("session")
    write_session(known_face(open_model, size=200, yaws=(-20.0, 20.0)), folder / "known")
    (folder / "tiny.yaml").write_text(CONFIGURATION)
    return {"session": str(folder / "known"), "config": str(folder / "tiny.yaml")}


def fit(inputs: dict[str, str], out: Path, *more: str) -> int:
    """Run `hrn fit` on the small session."""
    arguments = ["fit", inputs["session"], "--unit", "mm", "--config", inputs["config"], "--out", str(out)]
    return run([*arguments, *(more or ("--no-report",))])


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results") / "first"
    assert fit(inputs, out) == 0
    return out


def one_line(capsys) -> str:
    """The only line on standard error, which is no traceback."""
    text = capsys.readouterr().err.strip()
    lines = [line for line in text.splitlines() if line.startswith("hrn")]
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


def test_help(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert run([]) == 2
    assert run(["--version"]) == 0
    for command in ("fit", "model"):
        with pytest.raises(SystemExit) as caught:
            run([command, "--help"])
        assert caught.value.code == 0
    assert "--config" in capsys.readouterr().out


def test_an_unknown_command(capsys):
    assert run(["fitt"]) == 2
    assert "fitt" in one_line(capsys)


def test_an_unknown_option():
    with pytest.raises(SystemExit) as caught:
        run(["fit", "somewhere", "--colour", "red"])
    assert caught.value.code == 2


def test_no_photographs(capsys):
    assert run(["fit"]) == 2
    assert "no photographs" in one_line(capsys)


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_that_is_missing_or_empty(tmp_path, capsys, make):
    folder = tmp_path / "photos"
    if make:
        folder.mkdir()
    assert run(["fit", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert str(folder) in one_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("maps:", "mapz:", "mapz"),
        ("steps: 3", "stepz: 3", "stages.1.stepz"),
        ("samples: 48", "samplez: 48", "stages.2.passes.0.samplez"),
        ("solver: initialise", "solver: guess", "stages.0.solver"),
        ("identity_prior:", "identity_pior:", "identity_pior"),
        ("bilaplacian: 0.01", "bilaplacian: much", "bilaplacian"),
    ],
)
def test_an_unknown_key_in_the_configuration(inputs, tmp_path, capsys, old, new, named):
    path = tmp_path / "wrong.yaml"
    path.write_text(CONFIGURATION.replace(old, new, 1))
    assert fit({**inputs, "config": str(path)}, tmp_path / "out") == 2
    line = one_line(capsys)
    assert named in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--device", "tpu"), "tpu"),
        (("--displacement", "7"), "--displacement"),
        (("--views", "nobody"), "nobody"),
        (("--rig", "--casual"), "--kind"),
        (("--model", "nowhere.h5"), "nowhere.h5"),
        (("--builtin", "astronaut"), "--builtin"),
    ],
)
def test_options_that_cannot_be(inputs, tmp_path, capsys, more, named):
    assert fit(inputs, tmp_path / "out", *more) == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_landmarks_that_nobody_trusts(inputs, tmp_path, capsys):
    folder = tmp_path / "doubted"
    shutil.copytree(inputs["session"], folder)
    for path in folder.glob("*.pts"):
        points = [[float(value) for value in line.split()] for line in path.read_text().splitlines()[3:-1]]
        path.with_suffix(".json").write_text(json.dumps({"points": points, "confidence": [0.0] * 68}))
        path.unlink()
    assert fit({**inputs, "session": str(folder)}, tmp_path / "out") == 2
    assert "0 landmarks" in one_line(capsys) and not (tmp_path / "out").exists()


def test_a_fit_leaves_a_whole_folder(finished):
    assert is_complete(finished)
    assert not (finished / NAME).exists() and not list(finished.glob(".*"))
    record = json.loads((finished / "fit.json").read_text())
    assert [stage["name"] for stage in record["stages"]] == ["start", "landmarks", "m1"]
    for name in ("m0.obj", "face.obj", "dense.obj", "face.glb", "cameras.json", "configuration.yaml", "texture.png"):
        assert (finished / name).stat().st_size > 0


def test_the_written_session_is_read_as_it_was_made(inputs, open_model):
    """Pixel, axis and unit conventions of what the tests write are those of what the engine reads."""
    from fitter.capture.session import load_session

    made = known_face(open_model, size=200, yaws=(-20.0, 20.0)).session
    read = load_session(inputs["session"], unit="mm")
    assert read.calibrated and read.kind == "rig"
    for one, other in zip(made.views, read.views, strict=True):
        np.testing.assert_allclose(one.landmarks.points, other.landmarks.points, atol=1e-5)
        np.testing.assert_allclose(one.camera.intrinsics, other.camera.intrinsics, atol=1e-6)
        np.testing.assert_allclose(one.camera.cam_from_world, other.camera.cam_from_world, atol=1e-4)
        assert np.abs(one.image - other.image).max() < 0.003


def test_a_rerun_says_that_it_is_done(inputs, finished, capsys):
    before = (finished / "face.obj").stat().st_mtime_ns
    assert fit(inputs, finished) == 0
    assert "already" in capsys.readouterr().out
    assert (finished / "face.obj").stat().st_mtime_ns == before


def test_another_fit_in_the_folder_is_refused(inputs, finished, capsys):
    kept = (finished / "run.json").read_bytes()
    assert fit(inputs, finished, "--no-report", "--seed", "5") == 2
    assert "another fit" in one_line(capsys) and is_complete(finished)
    assert (finished / "run.json").read_bytes() == kept


def _checksums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in UNSTABLE]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_bytes_again(inputs, finished, tmp_path):
    assert fit(inputs, tmp_path / "second") == 0
    first, second = _checksums(finished), _checksums(tmp_path / "second")
    assert first == second and len(first) > 15
    assert UNSTABLE == ("timings.json",) and (finished / "timings.json").is_file()
    marked = json.loads((finished / MARKER).read_text())["files"]
    assert all(first[name] == checksum for name, checksum in marked.items() if checksum is not None)


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "space"), (errno.EROFS, "cannot be written")])
@pytest.mark.parametrize("victim", ["run.json", NAME, "face.obj", MARKER])
def test_an_output_that_cannot_be_written(inputs, tmp_path, capsys, monkeypatch, code, words, victim):
    """Refused at the folder's first file, at the checkpoint, in the middle and at the marker."""
    out, replace = tmp_path / "out", os.replace

    def refuse(source, target):
        if Path(target).name == victim:
            raise OSError(code, os.strerror(code), str(target))
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        assert fit(inputs, out) == 2
    assert words in one_line(capsys)
    assert not is_complete(out) and not (out / victim).exists()
    assert not list(out.glob(".*")), "a temporary file was left"
    # What could not be finished goes on once there is space again.
    if victim == "face.obj" and code == errno.ENOSPC:
        assert fit(inputs, out) == 0 and is_complete(out)


def test_a_disk_that_is_nearly_full(inputs, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert fit(inputs, tmp_path / "out") == 2
    assert "space" in one_line(capsys) and not is_complete(tmp_path / "out")


def test_a_file_where_the_folder_should_be(inputs, tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("not a folder")
    assert fit(inputs, out) == 2
    assert str(out) in one_line(capsys) and out.read_text() == "not a folder"


def test_an_interrupted_fit_goes_on_where_it_stopped(inputs, finished, tmp_path, capsys, monkeypatch):
    """Ctrl-C in the last stage: exit code 130, then the same command repeats that stage only and ends alike."""
    from fitter.cli import progress

    seen, step = [], progress.FitProgress.step

    def interrupt(self, stage, done, total, energy):
        seen.append(stage)
        if stage == "m1" and seen.count("m1") == 2:
            raise KeyboardInterrupt
        step(self, stage, done, total, energy)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(progress.FitProgress, "step", interrupt)
        assert fit(inputs, out) == 130
    assert "Run the same command again" in one_line(capsys)
    assert (out / NAME).is_file() and not is_complete(out)
    again = []
    with monkeypatch.context() as patch:
        patch.setattr(progress.FitProgress, "step", lambda self, stage, *rest: again.append(stage))
        assert fit(inputs, out) == 0
    assert again == ["m1", "m1"] and _checksums(out) == _checksums(finished)


def test_progress_has_a_bar_for_each_stage_and_phase():
    """What is over is full, also a stage that stopped early and a phase without steps."""
    from fitter.cli.progress import FitProgress

    with FitProgress() as shown:
        for step in range(1, 4):
            shown.step("m0", step, 12, 5.0)
        shown.phase("fusing")
        shown.phase("writing")
        shown.phase_fraction("writing", 0.25)
        bars = {task.description: task.percentage for task in shown.bars.tasks}
    assert bars == {"m0": 100.0, "fusing": 100.0, "writing": 25.0}


def test_report_and_smoke_of_model(inputs, tmp_path, capsys):
    assert fit(inputs, tmp_path / "out", "--report") == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "view0" in page and "view1" in page
    assert not re.search(r"(src|href)=.https?:", page), "the page must be self-contained"
    assert run(["model"]) == 0
    assert "jawOpen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, "0."),
        (["fit", "--help"], 0, "usage: hrn fit"),
        (["fit", "--bogus"], 2, "--bogus"),
        (["bogus"], 2, "'bogus'"),
    ],
)
def test_the_process_leaves_with_its_code_and_all_that_it_said(arguments, code, said):
    """Through a pipe, which is flushed only at the end."""
    done = subprocess.run([sys.executable, "-m", "fitter", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and said in done.stdout + done.stderr and "Traceback" not in done.stderr
