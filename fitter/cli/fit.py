"""`hrn fit`: a session in, a folder out."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fitter.errors import InputError

RUN_FILE = "run.json"
"""What the folder is a fit of, written before the work begins."""
SETTINGS_FILE = "configuration.yaml"
"""All settings of the fit, beside it."""


def fit_command(
    photographs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    out: Path | None = None,
    builtin: Literal["astronaut"] | None = None,
    config: str = "auto",
    model: str = "open",
    unit: Literal["mm", "cm", "m"] | None = None,
    cameras: str | None = None,
    kind: Literal["rig", "casual"] | None = None,
    rig: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    casual: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    views: tuple[str, ...] | None = None,
    max_views: int | None = None,
    provider: Literal["face-alignment", "mediapipe"] | None = None,
    model_file: Path | None = None,
    displacement: int | None = None,
    texture: int | None = None,
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    report: bool = True,
    again: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: str = "cpu",
    seed: int = 0,
) -> int:
    """Fit a hierarchical face to the photographs of one person.

    Args:
        photographs: A folder, or photographs; landmarks, masks and cameras lie beside them.
        out: Folder for the result; by default NAME-fit in the current folder.
        builtin: Fit this built-in photograph instead.
        config: `auto` (photo for one view, else session), a preset (session, photo, draft, mv_hrn) or a YAML file.
        model: `open`, or the path of a BFM or ICT-FaceKit model.
        unit: Unit of the cameras' world.
        cameras: Camera file or COLMAP folder; `none` ignores cameras that lie beside the photographs.
        kind: `rig`: one instant, one expression; `casual`: each view its own. Default: rig if cameras are known.
        rig: Short for --kind rig.
        casual: Short for --kind casual.
        views: Use only these photographs (names or numbers).
        max_views: Use at most so many photographs, spread evenly.
        provider: Landmark detector for photographs without landmarks.
        model_file: MediaPipe's face_landmarker.task.
        displacement: Texels per side of the displacement map (256, 512, 1024).
        texture: Texels per side of the textures.
        strict: A photograph that cannot be used is an error.
        report: Write report.html.
        again: Fit again even if the folder holds a result.
        device: cpu or cuda.
        seed: Seed of everything random.
    """
    session = _load(photographs, builtin, unit, cameras, _kind(kind, rig, casual), views, max_views, strict)
    session = complete_landmarks(session, provider, model_file, device, strict)
    configuration = choose_configuration(config, len(session.views), displacement, texture)
    check_device(device)
    folder = out if out is not None else Path(f"{session.name}-fit")
    return run_session(session, configuration, model, folder, report, again, device, seed)


def _kind(kind: str | None, rig: bool, casual: bool) -> str | None:
    chosen = {name for name, wanted in (("rig", rig), ("casual", casual)) if wanted} | ({kind} if kind else set())
    if len(chosen) > 1:
        raise InputError("--kind", "both rig and casual", "one of them", "Leave one out.")
    return chosen.pop() if chosen else None


def _load(photographs, builtin, unit, cameras, kind, views, max_views, strict):
    from fitter.capture.builtin import load_builtin
    from fitter.capture.session import load_session

    if builtin is not None:
        if photographs:
            raise InputError("--builtin", "photographs as well", "one or the other", "Leave one out.")
        return load_builtin(builtin)
    if not photographs:
        raise InputError(
            "hrn fit", "no photographs", "a folder or photographs", "Try the built-in one: hrn fit --builtin astronaut"
        )
    paths = photographs[0] if len(photographs) == 1 else list(photographs)
    chosen = list(views) if views else None
    return load_session(paths, unit=unit, cameras=cameras, kind=kind, views=chosen, strict=strict, max_views=max_views)


def complete_landmarks(session, provider, model_file, device, strict):
    """The session with landmarks in every view: from files, or from a detector; raises as `require_landmarks` does."""
    from fitter.capture.providers import make_provider
    from fitter.capture.session import require_landmarks

    detector = None
    if provider is not None or model_file is not None:
        detector = make_provider(provider, model_file=model_file, device=device)
    elif any(view.landmarks is None for view in session.views):
        try:
            detector = make_provider(None, device=device)
        except InputError:
            detector = None  # require_landmarks says what is missing, for which photographs.
    return require_landmarks(session, detector, strict=strict)


def choose_configuration(name: str, view_count: int, displacement: int | None, texture: int | None):
    """The preset or file called `name` with the map sizes asked for, checked before any work is done."""
    from fitter.optimise.config import Maps, configuration_to_dict, load_configuration
    from fitter.optimise.run import check_configuration

    chosen = ("photo" if view_count == 1 else "session") if name == "auto" else name
    configuration = load_configuration(chosen)
    sizes = {"displacement": displacement, "texture": texture}
    sizes = {key: value for key, value in sizes.items() if value is not None}
    if sizes:
        from pydantic import ValidationError

        try:
            maps = Maps(**{**configuration_to_dict(configuration)["maps"], **sizes})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"--{first['loc'][0]}", str(first["input"]), first["msg"].lower(), "Use 256, 512 or 1024."
            ) from error
        configuration = replace(configuration, maps=maps)
    check_configuration(configuration)
    return configuration


def check_device(device: str) -> None:
    """Refuse a device that is not here."""
    from fitter.errors import MissingPartError

    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise MissingPartError(
                "a CUDA device that torch can use", f"--device {device}", "Use --device cpu, or install CUDA's torch."
            )
    elif device != "cpu":
        raise InputError("--device", device, "cpu or cuda", "Use --device cpu.")


def run_session(
    session, configuration, model_name: str, folder: Path, report: bool, again: bool, device: str, seed: int
) -> int:
    """Fit a loaded session into a folder; says so where the folder holds this very fit already."""
    from fitter.cli.progress import FitProgress, model_progress
    from fitter.export.folder import is_complete, write_result
    from fitter.fit import FitOptions, fit_fingerprint, fit_session, session_landmarks
    from fitter.model.load import load_model

    for warning in session.warnings:
        print(f"warning: {warning}")
    for name, reason in session.skipped:
        print(f"skipped {name}: {reason}")
    with model_progress() as progress:
        model = load_model(model_name, progress)
    if session.views:
        session_landmarks(session, model)  # What cannot be fitted is refused before anything is written.
    key = fit_fingerprint(session, model, configuration, seed)
    if _already_done(folder, key, again, report):
        print(f"{folder} holds this fit already; --again fits once more.")
        return 0
    began = time.perf_counter()
    _prepare(folder, key, configuration, again)
    with FitProgress() as bars:
        options = FitOptions(device=device, seed=seed, checkpoint=folder, on_step=bars.step, on_phase=bars.phase)
        try:
            result = fit_session(session, model, configuration, options)
        except OSError as error:
            from fitter.export.folder import output_error

            raise output_error(Path(error.filename or folder), error) from error
        except InputError:
            _withdraw(folder)
            raise
        bars.phase("writing")
        result.timings["total"] = time.perf_counter() - began
        write_result(result, folder, report=report, progress=lambda label, part: bars.phase_fraction("writing", part))
    if not is_complete(folder):
        raise InputError(folder, "an incomplete result", "all files in place", "Run the same command again.")
    from fitter.result.checkpoint import NAME

    (folder / NAME).unlink(missing_ok=True)
    for warning in result.warnings:
        print(f"note: {warning}")
    shown = "report.html" if report else "face.obj"
    seconds = time.perf_counter() - began
    what = " and ".join(
        text
        for text, there in (("a scan", session.scan is not None), (f"{len(session.views)} view(s)", session.views))
        if there
    )
    print(f"{session.name}: {what} fitted in {seconds:.1f} s -> {folder / shown}")
    return 0


def _already_done(folder: Path, key: str, again: bool, report: bool) -> bool:
    """Whether the folder holds this very fit; another fit in it is refused."""
    from fitter.export.folder import is_complete

    if again or not is_complete(folder):
        return False
    try:
        found = json.loads((folder / RUN_FILE).read_text("utf-8")).get("key")
    except (OSError, ValueError):
        found = None
    if found != key:
        raise InputError(
            folder,
            "the result of another fit (other photographs, settings or version)",
            "an empty folder or the same fit",
            "Choose another --out, or fit over it with --again.",
        )
    return (folder / "report.html").is_file() or not report


def _withdraw(folder: Path) -> None:
    """Take back the folder of a fit that was refused before anything was found: no face in the scan, say."""
    if {path.name for path in folder.iterdir()} <= {RUN_FILE, SETTINGS_FILE}:
        for name in (RUN_FILE, SETTINGS_FILE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _prepare(folder: Path, key: str, configuration, again: bool) -> None:
    """Make the folder and leave the configuration in it before the work begins."""
    import yaml

    from fitter.atomic import write_text
    from fitter.export.folder import MARKER, output_error
    from fitter.optimise.config import configuration_to_dict
    from fitter.result.checkpoint import NAME

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if again:
            (folder / MARKER).unlink(missing_ok=True)
            (folder / NAME).unlink(missing_ok=True)
        if shutil.disk_usage(folder).free < 50_000_000:
            raise InputError(
                folder, "less than 50 MB of space left", "space for the result", "Free some space, then run again."
            )
        write_text(folder / RUN_FILE, json.dumps({"key": key}, indent=1) + "\n")
        plain = json.loads(json.dumps(configuration_to_dict(configuration)))
        write_text(folder / SETTINGS_FILE, yaml.safe_dump(plain, sort_keys=False))
    except OSError as error:
        raise output_error(folder, error) from error
