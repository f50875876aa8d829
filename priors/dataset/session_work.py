"""One session: loaded, fitted, taken apart into tensors and a record, and left in its work file."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fitter.errors import InputError
from priors.dataset.session_source import SessionSource, without_place
from priors.dataset.work import write_failure, write_work


@dataclass(frozen=True)
class SessionTask:
    """What a worker has to know; plain data that travels between processes."""

    source: SessionSource
    fingerprint: str
    checksums: dict[str, str]
    """Name relative to the session's folder -> SHA-256."""
    path: Path
    """Of the work file."""
    configuration: Any
    model: str
    seed: int
    provider: str | None
    model_file: Path | None
    strict: bool


@dataclass(frozen=True)
class SessionOutcome:
    """What a worker says when it is done."""

    name: str
    samples: int
    seconds: float
    reason: str | None = None
    """Why there are no samples."""


@lru_cache(maxsize=1)
def _model(name: str):
    from fitter.model.load import load_model

    return load_model(name)


def work_session(task: SessionTask) -> SessionOutcome:
    """Fit one session and write its work file, or the reason why there is none.

    Raises:
        OSError: The work file cannot be written.
        MemoryError: There was not enough memory; that is no property of the session, so nothing is kept of it.
    """
    began = time.perf_counter()
    name = task.source.name
    try:
        tensors, record = session_pairs(task)
    except (InputError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if "allocate memory" in str(error):  # torch's way to say it
            raise MemoryError(str(error)) from error
        known = isinstance(error, InputError)
        reason = str(error) if known else f"an unexpected error ({type(error).__name__}: {error})"
        reason = without_place(" ".join(reason.split()), task.source.folder)
        write_failure(task.path, reason)
        return SessionOutcome(name, 0, time.perf_counter() - began, reason)
    write_work(task.path, tensors, record)
    return SessionOutcome(name, len(record["samples"]), time.perf_counter() - began)


def session_pairs(task: SessionTask):
    """Tensors by key and the record of a session's training pairs.

    Raises:
        InputError: The session cannot be used.
    """
    from fitter.fit import FitOptions, fit_session
    from priors.dataset.preview import scan_preview, session_figure, view_preview
    from priors.dataset.tensors import geometry_tensors, shared_keys, view_tensors

    session = load(task)
    result = fit_session(session, _model(task.model), task.configuration, FitOptions(seed=task.seed))
    figure = session_figure(result)
    samples = {}
    for index, view in enumerate(result.views):
        samples[view.name] = view_tensors(result, index) | {"preview": view_preview(result, index, figure)}
    if not samples:
        samples["scan"] = geometry_tensors(result, result.vertices_m0, result.expression)
        samples["scan"]["preview"] = scan_preview(result, figure)
    tensors, keys = shared_keys(task.source.name, samples)
    return tensors, {"session": session_record(task, result), "samples": sample_records(task, result, keys)}


def load(task: SessionTask):
    """The session with its scan and with landmarks in every photograph; raises InputError as the loaders do."""
    from fitter.capture.scan_session import load_scan_session

    source = task.source
    session = load_scan_session(
        source.scan,
        (source.photographs[0] if len(source.photographs) == 1 else list(source.photographs)) or None,
        unit=source.unit,
        landmarks=source.landmarks,
        cameras=source.cameras,
        strict=task.strict,
        name=source.name,
    )
    if not session.views:
        return session
    from fitter.cli.fit import complete_landmarks

    return complete_landmarks(session, task.provider, task.model_file, "cpu", task.strict)


def session_record(task: SessionTask, result) -> dict[str, Any]:
    """What the manifest says of a session; plain data, nothing of when and where it was made."""
    from fitter.optimise.scan_target import COARSE_EDGE_MM

    source, scan, outcome = task.source, result.session.scan, result.scan
    alignment = outcome.alignment
    residuals = {
        level: {part: {key: _number(value) for key, value in asdict(found).items()} for part, found in parts.items()}
        for level, parts in outcome.residuals.items()
    }
    own = scan.landmarks.source if scan.landmarks is not None else None
    return {
        "fingerprint": task.fingerprint,
        "files": task.checksums,
        "scan": {
            "file": _relative(source.scan, source.folder),
            "unit": scan.unit,
            "mm_per_unit": scan.mm_per_unit,
            "edge_mm": _number(outcome.edge_mm),
            "noise_mm": _number(outcome.noise_mm),
            "has_detail": bool(outcome.edge_mm <= COARSE_EDGE_MM),
            "landmarks": own,
        },
        "alignment": {
            "method": alignment["method"],
            "certain": bool(alignment["certain"]),
            "score": _number(alignment["score"]),
            "runner_up": _number(alignment["runner_up"]),
        },
        "residuals": residuals,
        "flipped_triangles": outcome.flipped_triangles,
        "counted_triangles": outcome.counted_triangles,
        "measured_share": _number((outcome.valid & result.map_valid).sum() / max(1, result.map_valid.sum())),
        "warnings": [without_place(text, source.folder) for text in result.warnings],
        "skipped": [[name, without_place(reason, source.folder)] for name, reason in result.session.skipped],
    }


def sample_records(task: SessionTask, result, keys: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """What the manifest says of every sample of a session."""
    from fitter.capture.landmark_files import find_landmark_files

    folder = task.source.folder
    if not result.views:
        return [{"view": None, "tensors": keys["scan"]}]
    records = []
    for view, found in zip(result.session.views, result.views, strict=True):
        beside = find_landmark_files(view.path)
        records.append(
            {
                "view": view.name,
                "photograph": _relative(view.path, folder),
                "landmarks": _relative(beside[0], folder) if beside else "detected",
                "landmark_scheme": view.landmarks.scheme,
                "landmark_error": _number(found.landmark_error),
                "realigned_difference": _number(found.realigned_difference),
                "tensors": keys[view.name],
            }
        )
    return records


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(path).relative_to(folder).as_posix()
    except ValueError:  # named in dataset.yaml, outside of the session's folder
        return Path(path).name


def _number(value: float | None) -> float | None:
    """A plain number for JSON; what is none stays none."""
    if value is None or not math.isfinite(float(value)):
        return None
    return float(value)
