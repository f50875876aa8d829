"""A scan from its file, as the fit takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from fitter.capture.scan.clean import clean_mesh, merge_vertices
from fitter.capture.scan.landmarks import find_scan_landmarks, read_scan_landmarks
from fitter.capture.scan.quality import estimate_noise, median_edge
from fitter.capture.scan.read import compacted, find_unit, read_mesh
from fitter.capture.scan.reduce import reduce_mesh
from fitter.capture.types import Scan, ScanLandmarks
from fitter.errors import InputError

FEWEST_TRIANGLES = 200
NOISY_MM = 0.15
"""Noise from which the report should say that fine detail is not the subject's."""
COARSE_MM = 2.0
"""Edge length from which a scan holds no fine detail."""
OFF_MM = 30.0
"""Landmarks that lie so far from the scan (median) belong to another file, unit or frame."""
JAW = 17
"""Numbers below are the jaw line, which may lie off the surface: it was found on a photograph's outline."""


def load_scan(
    path: str | Path,
    *,
    unit: str | None = None,
    landmarks: str | Path | None = None,
    clean: bool = True,
    edge_mm: float = 0.35,
) -> Scan:
    """Read a scan (PLY, OBJ, STL, GLB, glTF), clean it, and bring it to millimetres.

    Args:
        path: The scan.
        unit: `mm`, `cm` or `m`; None finds it from the scan's size, and says so in the warnings unless it is mm.
        landmarks: Its landmark file, in its unit; None takes the one that lies beside it, if any.
        clean: Whether to drop specks, turn the triangles outwards and thin what is too fine. Without, only double
            vertices are joined.
        edge_mm: Scans of more than 1.5 million triangles are thinned to edges of this length, never to longer ones.

    Raises:
        InputError: The file cannot be used (see `read_mesh`, `find_unit`, `read_scan_landmarks`), has fewer than 200
            triangles, or its landmarks lie elsewhere.
    """
    path = Path(path)
    mesh = read_mesh(path)
    if clean:
        cleaned = clean_mesh(mesh.vertices, mesh.triangles)
        vertices, triangles, changes = cleaned.vertices, cleaned.triangles, cleaned.warnings
    else:
        vertices, triangles = compacted(*merge_vertices(mesh.vertices, mesh.triangles))
        changes = ()
    # Of the file's own vertices: with nothing left, cleaning has no extent to judge.
    found = find_unit(path, vertices if len(vertices) else mesh.vertices, unit)
    if len(triangles) < FEWEST_TRIANGLES:
        raise InputError(
            path,
            f"{len(triangles)} triangles{' after cleaning' if clean else ''}",
            f"{FEWEST_TRIANGLES} or more",
            "No face can be recognised in so few; give the scan as it was before simplification.",
        )
    vertices = vertices * found.mm
    warnings = [*mesh.warnings, *found.warnings, *changes]
    edge, count = median_edge(vertices, triangles), len(triangles)
    if clean:
        vertices, triangles = reduce_mesh(vertices, triangles, edge_mm)
        if len(triangles) < count:
            warnings.append(
                f"The scan was thinned from {count} to {len(triangles)} triangles; "
                f"edges of {edge_mm:g} mm are all that a displacement map holds."
            )
    noise = estimate_noise(vertices, triangles)
    warnings += _judgement(noise, edge)
    points = _landmarks(path, landmarks, found.mm, vertices)
    if points is not None and landmarks is None:
        warnings.append(f"The scan's landmarks were found beside it, in {points.source}.")
    return Scan(
        name=path.stem,
        path=path,
        vertices=vertices,
        triangles=triangles,
        unit=found.name,
        mm_per_unit=found.mm,
        noise_mm=noise,
        edge_mm=edge,
        landmarks=points,
        warnings=tuple(warnings),
    )


def _judgement(noise: float, edge: float) -> list[str]:
    """Sentences about what the scan cannot give."""
    notes = []
    if noise > NOISY_MM:
        notes.append(f"The scan is noisy (about {noise:.2f} mm); detail finer than that is not the subject's.")
    if edge > COARSE_MM:
        notes.append(f"The scan is coarse (edges of {edge:.1f} mm); it holds no fine detail.")
    return notes


def _landmarks(path: Path, given: str | Path | None, mm: float, vertices: np.ndarray) -> ScanLandmarks | None:
    """The landmarks given or lying beside, once they are seen to lie on the scan."""
    file = find_scan_landmarks(path) if given is None else Path(given)
    if file is None:
        return None
    landmarks = read_scan_landmarks(file, mm)
    inner = landmarks.points[landmarks.indices >= JAW]
    distance = cKDTree(vertices, balanced_tree=False, compact_nodes=False).query(
        inner if len(inner) else landmarks.points
    )[0]
    if np.median(distance) > OFF_MM:
        raise InputError(
            file,
            f"landmarks {np.median(distance):.3g} mm off the scan (median)",
            f"points on {path.name}, in its unit and frame",
            "Give the landmarks of this scan with --scan-landmarks, or move the file away.",
        )
    return landmarks
