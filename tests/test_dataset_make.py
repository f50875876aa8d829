"""Making data sets from invented fits: the same bytes whatever interrupts it, nothing twice, bad sessions told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fitter.atomic
from fitter.errors import InputError
from priors.dataset.assemble import ReadySession, ShardLimits, divide
from priors.dataset.fingerprint import file_sha256
from priors.dataset.manifest import read_manifest
from tests.dataset_inputs import digests, invent, make, write_folder


@pytest.fixture
def fitted(monkeypatch) -> list[str]:
    return invent(monkeypatch)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Two subjects, three sessions, one of them a scan alone."""
    folder = tmp_path_factory.mktemp("people")
    write_folder(folder / "anna/day1", "a1")
    write_folder(folder / "anna/day2", "a2", photographs=False)
    write_folder(folder / "ben/day1", "b1")
    return folder


@pytest.fixture(scope="module")
def reference(people, tmp_path_factory) -> Path:
    """The data set of `people`, made in one go."""
    out = tmp_path_factory.mktemp("reference") / "out"
    with pytest.MonkeyPatch.context() as patch:
        invent(patch)
        summary = make(people, out)
    assert (summary.samples, summary.sessions, summary.fitted) == (5, 3, 3)
    return out


def test_the_manifest_tells_the_truth(reference, people):
    manifest = read_manifest(reference)
    assert sorted(digests(reference)) == ["manifest.json", "shard-00000.safetensors", "sheet-000.png"]
    for name, shard in manifest["shards"].items():
        assert file_sha256(reference / name) == shard["sha256"]
        assert (reference / name).stat().st_size == shard["bytes"] and shard["samples"] == 5
    assert manifest["sheets"] == {"sheet-000.png": file_sha256(reference / "sheet-000.png")}
    assert manifest["counts"]["samples"] == 5
    names = [sample["sample"] for sample in manifest["samples"]]
    assert names == ["anna/day1/left", "anna/day1/front", "anna/day2", "ben/day1/left", "ben/day1/front"]
    session = manifest["sessions"][0]
    assert session["files"]["scan.ply"] == file_sha256(people / "anna/day1/scan.ply")
    assert session["residuals"]["M1"]["skin"] == {
        "count": 100,
        "median_mm": 0.4,
        "mean_mm": 0.5,
        "p90_mm": 1.0,
        "normal_median": 3.0,
        "normal_mean": None,
    }
    first = manifest["samples"][0]
    assert (first["photograph"], first["landmarks"], first["view"]) == ("left.png", "left.pts", "left")
    assert first["tensors"]["deformation"] == "anna/day1//deformation"  # the same for both views: held once
    assert first["tensors"]["texture"] == "anna/day1//left/texture"
    assert session["warnings"] == ["Look at front.png."]


def test_nothing_of_when_and_where_is_in_the_files(reference, people):
    text = (reference / "manifest.json").read_text()
    assert str(people) not in text and str(reference) not in text
    timings = json.loads((reference / "timings.json").read_text())
    assert set(timings["sessions"]) == {"anna/day1", "anna/day2", "ben/day1"} and "completed" in timings


class Killed(BaseException):
    """In place of SIGKILL, where files are about to appear."""


@pytest.mark.parametrize("start", ["nothing", "another data set"])
@pytest.mark.parametrize("leave", [False, True])
def test_interrupted_at_every_file(fitted, people, reference, tmp_path, monkeypatch, leave, start):
    """Ended at the n-th file, before or after it has its name, then run again: the same bytes, for every n."""
    former = tmp_path / "former"
    if start != "nothing":
        shutil.copytree(people, tmp_path / "people")
        (tmp_path / "people/ben/day1/scan.ply").write_text("another scan")
        make(tmp_path / "people", former, limits=ShardLimits(samples=2))
    point, finished = 0, False
    while not finished:
        out = tmp_path / f"out{point}"
        if former.exists():
            shutil.copytree(former, out)
        with monkeypatch.context() as patch:
            _end_at(patch, point, leave)
            try:
                make(people, out, sheets=point % 2 == 0)
                finished = True
            except Killed:
                (out / ".shard-00000.00000000.part.safetensors").write_text("what a killed process leaves")
        fitted.clear()
        make(people, out)
        assert digests(out) == digests(reference)
        assert not (out / "work").exists()
        shutil.rmtree(out)
        point += 1
    assert point >= 8  # three work files, timings, shard, sheet, manifest, timings


def _end_at(patch, point: int, leave: bool) -> None:
    """End the process in place of the rename number `point`, or (leave) right after it."""
    replace, count = os.replace, iter(range(1000))

    def until(source, target):
        number = next(count)
        if number < point or (leave and number == point):
            replace(source, target)
        if number == point:
            raise Killed

    patch.setattr(fitter.atomic.os, "replace", until)


def test_a_finished_data_set_is_left_alone(fitted, people, reference, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    summary = make(people, out)
    assert summary.finished_before and summary.samples == 5 and not fitted
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_only_what_changed_is_fitted(fitted, people, reference, tmp_path):
    changed, out = tmp_path / "people", tmp_path / "out"
    shutil.copytree(people, changed)
    shutil.copytree(reference, out)
    (changed / "ben/day1/left.pts").write_text("other points")
    write_folder(changed / "clara/day1", "c1")
    make(changed, out)
    assert sorted(fitted) == ["ben/day1", "clara/day1"]
    make(changed, tmp_path / "fresh")
    assert digests(out) == digests(tmp_path / "fresh")
    splits = {sample["subject"]: sample["split"] for sample in read_manifest(reference)["samples"]}
    again = {sample["subject"]: sample["split"] for sample in read_manifest(out)["samples"]}
    assert splits.items() <= again.items()
    # A session that is taken away, and other shares: nothing is fitted.
    fitted.clear()
    shutil.rmtree(changed / "clara")
    make(changed, out, fractions=(0.0, 0.0, 1.0))
    assert not fitted and read_manifest(out)["counts"] == {
        "sessions": 3,
        "samples": 5,
        "train": 0,
        "val": 0,
        "test": 5,
    }


def test_a_shard_that_rotted_is_made_anew(fitted, people, reference, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    shard = out / "shard-00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data[:-1])
    make(people, out)
    assert len(fitted) == 3 and digests(out) == digests(reference)


def test_bad_sessions_are_told_and_the_others_go_on(fitted, people, tmp_path):
    folder, out = tmp_path / "people", tmp_path / "out"
    shutil.copytree(people, folder)
    bad = write_folder(folder / "carl/day1", "bad")
    (write_folder(folder / "dora/day1", "d") / "scan.ply").unlink()
    summary = make(folder, out)
    assert summary.sessions == 3 and set(summary.failures) == {"carl/day1", "dora/day1"}
    listed = {entry["session"]: entry["reason"] for entry in read_manifest(out)["failed"]}
    assert (
        listed["carl/day1"].startswith("scan.ply: found a scan that is bad") and "without a scan" in listed["dora/day1"]
    )
    kept = digests(out)
    fitted.clear()
    assert make(folder, out).failures == listed and digests(out) == kept
    make(folder, out, again=True)
    assert not fitted and digests(out) == kept  # tried once more, still bad; the good ones are left alone
    (bad / "scan.ply").write_text("good now")
    assert set(make(folder, out).failures) == {"dora/day1"} and fitted == ["carl/day1"]


def test_strict(fitted, tmp_path):
    write_folder(tmp_path / "people/a", "fine")
    write_folder(tmp_path / "people/b", "bad")
    with pytest.raises(InputError, match="a scan that is bad"):
        make(tmp_path / "people", tmp_path / "out", strict=True)
    assert not (tmp_path / "out/manifest.json").exists()
    assert make(tmp_path / "people", tmp_path / "out").sessions == 1


def test_none_usable(fitted, tmp_path):
    write_folder(tmp_path / "people/a", "bad")
    with pytest.raises(InputError, match=r"no usable session.*a: scan\.ply"):
        make(tmp_path / "people", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else(fitted, people, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match="other files"):
        make(people, tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "a web app"}')
    with pytest.raises(InputError, match="a web app"):
        make(people, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters.txt", "manifest.json"]


def test_two_at_once(fitted, people, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out/work").mkdir(parents=True)
    with (tmp_path / "out" / "work" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another hrn dataset at work"):
            make(people, tmp_path / "out")


def test_shards_are_filled_in_order_and_sessions_stay_whole():
    def ready(name: str, samples: int, megabytes: float) -> ReadySession:
        return ReadySession(name, name, "train", {"samples": [0] * samples, "bytes": int(megabytes * 1e6)}, Path(name))

    sessions = [ready("a", 2, 1), ready("b", 2, 1), ready("c", 1, 9), ready("d", 9, 1), ready("e", 1, 1)]
    groups = divide(sessions, ShardLimits(samples=5, megabytes=8))
    assert [[session.name for session in group] for group in groups] == [["a", "b"], ["c"], ["d"], ["e"]]


def test_several_shards_hold_the_same(fitted, people, reference, tmp_path):
    make(people, tmp_path / "out", limits=ShardLimits(samples=2))
    manifest = read_manifest(tmp_path / "out")
    assert [shard["samples"] for shard in manifest["shards"].values()] == [2, 1, 2]
    from priors.dataset import SupervisedMaps

    first, second = (SupervisedMaps(folder, scans_alone=True) for folder in (reference, tmp_path / "out"))
    for one, other in zip(first, second, strict=True):
        assert all((one[name] == other[name]).all() for name in one) and one.keys() == other.keys()


SCRIPT = """
import sys, time
from pathlib import Path
import pytest
from tests.dataset_inputs import invent, make
import fitter.atomic, os
replace = os.replace
def slow(source, target):
    replace(source, target)
    time.sleep(0.5)
fitter.atomic.os.replace = slow
invent(pytest.MonkeyPatch())
make(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed(fitted, people, reference, tmp_path):
    """A process that is really killed once it has written its second work file."""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(people), str(tmp_path / "out")], cwd=root)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("work/[!.]*.safetensors"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/manifest.json").exists()
    make(people, tmp_path / "out")
    assert len(fitted) == 1 and digests(tmp_path / "out") == digests(reference)
