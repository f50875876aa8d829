"""Run a protocol: find, score in parallel, keep every result, write tables, curves and heat maps."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.protocols import protocol as protocol_of
from benchmarks.protocols.statistics import groups_of, of_group, pooled
from benchmarks.protocols.store import key_of, load, save
from benchmarks.protocols.tables import comma_separated, markdown, record, report
from benchmarks.protocols.types import Found, Item, Options, Outcome, Protocol, Table
from fitter import __version__
from fitter.atomic import write_bytes, write_text
from fitter.errors import InputError
from fitter.export.folder import output_error

LISTED = "not_scored.csv"


@dataclass(frozen=True)
class Progress:
    """What a caller may want to hear while a protocol runs."""

    scored: Callable[[str, int, int], None] = lambda name, done, total: None
    drawn: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Summary:
    """What a run gave."""

    tables: tuple[Table, ...]
    scored: int
    fresh: int
    """Scored now, not taken from an earlier run."""
    missing: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether everything that the protocol asks for was scored."""
        return not self.missing and not self.refused

    def counts(self) -> tuple[str, ...]:
        """Lines about how much of the protocol this is."""
        total = self.scored + len(self.missing) + len(self.refused)
        lines = [f"{self.scored} of {total} scored, {len(self.missing)} missing, {len(self.refused)} refused"]
        if not self.complete:
            lines.append(f"INCOMPLETE: the figures are of what was scored; the rest is listed in {LISTED}")
        return tuple(lines)


@dataclass(frozen=True)
class _Task:
    protocol: str
    item: Item
    out: Path


def _score(task: _Task) -> tuple[str, str | None]:
    """Score one item and write its file; in a process of its own. Gives its name and, where refused, why."""
    chosen = protocol_of(task.protocol)
    try:
        key = key_of(chosen, task.item)
        outcome = chosen.score(task.item)
        numbers = [*outcome.numbers.values(), *np.atleast_1d(outcome.distances)]
        if not np.isfinite(numbers).all():
            raise InputError(task.item.name, "errors that are not finite", "finite meshes and landmarks")
        save(task.out, task.item, key, outcome)
    except InputError as error:
        return task.item.name, str(error)
    except OSError as error:
        return task.item.name, f"a file could not be read or written ({error})"
    return task.item.name, None


def run_protocol(
    name: str,
    data: Path,
    predictions: Path,
    out: Path,
    options: Options | None = None,
    *,
    workers: int = 0,
    pictures: bool = True,
    progress: Progress | None = None,
) -> Summary:
    """Score all predictions of a protocol and write the tables.

    Args:
        name: Of the protocol (`benchmarks.protocols.MODULES`).
        data: The data set, in its own layout.
        predictions: The predictions, in the protocol's layout.
        out: Result folder; what an earlier run scored from the same inputs is not scored again.
        options: See there.
        workers: Processes side by side, each with one thread; 0 scores in this one.
        pictures: Whether curves and heat maps are drawn.
        progress: Told how far it is.

    Raises:
        InputError: A folder has not the protocol's layout, nothing could be scored, or `out` cannot be written.
    """
    chosen, options, progress = protocol_of(name), options or Options(), progress or Progress()
    for option, value in options.given().items():
        if option not in chosen.takes:
            raise InputError(f"--{option}", str(value), f"no such option: {name} does not ask for it", "Leave it out.")
    found = chosen.find(Path(data), Path(predictions), options)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        refused, fresh = _score_all(chosen, found, out, workers, progress)
        kept = _collected(chosen, found, out)
        if not kept:
            # What an earlier run wrote is not of these predictions.
            for path in (out / "results.md", out / "results.csv", out / "results.json", out / "curves.png"):
                path.unlink(missing_ok=True)
            shutil.rmtree(out / "heat_maps", ignore_errors=True)
            write_text(out / LISTED, _not_scored(found.missing, refused))
            raise _nothing(data, predictions, found, refused)
        return _write(chosen, found, options, kept, fresh, refused, out, pictures, progress)
    except OSError as error:
        raise output_error(Path(error.filename or out), error) from error


def _score_all(
    chosen: Protocol, found: Found, out: Path, workers: int, progress: Progress
) -> tuple[list[tuple[str, str]], int]:
    """Score what has no result yet; gives what was refused, and how many were scored."""
    tasks = [_Task(chosen.name, item, out) for item in found.items if load(out, item, key_of(chosen, item)) is None]
    done, total = len(found.items) - len(tasks), len(found.items)
    refused: list[tuple[str, str]] = []
    progress.scored("", done, total)

    def finished(outcome: tuple[str, str | None]) -> None:
        nonlocal done
        done += 1
        if outcome[1] is not None:
            refused.append((outcome[0], outcome[1]))
        progress.scored(outcome[0], done, total)

    if workers == 0 or len(tasks) < 2:
        for task in tasks:
            finished(_score(task))
    else:
        from priors.dataset.processes import run_in_processes

        logs = out / "logs"
        logs.mkdir(exist_ok=True)
        run_in_processes(_score, tasks, finished, workers=workers, threads=1, log_folder=logs)
        shutil.rmtree(logs, ignore_errors=True)
    return sorted(refused), len(tasks) - len(refused)


def _collected(chosen: Protocol, found: Found, out: Path) -> list[tuple[Outcome, str | None]]:
    stored = [load(out, item, key_of(chosen, item)) for item in found.items]
    return [entry for entry in stored if entry is not None]


def _nothing(data: Path, predictions: Path, found: Found, refused: Sequence[tuple[str, str]]) -> InputError:
    """The line for a run without a single result: its first cause says most, and whose folder it is about."""
    causes = [f"{name}: {reason}" for name, reason in [*refused, *found.missing]]
    counts = f"nothing to score ({len(refused)} refused, {len(found.missing)} missing)"
    first = f"; the first is {causes[0]}" if causes else ""
    if not refused and not any("prediction" in reason for _, reason in found.missing):
        return InputError(data, counts + first, "the data set in the protocol's layout", "See docs/evaluation.md.")
    return InputError(predictions, counts + first, "predictions in the protocol's layout", "See docs/evaluation.md.")


def _write(
    chosen: Protocol,
    found: Found,
    options: Options,
    kept: list[tuple[Outcome, str | None]],
    fresh: int,
    refused: list[tuple[str, str]],
    out: Path,
    pictures: bool,
    progress: Progress,
) -> Summary:
    outcomes = [outcome for outcome, _ in kept]
    tables = chosen.tables(outcomes, options)
    seen = [note for outcome in outcomes for note in outcome.notes]
    notes = tuple(dict.fromkeys([*chosen.notes, *found.notes, *seen]))
    summary = Summary(tables, len(outcomes), fresh, found.missing, tuple(refused), notes)
    images = [{"name": o.name, "subject": o.subject, "group": o.group, **o.numbers} for o in outcomes]
    whole = {
        "format": "hrn-eval-1",
        "protocol": chosen.name,
        "version": {"protocol": chosen.version, "fitter": __version__, "python": platform.python_version()},
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "counts": {"scored": len(outcomes), "missing": len(found.missing), "refused": len(refused)},
        "complete": summary.complete,
        "notes": list(notes),
        "tables": [record(table) for table in tables],
        "items": images,
        "not_scored": [{"name": name, "reason": reason} for name, reason in [*found.missing, *refused]],
    }
    files = [out / name for name in ("results.md", "results.csv", "results.json", LISTED)]
    write_text(files[0], report(chosen, tables, summary.counts(), notes))
    write_text(files[1], comma_separated(tables))
    write_text(files[2], json.dumps(whole, indent=1) + "\n")
    write_text(files[3], _not_scored(found.missing, refused))
    if pictures:
        files += _draw(chosen, kept, out, progress, summary.complete)
    return Summary(tables, len(outcomes), fresh, found.missing, tuple(refused), notes, tuple(files))


def _not_scored(missing: Sequence[tuple[str, str]], refused: Sequence[tuple[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "state", "reason"])
    writer.writerows([name, "missing", reason] for name, reason in missing)
    writer.writerows([name, "refused", reason] for name, reason in refused)
    return buffer.getvalue()


def _draw(
    chosen: Protocol, kept: list[tuple[Outcome, str | None]], out: Path, progress: Progress, complete: bool
) -> list[Path]:
    # Late: the rasterizer brings torch along, and without pictures nobody should wait for it.
    from benchmarks.protocols.curves import error_curves
    from benchmarks.protocols.heat_maps import write_heat_maps
    from fitter.export.maps import png

    outcomes = [outcome for outcome, _ in kept]
    groups = groups_of(outcomes)
    series = {"all": pooled(outcomes)}
    if 1 < len(groups) <= 7:
        series |= {name: pooled(of_group(outcomes, name)) for name in groups}
    title = f"{chosen.title}: cumulative error" + ("" if complete else " (INCOMPLETE)")
    write_bytes(out / "curves.png", png(error_curves(series, chosen.curve_mm, title, chosen.curve_of)))
    maps = write_heat_maps(out, kept, title=chosen.title, progress=progress.drawn)
    for left in set((out / "heat_maps").glob("*.png")) - set(maps):
        left.unlink()
    return [out / "curves.png", *maps]


def printed(summary: Summary) -> str:
    """The tables for a terminal or a log."""
    return "\n".join([*summary.counts(), "", *(markdown(table) for table in summary.tables)])
