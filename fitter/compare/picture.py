"""A comparison as files: compare.json, the coloured scan error.ply, the picture error.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fitter.atomic import write_bytes
from fitter.compare.run import Comparison, Measurement
from fitter.export import error_mesh
from fitter.export.colour import ERROR, font, srgb_decode, with_colour_bar
from fitter.export.folder import output_error
from fitter.export.maps import png
from fitter.export.records import json_bytes
from fitter.export.report.clay import BACKGROUND, draw, figure, studio_camera, to_pixels

SIDE = 520
BRIGHTNESS, RELIEF = 0.82, 0.3
TURNS = ((-45.0, "from the subject's right"), (0.0, "front"), (45.0, "from the subject's left"))


def shown(comparison: Comparison) -> Measurement:
    """The measurement worth a picture: the finest level, raw, or rigidly aligned where the frames differ."""
    level = comparison.measurements[-1].level
    return comparison.get(level, "raw" if comparison.start == "in place" and comparison.metric else "rigid")


def _crop_mesh(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of the scan's part that was counted (mm)."""
    scan = comparison.scan
    local = np.full(len(scan.vertices), -1)
    local[comparison.points] = np.arange(len(comparison.points))
    triangles = local[scan.triangles]
    return scan.vertices[comparison.points], triangles[(triangles >= 0).all(1)]


def error_ply(comparison: Comparison, measurement: Measurement, mm_per_unit: float = 1.0) -> bytes:
    """Binary PLY of the counted part of the scan, in the scan's unit, with colours and the distance (mm) per vertex."""
    vertices, triangles = _crop_mesh(comparison)
    distances = measurement.errors.distances
    return error_mesh.error_ply(
        vertices,
        triangles,
        distances,
        limit=error_mesh.error_limit(distances),
        mm_per_unit=mm_per_unit,
        about=(f"distance to {measurement.level} ({measurement.alignment}), mm",),
    )


def error_picture(comparison: Comparison, measurement: Measurement) -> np.ndarray:
    """uint8 picture: the counted part of the scan from three sides, coloured by distance, with the scale below."""
    vertices, triangles = _crop_mesh(comparison)
    normals = comparison.scan.normals[comparison.points]
    score = measurement.score
    label = (
        f"{measurement.level}, {measurement.alignment}: distance to the fit in mm"
        f"   (median {score.median:.2f}, 90 % below {score.p90:.2f}; normals {score.normal_median:.1f}°)"
    )
    axes = (comparison.frame.forward, comparison.up)
    return heat_picture(vertices, triangles, normals, measurement.errors.distances, axes, label)


def heat_picture(
    vertices: np.ndarray,
    triangles: np.ndarray,
    normals: np.ndarray,
    distances: np.ndarray,
    axes: tuple[np.ndarray, np.ndarray],
    label: str,
    *,
    limit: float | None = None,
) -> np.ndarray:
    """uint8 picture: a surface from three sides, coloured by distance, with the scale below.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3].
        normals: [V, 3] unit.
        distances: [V] mm.
        axes: Unit vectors [3]: where the face looks, and up.
        label: Under the scale.
        limit: End of the scale, mm; by default it follows the distances.
    """
    limit = limit or error_mesh.error_limit(distances)
    # Little light: what a colour says must not depend on where it stands.
    colours = BRIGHTNESS * srgb_decode(error_mesh.error_colours(distances, limit))
    subject = figure(vertices, triangles, normals, colours=colours, relief=RELIEF)
    target = 0.5 * (vertices.min(0) + vertices.max(0))
    reach = 2.3 * float(np.linalg.norm(vertices - target, axis=1).max())
    panels = []
    for yaw, side in TURNS:
        camera = studio_camera(target, *axes, yaw, reach, SIDE)
        image = Image.fromarray(to_pixels(draw(subject, camera).over(BACKGROUND)))
        ImageDraw.Draw(image).text((SIDE / 2, SIDE - 12), side, fill="#55504a", font=font(16), anchor="ms")
        panels.append(np.asarray(image))
    beyond = bool(len(distances)) and float(np.max(distances)) > limit
    return with_colour_bar(np.concatenate(panels, 1), ERROR, 0.0, limit, label, 20, beyond=beyond)


def write_comparison(comparison: Comparison, folder: str | Path, *, mm_per_unit: float = 1.0) -> list[Path]:
    """Write compare.json, error.ply and error.png; each appears whole or not at all.

    Args:
        comparison: What to write.
        folder: Where to.
        mm_per_unit: The scan's unit, so that error.ply lies on the scan.

    Raises:
        InputError: A file cannot be written.
    """
    measurement = shown(comparison)
    record = comparison.record() | {"picture": {"level": measurement.level, "alignment": measurement.alignment}}
    files = {
        "compare.json": json_bytes(record),
        "error.ply": error_ply(comparison, measurement, mm_per_unit),
        "error.png": png(error_picture(comparison, measurement)),
    }
    written = []
    for name, data in files.items():
        path = Path(folder) / name
        try:
            write_bytes(path, data)
        except OSError as error:
            raise output_error(path, error) from error
        written.append(path)
    return written
