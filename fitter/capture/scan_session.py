"""Sessions that have a scan: a scan alone, or with the photographs of the same head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fitter.capture.scan.load import load_scan
from fitter.capture.session import load_session
from fitter.capture.types import Session


def load_scan_session(
    scan: str | Path,
    photographs: str | Path | Sequence[str | Path] | None = None,
    *,
    unit: str | None = None,
    landmarks: str | Path | None = None,
    cameras: str | Path | None = None,
    views: Sequence[str | int] | None = None,
    strict: bool = False,
    name: str | None = None,
) -> Session:
    """Load a scan, and the photographs that were taken with it.

    Args:
        scan: PLY, OBJ, STL, GLB or glTF.
        photographs: A folder, one photograph or a list, as for `load_session`; cameras share the scan's frame and unit.
        unit: Unit of scan and cameras; None finds it from the scan's size.
        landmarks: Points on the scan; None takes those beside it, `none` goes without.
        cameras: As for `load_session`.
        views: As for `load_session`.
        strict: As for `load_session`.
        name: Of the session; None takes the scan's.

    Raises:
        InputError: As `load_scan` and `load_session` do.
    """
    without = landmarks is not None and str(landmarks).lower() == "none"
    loaded = load_scan(scan, unit=unit, landmarks=None if without else landmarks)
    if without:
        loaded = replace(loaded, landmarks=None)
    title = name or loaded.name
    if photographs is None:
        return Session(title, (), "rig", loaded.unit, loaded.mm_per_unit, scan=loaded)
    # Photographs of a scanned head are taken with the scan: one instant, unless nothing ties them to it.
    session = load_session(photographs, unit=loaded.unit, cameras=cameras, views=views, strict=strict, kind="rig")
    # Without cameras the unit is the scan's alone, and load_session, which knows of no scan, would call it useless.
    warnings = tuple(line for line in session.warnings if not line.startswith("--unit"))
    return replace(session, name=title, scan=loaded, warnings=warnings)
