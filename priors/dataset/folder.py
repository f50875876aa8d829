"""The folder of a data set: whose it is, who works in it, what is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from fitter.errors import InputError
from priors.dataset.manifest import NAME, TIMINGS, read_manifest
from priors.dataset.work import FOLDER


def check_folder(out: Path) -> None:
    """Refuse an output folder that holds something else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(out, "a file", "a folder for the data set", "Choose another OUT.")
    ours = any((out / name).exists() for name in (NAME, TIMINGS, FOLDER))
    if not ours and any(out.iterdir()):
        raise InputError(out, "a folder with other files", "an empty folder, or a data set", "Choose another OUT.")
    if (out / NAME).exists():
        read_manifest(out)


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows; two runs there would do the same work twice
        yield
        return
    with (out / FOLDER / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                out, "another hrn dataset at work in it", "one at a time", "Wait for it to end."
            ) from error
        yield


def clean(out: Path, keep: bool) -> None:
    """Remove the work files of a finished data set, and what a killed process left half-written."""
    for path in out.glob(".*.part.*"):
        path.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(out / FOLDER, ignore_errors=True)


def none_usable(out: Path, failures: dict[str, str]) -> NoReturn:
    """Say that nothing can be made, and leave nothing behind."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    if out.is_dir() and not (out / NAME).exists():
        (out / TIMINGS).unlink(missing_ok=True)
        if not any(out.iterdir()):
            out.rmdir()
    name = min(failures)
    found = "no usable session" if len(failures) == 1 else f"no usable session among {len(failures)}"
    raise InputError("hrn dataset", found, "at least one", f"{name}: {failures[name]}")
