"""`hrn scan`: a scan in (and its photographs), a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from fitter.cli.fit import check_device, choose_configuration, complete_landmarks, run_session
from fitter.errors import InputError


def scan_command(
    scan: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    photographs: tuple[Path, ...] = (),
    landmarks: str | None = None,
    unit: Literal["mm", "cm", "m"] | None = None,
    cameras: str | None = None,
    views: tuple[str, ...] | None = None,
    provider: Literal["face-alignment", "mediapipe"] | None = None,
    model_file: Path | None = None,
    config: str = "scan",
    model: str = "open",
    displacement: int | None = None,
    texture: int | None = None,
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    report: bool = True,
    again: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: str = "cpu",
    seed: int = 0,
) -> int:
    """Fit a hierarchical face to a 3D scan, with or without its photographs.

    Args:
        scan: PLY, OBJ, STL, GLB or glTF, in any pose.
        out: Folder for the result; by default NAME-scan in the current folder.
        photographs: A folder, or photographs, with landmarks and cameras beside them in the scan's frame.
        landmarks: Points on the scan (.pp, .lnd, .json, .npy, text); by default those beside it; `none` goes without.
        unit: Unit of scan and cameras; by default found from the scan's size.
        cameras: Camera file or COLMAP folder; `none` ignores cameras that lie beside the photographs.
        views: Use only these photographs (names or numbers).
        provider: Landmark detector for photographs without landmarks.
        model_file: MediaPipe's face_landmarker.task.
        config: A preset (scan) or a YAML file.
        model: `open`, or the path of a BFM or ICT-FaceKit model.
        displacement: Texels per side of the displacement map (256, 512, 1024).
        texture: Texels per side of the textures.
        strict: A photograph that cannot be used is an error.
        report: Write report.html, and scan_error.png.
        again: Fit again even if the folder holds a result.
        device: cpu or cuda.
        seed: Seed of everything random.
    """
    from fitter.capture.scan_session import load_scan_session

    paths = photographs[0] if len(photographs) == 1 else list(photographs)
    session = load_scan_session(
        scan,
        paths or None,
        unit=unit,
        landmarks=landmarks,
        cameras=cameras,
        views=list(views) if views else None,
        strict=strict,
    )
    if session.views:
        session = complete_landmarks(session, provider, model_file, device, strict)
    configuration = choose_configuration(config, len(session.views), displacement, texture)
    _check_uses_scan(config, configuration)
    check_device(device)
    folder = out if out is not None else Path(f"{session.name}-scan")
    return run_session(session, configuration, model, folder, report, again, device, seed)


def _check_uses_scan(name: str, configuration) -> None:
    """Refuse a configuration for photographs, which would leave the scan out without a word."""
    if any("scan" in stage.energies or stage.solver == "ray_cast" for stage in configuration.stages):
        return
    raise InputError(
        f"--config {name}",
        "no stage that fits a scan",
        "stages with the energy `scan`, as in the preset scan",
        "Leave --config out, or use hrn fit for photographs alone.",
    )
