"""From sessions to a data set: find, fingerprint, fit what is missing, put together. Resumable at any point."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fitter import __version__
from fitter.atomic import write_text
from fitter.errors import InputError
from priors.dataset.adopt import adopt
from priors.dataset.assemble import ReadySession, assemble
from priors.dataset.fingerprint import file_sha256, json_sha256, session_files, session_fingerprint
from priors.dataset.folder import check_folder, clean, none_usable, only_one
from priors.dataset.manifest import TIMINGS, FailedSession, is_finished, read_manifest
from priors.dataset.options import DatasetOptions, DatasetSummary, Progress
from priors.dataset.processes import default_workers, run_in_processes
from priors.dataset.session_source import SessionSource, Sources
from priors.dataset.session_work import SessionOutcome, SessionTask, work_session
from priors.dataset.split import SPLITS, check_fractions, split_of
from priors.dataset.work import FOLDER, failure_path, read_failure, read_record, work_path

HASHING_THREADS = 4


def make_dataset(
    sources: Sources, out: Path, configuration: Any, options: DatasetOptions, progress: Progress | None = None
) -> DatasetSummary:
    """Make a data set, or complete one.

    Args:
        sources: Sessions, and what was found unusable already.
        out: Folder of the data set; new, empty, or one of these.
        configuration: Of the fits.
        options: The rest.
        progress: Told what happens.

    Raises:
        InputError: No session can be used, the folder is another's, or (strict) a session cannot be used.
        OSError: Something cannot be written.
    """
    progress = progress or Progress()
    check_fractions(options.fractions)
    if options.strict and sources.failures:
        _refuse_first(sources.failures)
    if not sources.sessions:
        none_usable(out, sources.failures)
    check_folder(out)
    # The fused texture and albedo are no part of the data: they need not be finer than what else is made.
    maps = replace(configuration.maps, texture=min(configuration.maps.texture, configuration.maps.displacement))
    configuration = replace(configuration, maps=maps)
    settings = dataset_settings(configuration, options)
    tasks = session_tasks(sources.sessions, out, configuration, options, settings, progress)
    common = _common(tasks, sources, options, settings)
    if is_finished(out, common["key"]) and not (options.again and read_manifest(out)["failed"]):
        clean(out, options.keep)
        manifest = read_manifest(out)
        failures = {entry["session"]: entry["reason"] for entry in manifest["failed"]}
        counts = manifest["counts"]
        return DatasetSummary(counts["samples"], counts["sessions"], failures, 0, finished_before=True)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    with only_one(out):
        return _complete(tasks, sources, out, options, common, progress)


def _complete(
    tasks: list[SessionTask],
    sources: Sources,
    out: Path,
    options: DatasetOptions,
    common: dict[str, Any],
    progress: Progress,
) -> DatasetSummary:
    """Fit what is missing and put everything together."""
    fingerprints = {task.source.name: task.fingerprint for task in tasks}
    if options.again:
        for task in tasks:
            failure_path(task.path).unlink(missing_ok=True)
    adopt(out, fingerprints, with_failures=not options.again)
    missing = [task for task in tasks if read_record(task.path) is None and read_failure(task.path) is None]
    timings = _read_timings(out)
    done: list[SessionOutcome] = []

    def take(outcome: SessionOutcome) -> None:
        done.append(outcome)
        timings["sessions"][outcome.name] = {"seconds": round(outcome.seconds, 2), "finished": _now()}
        progress.fitted(outcome, len(done), len(missing))
        if outcome.reason is not None and options.strict:
            raise InputError(outcome.name, outcome.reason, "a session that can be used", "Or leave --strict out.")

    progress.fitted(None, 0, len(missing))
    try:
        workers = default_workers() if options.workers is None else options.workers
        run_in_processes(work_session, missing, take, workers=workers, threads=options.threads, log_folder=out / FOLDER)
    finally:
        write_text(out / TIMINGS, json.dumps(timings, indent=1, sort_keys=True) + "\n")
    ready, failed = _gather(tasks, sources, options)
    failures = {session.name: session.reason for session in failed}
    if not ready:
        none_usable(out, failures)
    assemble(out, ready, failed, options.limits, common, sheets=options.sheets, on_part=progress.written)
    timings["completed"] = _now()
    write_text(out / TIMINGS, json.dumps(timings, indent=1, sort_keys=True) + "\n")
    clean(out, options.keep)
    samples = sum(len(session.record["samples"]) for session in ready)
    return DatasetSummary(samples, len(ready), failures, sum(outcome.reason is None for outcome in done))


def session_tasks(
    sessions: list[SessionSource],
    out: Path,
    configuration: Any,
    options: DatasetOptions,
    settings: dict[str, Any],
    progress: Progress,
) -> list[SessionTask]:
    """Fingerprint every session; reads all of their files."""
    if options.unit is not None:
        sessions = [replace(session, unit=session.unit or options.unit) for session in sessions]

    def checksums(session: SessionSource) -> dict[str, str]:
        return {name: file_sha256(path) for name, path in session_files(session).items()}

    tasks = []
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        for session, found in zip(sessions, pool.map(checksums, sessions), strict=True):
            key = session_fingerprint(session, found, settings)
            tasks.append(
                SessionTask(
                    source=session,
                    fingerprint=key,
                    checksums=found,
                    path=work_path(out, session.name, key),
                    configuration=configuration,
                    model=options.model,
                    seed=options.seed,
                    provider=options.provider,
                    model_file=options.model_file,
                    strict=options.strict,
                )
            )
            progress.checked(len(tasks), len(sessions))
    return tasks


def dataset_settings(configuration: Any, options: DatasetOptions) -> dict[str, Any]:
    """What decides every session's tensors beside its files, as plain data."""
    import numpy
    import torch

    from fitter.model.load import load_model
    from fitter.optimise.config import configuration_to_dict

    model = load_model(options.model)
    return {
        "versions": {
            "hrn-fitter": __version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        },
        "model": {"name": model.name, "source": json.loads(json.dumps(model.source, default=str))},
        "seed": options.seed,
        "threads": options.threads,
        "landmark_provider": options.provider,
        "landmark_model": None if options.model_file is None else file_sha256(options.model_file),
        "skip_bad_photographs": not options.strict,
        "configuration": json.loads(json.dumps(configuration_to_dict(configuration))),
    }


def _common(
    tasks: list[SessionTask], sources: Sources, options: DatasetOptions, settings: dict[str, Any]
) -> dict[str, Any]:
    """What the manifest says of the whole; its key changes with anything that changes a byte."""
    content = {
        "sessions": [[task.source.name, task.fingerprint, task.source.subject, task.source.split] for task in tasks],
        "failures": sources.failures,
        "fractions": options.fractions,
        "limits": asdict(options.limits),
        "sheets": options.sheets,
    }
    shares = dict(zip(SPLITS, options.fractions, strict=True))
    return {"key": json_sha256(content), **settings, "split_by": {"subject": "hash of the name", "shares": shares}}


def _gather(
    tasks: list[SessionTask], sources: Sources, options: DatasetOptions
) -> tuple[list[ReadySession], list[FailedSession]]:
    """Sessions with work files, in the order of their names, and the others."""
    ready, failed = [], [FailedSession(name, reason) for name, reason in sources.failures.items()]
    given = {task.source.subject: task.source.split for task in tasks if task.source.split is not None}
    for task in tasks:
        source, record = task.source, read_record(task.path)
        if record is None:
            reason = read_failure(task.path) or "its work file was lost; run again"
            failed.append(FailedSession(source.name, reason, task.fingerprint))
            continue
        split = given.get(source.subject) or split_of(source.subject, options.fractions)
        ready.append(ReadySession(source.name, source.subject, split, record, task.path))
    return ready, sorted(failed, key=lambda session: session.name)


def _refuse_first(failures: dict[str, str]) -> None:
    name = min(failures)
    raise InputError(name, failures[name], "a session that can be used", "Or leave --strict out.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_timings(out: Path) -> dict[str, Any]:
    try:
        kept = json.loads((out / TIMINGS).read_text("utf-8"))
        return {"sessions": dict(kept["sessions"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"sessions": {}}
