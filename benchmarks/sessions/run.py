"""Fit and measure captures side by side: one process per subject, every fit kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sessions.cases import AVERAGE, SINGLES, Case
from benchmarks.sessions.fits import kept_fit, naive_average, triangles_of
from benchmarks.sessions.levels import LEVELS, Levels
from benchmarks.sessions.score import level_errors, numbers
from benchmarks.sessions.truth import Truth, load_truth
from benchmarks.subjects.photograph import CaptureSettings, capture
from fitter.optimise.config import Configuration
from priors.dataset.processes import run_in_processes

ALIGNMENTS = ("raw", "similarity")


@dataclass(frozen=True)
class Subject:
    """Whose photographs are fitted: generated ones, or a real capture with its scan."""

    settings: CaptureSettings | None = None
    """Of a generated capture."""
    folder: Path | None = None
    """Of a real capture: five photographs with cameras in millimetres and landmarks."""
    scan: Path | None = None
    scan_landmarks: Path | None = None

    @property
    def person(self) -> str:
        """Who, whatever the skin."""
        return f"subject {self.settings.seed}" if self.settings is not None else self.folder.name

    @property
    def name(self) -> str:
        """For tables."""
        tone = None if self.settings is None else self.settings.tone
        return self.person if tone is None else f"{self.person} in tone {tone}"

    def made(self, captures: Path) -> Path:
        """The capture's folder; a generated one is made where it is missing."""
        return capture(captures, self.settings) if self.settings is not None else self.folder


@dataclass(frozen=True)
class Task:
    """All cases of one subject."""

    subject: Subject
    cases: tuple[Case, ...]
    configurations: Mapping[str, Configuration]
    """Preset's name -> what is run for it."""
    work: Path
    """Captures and fits are kept here."""
    device: str = "cpu"


def content_of(folder: Path) -> str:
    """Checksum of a capture's photographs, landmarks and cameras."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg", ".pts", ".json") and path.name != "subject.json":
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def run_task(task: Task) -> list[dict]:
    """Fit and measure one subject; in a process of its own. Gives one row per case."""
    folder = task.subject.made(task.work / "captures")
    truth = load_truth(folder, task.subject.scan, task.subject.scan_landmarks)
    content = content_of(folder)
    rows, fits = [], {}
    for case in task.cases:
        configuration = task.configurations[case.configuration]
        levels, key = kept_fit(task.work, folder, content, case, configuration, task.device)
        fits[case.name] = levels
        rows.append(_row(task, case.name, case.calibrated, levels, configuration, truth) | {"fit": key})
    if all(case.name in fits for case in SINGLES):
        average = naive_average([fits[case.name] for case in SINGLES])
        rows.append(_row(task, AVERAGE, False, average, task.configurations["photo"], truth))
    return rows


def _row(task: Task, case: str, calibrated: bool, levels: Levels, configuration: Configuration, truth: Truth) -> dict:
    triangles = {level: triangles_of(level, configuration) for level in LEVELS}
    measured = {
        alignment: numbers(level_errors(levels, triangles, truth, alignment))
        for alignment in ALIGNMENTS
        if calibrated or alignment != "raw"
    }
    return {
        "subject": task.subject.name,
        "person": task.subject.person,
        "tone": truth.tone,
        "case": case,
        "seconds": round(levels.seconds, 2),
        **measured,
    }


def run_subjects(
    subjects: Sequence[Subject],
    cases: Sequence[Case],
    configurations: Mapping[str, Configuration],
    work: Path,
    *,
    workers: int = 0,
    threads: int = 1,
    device: str = "cpu",
    on_rows: Callable[[list[dict]], None] = lambda rows: None,
) -> list[dict]:
    """Rows of all subjects and cases, in that order.

    Args:
        subjects: Whose photographs.
        cases: What is fitted.
        configurations: Preset's name -> what is run for it.
        work: Captures and fits are kept here; what is there is not made again.
        workers: Processes side by side; 0 does all in this one.
        threads: Of each process.
        device: cpu or cuda.
        on_rows: Told the rows of each subject as it is done.
    """
    found: dict[str, list[dict]] = {}

    def done(rows: list[dict]) -> None:
        found[rows[0]["subject"]] = rows
        on_rows(rows)

    tasks = [Task(subject, tuple(cases), dict(configurations), work, device) for subject in subjects]
    logs = work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    run_in_processes(run_task, tasks, done, workers=workers, threads=threads, log_folder=logs)
    return [row for subject in subjects for row in found[subject.name]]
