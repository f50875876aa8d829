"""Predictions made by this engine from a data set's photographs: `hrn eval … --fit`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.protocols import protocol as protocol_of
from benchmarks.protocols.facescape import PUPILS_MM
from benchmarks.protocols.types import FitJob, Options
from fitter import __version__
from fitter.atomic import write_bytes, write_text
from fitter.capture.scan.landmarks import SEVEN_POINTS
from fitter.errors import InputError
from fitter.obj import ObjMesh, format_obj

MADE_BY = "made_by.json"
"""In the predictions' folder: which settings its meshes come from."""


@dataclass(frozen=True)
class FitSettings:
    """How predictions are made."""

    config: str = "auto"
    model: str = "open"
    provider: str | None = None
    model_file: Path | None = None
    seed: int = 0

    def record(self) -> dict:
        """As JSON."""
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        return {"fitter": __version__, **plain}


@dataclass
class Made:
    """What became of the jobs."""

    done: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def make_predictions(
    name: str,
    data: Path,
    predictions: Path,
    options: Options,
    settings: FitSettings,
    *,
    workers: int = 0,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Made:
    """Fit what has no prediction yet and write meshes and landmarks where the protocol looks for them.

    Meshes are M1 in millimetres: neutral where the truth is (the expression's part taken out), else as photographed.
    A prediction that is there is kept, so an interrupted run continues.

    Args:
        name: Of the protocol.
        data: The data set.
        predictions: Where predictions lie, or are to lie.
        options: Of the protocol.
        settings: Of the fits.
        workers: Processes side by side; 0: in this one.
        progress: Told of every job that ends.

    Raises:
        InputError: The layout is wrong, there is nothing to fit from, the folder holds predictions of other settings,
            or the first photographs have no landmarks and no detector is here.
    """
    chosen = protocol_of(name)
    if name == "now-metrical" and options.unit != "mm":
        raise InputError("--unit", str(options.unit), "mm with --fit", "Predictions of --fit are in millimetres.")
    data, predictions = Path(data), Path(predictions)
    if name == "realy":
        from benchmarks.protocols.realy_template import write_template

        write_template(data, predictions, settings.model)
    found = chosen.find(data, predictions, options)
    if not found.jobs:
        if found.items and not found.missing:
            return Made()
        remedy = "See docs/evaluation.md for where photographs lie, or make the predictions yourself."
        raise InputError(data, "no photographs to fit the missing predictions from", "the data set's images", remedy)
    _claim(predictions, settings)
    _build_model(settings.model)
    made = Made()

    def finished(outcome: tuple[str, str | None]) -> None:
        job, reason = outcome
        made.done.append(job) if reason is None else made.failed.append((job, reason))
        progress(job, len(made.done) + len(made.failed), len(found.jobs))

    # The first one tells whether landmarks can be had at all; hundreds of equal failures would tell no more.
    first, rest = found.jobs[0], found.jobs[1:]
    finished(_fit((first, settings)))
    if made.failed and "landmarks" in made.failed[0][1] and not _has_landmarks(rest):
        raise InputError(first.photographs[0], *_no_landmarks(made.failed[0][1]))
    tasks = [(job, settings) for job in rest]
    if workers == 0 or len(tasks) < 2:
        for task in tasks:
            finished(_fit(task))
    else:
        from priors.dataset.processes import run_in_processes

        logs = predictions / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        run_in_processes(_fit, tasks, finished, workers=workers, threads=1, log_folder=logs)
        shutil.rmtree(logs, ignore_errors=True)
    return made


def _no_landmarks(cause: str) -> tuple[str, str, str]:
    remedy = "Make them with: hrn landmarks, or give --provider with a detector that is installed here."
    return f"no usable landmarks ({cause})", "landmarks beside the photographs (.pts, .json, .npy)", remedy


def _has_landmarks(jobs: Sequence[FitJob]) -> bool:
    from fitter.capture.landmark_files import find_landmark_files

    return any(find_landmark_files(photograph) for job in jobs for photograph in job.photographs)


def _claim(predictions: Path, settings: FitSettings) -> None:
    """Note the settings in the folder; predictions of other settings must not mix with these."""
    path, record = predictions / MADE_BY, settings.record()
    if path.is_file():
        try:
            before = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            before = None
        if before != record:
            found = "predictions made with other settings or another version"
            raise InputError(path, found, "an empty folder, or the same settings", "Choose another folder.")
    write_text(path, json.dumps(record, indent=1) + "\n")


def _build_model(name: str) -> None:
    """Build the model where it is not there yet, before processes ask for it side by side."""
    from fitter.model.load import load_model

    load_model(name)


def _fit(task: tuple[FitJob, FitSettings]) -> tuple[str, str | None]:
    """Fit one job and write its files, landmarks first: a mesh says that all is there. Gives its name and a reason."""
    job, settings = task
    try:
        vertices, triangles, landmarks = _fitted(job, settings)
        files: dict[str, bytes] = {}
        if job.landmarks != "none":
            rows = landmarks if job.landmarks == "ibug68" else landmarks[list(SEVEN_POINTS)]
            files[".txt"] = "".join("{:.6f} {:.6f} {:.6f}\n".format(*row) for row in rows).encode()
        files[".obj"] = format_obj(ObjMesh(vertices, triangles))
        for suffix, content in files.items():
            write_bytes(job.target.with_name(job.target.name + suffix), content)
    except InputError as error:
        return job.name, str(error)
    except OSError as error:
        return job.name, f"a file could not be read or written ({error})"
    return job.name, None


def _fitted(job: FitJob, settings: FitSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3], triangles and 68 landmarks of the fit, in the frame that the job asks for."""
    import torch

    from fitter.capture.session import load_session
    from fitter.cli.fit import choose_configuration, complete_landmarks
    from fitter.fit import FitOptions, fit_session
    from fitter.model.load import load_model

    session = load_session(list(job.photographs))
    if job.focal is not None:
        session = replace(session, views=tuple(replace(view, focal_guess=job.focal) for view in session.views))
    session = complete_landmarks(session, settings.provider, settings.model_file, "cpu", False)
    model = load_model(settings.model)
    configuration = choose_configuration(settings.config, len(session.views), None, None)
    result = fit_session(session, model, configuration, FitOptions(seed=settings.seed))
    if job.neutral:
        similarity = result.world_from_model
        scale = float(np.cbrt(np.linalg.det(similarity[:3, :3])))
        in_model = (result.vertices_m1 - similarity[:3, 3]) @ np.linalg.inv(similarity[:3, :3]).T
        vertices = scale * (in_model - model.expression_basis.double().numpy() @ result.expression)
    else:
        vertices = result.vertices_m1
    if job.frame != "world":
        vertices = _in_frame(vertices, result.views[0], job.frame)
    landmarks = model.landmarks(torch.from_numpy(vertices).float()).double().numpy()
    return vertices, model.outer_triangles.numpy(), landmarks


def _in_frame(vertices: np.ndarray, view, frame: str) -> np.ndarray:
    """Vertices in the photograph's camera (units of the pupils' distance), or in FaceScape's orthographic cube."""
    in_camera = vertices @ view.cam_from_world[:3, :3].T + view.cam_from_world[:3, 3]
    if frame == "camera":
        return in_camera / PUPILS_MM
    height, width = view.size
    on_image = in_camera @ view.intrinsics.T
    depth, half = in_camera[:, 2], 0.5 * width
    x, y = on_image[:, 0] / depth / half - 1, 1 - on_image[:, 1] / depth / (0.5 * height)
    # Weak perspective: depth in the units that the image has at the face's mean distance; 2 keeps it before the camera.
    z = -(depth - depth.mean()) * view.intrinsics[0, 0] / depth.mean() / half - 2.0
    return np.stack([x, y, z], 1)
