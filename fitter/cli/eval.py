"""`hrn eval`: a published evaluation protocol on a data set in its own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from fitter.cli.progress import _bars
from fitter.errors import InputError, MissingPartError


def eval_command(
    protocol: Annotated[str, tyro.conf.Positional],
    data: Annotated[Path, tyro.conf.Positional],
    predictions: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    workers: int | None = None,
    fit: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: str = "auto",
    model: str = "open",
    provider: Literal["face-alignment", "mediapipe"] | None = None,
    model_file: Path | None = None,
    unit: Literal["mm", "cm", "m"] | None = None,
    rigid: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    template: Path | None = None,
    allow_missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    pictures: bool = True,
    seed: int = 0,
) -> int:
    """Score predictions by a published protocol: its table, curves, heat maps; docs/evaluation.md has the layouts.

    Args:
        protocol: now, now-metrical, micc-symmetric, micc-cropped, fg2018, esrc-2view, facescape-3view, realy,
            facescape-wild or facescape-lab.
        data: The data set's folder.
        predictions: The predictions' folder.
        out: Folder for the result; by default PROTOCOL-eval in the current folder.
        workers: Processes side by side, each with one thread; by default half of the cores; 0: in this one.
        fit: Make missing predictions from the data set's photographs with this engine first.
        config: Of --fit: `auto`, a preset or a YAML file.
        model: Of --fit: `open`, or the path of a BFM or ICT-FaceKit model.
        provider: Of --fit: landmark detector for photographs without landmarks beside them.
        model_file: Of --fit: MediaPipe's face_landmarker.task.
        unit: Unit of metrical predictions, where the protocol needs one.
        rigid: Align without scale, where the protocol leaves that open.
        template: REALY: the predictions' template mesh, with its .txt of 85 keypoints beside it.
        allow_missing: Missing or refused predictions are counted and listed, but no error.
        pictures: Draw curves and heat maps.
        seed: Of the bootstrap and of --fit.
    """
    try:
        from benchmarks.protocols.run import Progress, printed, run_protocol
        from benchmarks.protocols.types import Options
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "benchmarks":
            raise
        remedy = "Install hrn-fitter from its repository, which has the folder benchmarks."
        raise MissingPartError("the package benchmarks", "hrn eval", remedy) from error
    from priors.dataset.processes import default_workers

    if workers is not None and workers < 0:
        raise InputError("--workers", str(workers), "0 or more")
    count = default_workers() if workers is None else workers
    folder = out if out is not None else Path(f"{protocol}-eval")
    options = Options(unit=unit, rigid=rigid, template=template, seed=seed)
    if fit:
        from benchmarks.protocols.predictions import FitSettings, make_predictions

        settings = FitSettings(config, model, provider, model_file, seed)
        with _Bars() as bars:
            made = make_predictions(protocol, data, predictions, options, settings, workers=count, progress=bars.fitted)
        for name, reason in made.failed:
            print(f"not fitted {name}: {reason}")
    with _Bars() as bars:
        progress = Progress(scored=bars.scored, drawn=bars.drawn)
        summary = run_protocol(
            protocol, data, predictions, folder, options, workers=count, pictures=pictures, progress=progress
        )
    for name, reason in summary.refused:
        print(f"refused {name}: {reason}")
    print(printed(summary))
    print(f"{summary.scored} scored, {summary.fresh} of them now -> {folder / 'results.md'}")
    if not summary.complete and not allow_missing:
        found = f"{len(summary.missing)} missing and {len(summary.refused)} refused prediction(s)"
        remedy = f"They are listed in {folder / 'not_scored.csv'}; --allow-missing takes the figures as they are."
        raise InputError(predictions, found, "all that the protocol asks for", remedy)
    return 0


class _Bars:
    """One bar each for fitting, scoring and drawing."""

    def __init__(self) -> None:
        self.bars = _bars()
        self.tasks: dict[str, int] = {}

    def __enter__(self) -> _Bars:
        self.bars.start()
        return self

    def __exit__(self, *_) -> None:
        self.bars.stop()

    def _show(self, label: str, done: int, total: int, note: str) -> None:
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(label, total=total, note="")
        self.bars.update(self.tasks[label], completed=done, total=total, note=f"{done} of {total} {note}".strip())

    def fitted(self, name: str, done: int, total: int) -> None:
        """So many predictions are made."""
        self._show("fitting", done, total, name)

    def scored(self, name: str, done: int, total: int) -> None:
        """So many items are scored."""
        self._show("scoring", done, total, name)

    def drawn(self, done: int, total: int) -> None:
        """So many heat maps are drawn."""
        self._show("drawing", done, total, "")
