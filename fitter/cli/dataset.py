"""`hrn dataset`: scanned sessions in, supervised training pairs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from fitter.cli.progress import _bars, model_progress
from fitter.errors import InputError


def dataset_command(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SESSIONS... OUT")] = (),
    config: str = "scan",
    model: str = "open",
    unit: Literal["mm", "cm", "m"] | None = None,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    workers: int | None = None,
    threads: int = 2,
    displacement: int | None = None,
    provider: Literal["face-alignment", "mediapipe"] | None = None,
    model_file: Path | None = None,
    shard_samples: int = 512,
    shard_mb: int = 256,
    sheets: bool = True,
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    again: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    keep: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seed: int = 0,
) -> int:
    """Turn scanned sessions into training pairs: textures, position, deformation and displacement maps, masks, cameras.

    Args:
        paths: Session folders (a scan, and photographs), folders of them (SESSION/ or SUBJECT/SESSION/) or a
            dataset.yaml; last the folder to write to.
        config: A preset (scan) or a YAML file.
        model: `open`, or the path of a BFM or ICT-FaceKit model.
        unit: Unit of scans and cameras; by default found from each scan's size.
        split: Shares of train, val and test; subjects go where the hash of their name says.
        workers: Processes side by side; by default half of the cores.
        threads: Threads of each process; another number gives other last digits.
        displacement: Texels per side of the displacement map and the textures (256, 512, 1024).
        provider: Landmark detector for photographs without landmarks.
        model_file: MediaPipe's face_landmarker.task.
        shard_samples: Most samples of a shard.
        shard_mb: Most megabytes of a shard.
        sheets: Draw the sheets of pictures to look through.
        strict: A session or photograph that cannot be used is an error.
        again: Try sessions that failed before once more.
        keep: Leave the work files.
        seed: Seed of everything random.
    """
    if len(paths) < 2:
        raise InputError("hrn dataset", f"{len(paths)} path(s)", "SESSIONS and OUT", "hrn dataset --help tells more.")
    _at_least("--workers", workers, 1)
    _at_least("--threads", threads, 1)
    _at_least("--shard-samples", shard_samples, 1)
    _at_least("--shard-mb", shard_mb, 1)
    from fitter.cli.fit import choose_configuration
    from fitter.export.folder import output_error
    from priors.dataset.assemble import ShardLimits
    from priors.dataset.make import make_dataset
    from priors.dataset.options import DatasetOptions, Progress
    from priors.dataset.sources import find_sessions
    from priors.dataset.split import check_fractions

    check_fractions(split)
    sources, out = find_sessions(paths[:-1]), paths[-1]
    configuration = choose_configuration(config, 2, displacement, None)
    _build_model(model)
    options = DatasetOptions(
        fractions=split,
        unit=unit,
        model=model,
        seed=seed,
        provider=provider,
        model_file=model_file,
        limits=ShardLimits(shard_samples, shard_mb),
        workers=workers,
        threads=threads,
        sheets=sheets,
        keep=keep,
        strict=strict,
        again=again,
    )
    with SessionBars() as bars:
        progress = Progress(checked=bars.checked, fitted=bars.fitted, written=bars.written)
        try:
            summary = make_dataset(sources, out, configuration, options, progress)
        except OSError as error:
            raise output_error(Path(error.filename or out), error) from error
        except MemoryError as error:
            raise InputError("hrn dataset", "too little memory", "", "Run again with fewer --workers.") from error
    for name, reason in sorted(summary.failures.items()):
        print(f"failed {name}: {reason}")
    held = f"{summary.samples} pairs of {summary.sessions} session(s)"
    if summary.finished_before:
        print(f"{out} holds this data set already ({held}); nothing was done.")
    else:
        print(f"{held}, {summary.fitted} fitted now -> {out}")
    return 0


def _at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise InputError(option, str(value), f"{least} or more")


def _build_model(name: str) -> None:
    """Build the model where it is not there yet, before processes ask for it side by side."""
    from fitter.model.load import load_model

    with model_progress() as progress:
        load_model(name, progress)


class SessionBars:
    """Bars over the sessions: files read, fits done, files written; what fails is told as it happens."""

    def __init__(self) -> None:
        self.bars = _bars()
        self.tasks: dict[str, int] = {}

    def __enter__(self) -> SessionBars:
        self.bars.start()
        return self

    def __exit__(self, *_) -> None:
        self.bars.stop()

    def _show(self, label: str, done: float, total: float, note: str = "") -> None:
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(label, total=total, note="")
        self.bars.update(self.tasks[label], completed=done, total=total, note=note)

    def checked(self, done: int, total: int) -> None:
        """The files of so many sessions were read."""
        self._show("reading the sessions' files", done, total, f"{done} of {total}")

    def fitted(self, outcome, done: int, total: int) -> None:
        """So many sessions are fitted."""
        if total == 0:
            return
        note = f"{done} of {total}"
        if outcome is not None:
            state = "failed" if outcome.reason is not None else f"{outcome.seconds:.0f} s"
            note += f", {outcome.name}: {state}"
        self._show("fitting", done, total, note)

    def written(self, fraction: float) -> None:
        """How far the writing has come."""
        self._show("writing", fraction, 1.0)
