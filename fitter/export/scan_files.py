"""Files that a result has where its session has a scan: the scan coloured by error."""

from __future__ import annotations

from fitter.export.cameras import unit_name
from fitter.export.error_mesh import error_ply, finest_limit
from fitter.result.types import FitResult

ERROR_MESH, ERROR_PICTURE = "scan_error.ply", "scan_error.png"


def scan_error_ply(result: FitResult) -> bytes:
    """The fitted part of the scan in its own unit, coloured by its distance to M2."""
    outcome = result.scan
    distances = outcome.distances["M2"]
    limit = finest_limit(distances[outcome.counted])
    return error_ply(
        outcome.vertices,
        outcome.triangles,
        distances,
        limit=limit,
        mm_per_unit=result.mm_per_unit,
        about=(
            f"vertices in {unit_name(result)}, where the scan has them",
            "distance: to the closest point of M2 (dense.obj), mm, whatever the unit of the vertices",
            f"colours: pale to dark red from 0 to {limit:g} mm, dark red beyond",
            "counted: 1 within 80 mm of the nose tip and facing forward, as in the figures of fit.json",
        ),
        flags={"counted": outcome.counted},
    )
