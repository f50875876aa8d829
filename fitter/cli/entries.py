"""Command-line options of `hrn landmarks` and `hrn doctor`, around their Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def landmarks_entry(
    images: Annotated[tuple[Path, ...], tyro.conf.Positional],
    provider: Literal["face-alignment", "mediapipe"] | None = None,
    model_file: Path | None = None,
    out: Path | None = None,
    draw: bool = True,
    device: str = "cpu",
) -> None:
    """Make landmarks beside each photograph and draw them.

    Args:
        images: Photographs, or folders of them.
        provider: Which detector; by default the first that is usable.
        model_file: MediaPipe's face_landmarker.task.
        out: Folder for the results instead of beside the photographs.
        draw: Also write a picture with the points drawn in.
        device: Where the detector runs.
    """
    from fitter.cli.landmarks import landmarks_command
    from fitter.export.folder import output_error

    try:
        landmarks_command(list(images), provider, model_file, out, draw, device)
    except OSError as error:
        raise output_error(Path(error.filename or out or "."), error) from error


def doctor_entry(as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False) -> int:
    """Tell which models, backends, landmark providers and optional parts are usable here, and what is missing.

    Args:
        as_json: Print a JSON list instead of a table.
    """
    from fitter.cli.doctor import doctor_command

    return doctor_command(as_json)
