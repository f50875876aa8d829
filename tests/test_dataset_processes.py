"""Work in processes of their own: all of it done, what goes wrong told, nobody left behind; and bad commands."""

from __future__ import annotations

import os
import sys
import time

import pytest

from fitter.cli.main import run
from fitter.errors import InputError
from priors.dataset.processes import THREAD_VARIABLES, default_workers, run_in_processes, thread_environment
from tests.dataset_inputs import write_folder
from tests.dataset_tasks import misbehave, square


def test_every_task_is_done_once(tmp_path):
    done = []
    run_in_processes(square, [3, 1, 2, 5], done.append, workers=2, threads=3, log_folder=tmp_path)
    assert sorted(done) == [(n, n * n, "3") for n in (1, 2, 3, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0.log", "worker-1.log"]
    run_in_processes(square, [], done.append, workers=2, threads=1, log_folder=tmp_path)
    assert default_workers() >= 1


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with thread_environment(2):
        assert all(os.environ[name] == "2" for name in THREAD_VARIABLES)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_what_goes_wrong_in_a_process(tmp_path):
    with pytest.raises(InputError, match="ended from outside"):
        run_in_processes(misbehave, ["wait", "die"], print, workers=2, threads=1, log_folder=tmp_path)
    with pytest.raises(OSError, match="No space left"):
        run_in_processes(misbehave, ["full"], print, workers=1, threads=1, log_folder=tmp_path)
    assert "No space left" in (tmp_path / "worker-0.log").read_text()


def test_an_interruption_ends_them_all(tmp_path):
    def interrupt(outcome) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(misbehave, ["", "wait"], interrupt, workers=2, threads=1, log_folder=tmp_path)
    assert time.monotonic() - began < 30  # the one that waits is not waited for


def one_line(capsys) -> str:
    """The only line on standard error that is ours."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hrn")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--split", "0.5", "0.1", "0.1"], "--split"),
        (["--workers", "0"], "--workers"),
        (["--config", "nothing"], "nothing"),
        (["--shard-mb", "0"], "--shard-mb"),
        (["--displacement", "7"], "--displacement"),
    ],
)
def test_settings_that_cannot_be(tmp_path, capsys, more, named):
    write_folder(tmp_path / "people/anna", "a")
    assert run(["dataset", str(tmp_path / "people"), str(tmp_path / "out"), *more]) == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_too_few_paths_and_no_sessions(tmp_path, capsys):
    assert run(["dataset", str(tmp_path)]) == 2
    assert "SESSIONS and OUT" in one_line(capsys)
    assert run(["dataset", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "no session" in one_line(capsys)
