"""Pictures of a scan beside its fit: both in clay from the same three sides, and the scan coloured by distance."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from fitter.camera import Camera
from fitter.export.colour import ERROR, font, srgb_decode, with_colour_bar
from fitter.export.error_mesh import FINE_LIMITS_MM, error_colours, error_limit, finest_limit
from fitter.export.report.clay import BACKGROUND, CLAY, Figure, Shot, draw, figure, studio_camera, to_pixels
from fitter.export.report.pictures import TURNS, Studio
from fitter.mesh_normals import vertex_normals
from fitter.result.types import LevelResiduals

SIDE = 400
"""Of one picture, px."""
STRIP = 34
"""Height of the line of text above a row of the error pictures, px."""
PAINT = 0.62
"""Brightness of the error colours under the studio's light, so that pale does not burn out."""
COLOURS = 512
"""Steps of a colour scale: twice as many as a screen shows."""
MUCH_FINER = 4.0
"""M2 is shown on a scale of its own where the common one is so much wider."""
INK, SOFT = "#24211e", "#55504a"


class ScanStudio:
    """Draws a result's scan; cameras look at the face as the fit found it, so a wrong pose shows."""

    def __init__(self, studio: Studio) -> None:
        """Frame the face.

        Args:
            studio: Of a result that has a scan.
        """
        self.studio = studio
        self.outcome = studio.result.scan
        result = studio.result
        face = result.vertices_m1[result.model.regions["face"].cpu().numpy()]
        side = np.cross(studio.up, studio.forward)
        axes = np.stack([side, studio.up, studio.forward], 1)
        low, high = (face @ axes).min(0), (face @ axes).max(0)
        target, span = axes @ (0.5 * (low + high)), 1.3 * float((high - low).max())
        self._cameras: list[Camera] = [
            studio_camera(target, studio.forward, studio.up, yaw, span, SIDE) for yaw, _ in TURNS
        ]

    def clay_rows(self) -> list[tuple[str, list[np.ndarray]]]:
        """(caption, three pictures) of the scan, M0, M1 and M2, in clay."""
        result = self.studio.result
        scan = result.session.scan
        subjects = (
            ("the scan", figure(scan.vertices, scan.triangles, vertex_normals(scan.vertices, scan.triangles))),
            ("M0: face model", self.studio.level(result.vertices_m0)),
            ("M1: and deformation", self.studio.level(result.vertices_m1)),
            ("M2: and displacement", self.studio.dense),
        )
        return [(label, [self._drawn(subject, camera) for camera in self._cameras]) for label, subject in subjects]

    @staticmethod
    def _drawn(subject: Figure, camera: Camera) -> np.ndarray:
        return to_pixels(draw(subject, camera).over(BACKGROUND))

    @property
    def common_limit(self) -> float:
        """End of the colour scale that all levels share, mm: most of M0's distances lie below it."""
        counted = self.outcome.counted
        return max(error_limit(distances[counted], FINE_LIMITS_MM) for distances in self.outcome.distances.values())

    @cached_property
    def _shots(self) -> list[Shot]:
        """The fitted part of the scan, lit once for all levels."""
        outcome = self.outcome
        subject = figure(outcome.vertices, outcome.triangles, vertex_normals(outcome.vertices, outcome.triangles))
        return [Shot(subject, camera) for camera in self._cameras]

    @cached_property
    def error_sheet(self) -> np.ndarray:
        """uint8 sheet: the scan coloured by distance to M0, M1 and M2 on one scale; M2 again where that hides it."""
        outcome = self.outcome
        common, finest = self.common_limit, finest_limit(outcome.distances["M2"][outcome.counted])
        rows = [_headings()]
        for level, parts in outcome.residuals.items():
            rows += [_strip(_label(level, parts["all"])), self._error_row(level, common)]
        sheet = with_colour_bar(
            np.concatenate(rows), ERROR, 0.0, common, "distance of the scan to the fit, mm; grey does not count", 20
        )
        if finest * MUCH_FINER > common:
            return sheet
        again = np.concatenate([_strip("M2 again, on a finer scale"), self._error_row("M2", finest)])
        label = "distance of the scan to M2, mm; a finer scale than above"
        gap = np.full((24, sheet.shape[1], 3), 255, np.uint8)
        return np.concatenate([sheet, gap, with_colour_bar(again, ERROR, 0.0, finest, label, 20)])

    def _error_row(self, level: str, limit: float) -> np.ndarray:
        """The scan from three sides, coloured by its distance to a level."""
        outcome = self.outcome
        # A table of colours, the last for what does not count: pixels are many, and encoding each is slow.
        scale = np.linspace(0.0, limit, COLOURS)
        table = np.concatenate([PAINT * srgb_decode(error_colours(scale, limit)), CLAY[None]]).astype(np.float32)
        attributes = np.stack([np.clip(outcome.distances[level], 0.0, limit), outcome.counted], 1)
        pictures = []
        for shot in self._shots:
            distance, counted = shot.at_pixels(attributes).T
            row = np.rint(distance * ((COLOURS - 1) / limit)).astype(np.int32)
            picture = shot.painted(table[np.where(counted > 0.5, row, COLOURS)])
            pictures.append(to_pixels(picture.over(BACKGROUND)))
        return np.concatenate(pictures, 1)


def _strip(text: str) -> np.ndarray:
    """A line of text as wide as a row."""
    strip = Image.new("RGB", (SIDE * len(TURNS), STRIP), "white")
    ImageDraw.Draw(strip).text((10, STRIP / 2), text, fill=INK, font=font(18), anchor="lm")
    return np.asarray(strip)


def _headings() -> np.ndarray:
    """The sides' names above the columns."""
    strip = Image.new("RGB", (SIDE * len(TURNS), STRIP), "white")
    for column, (_, side) in enumerate(TURNS):
        place = (SIDE * (column + 0.5), STRIP / 2)
        ImageDraw.Draw(strip).text(place, side, fill=SOFT, font=font(16), anchor="mm")
    return np.asarray(strip)


def _label(level: str, numbers: LevelResiduals) -> str:
    if not numbers.count:
        return f"{level}: nothing of the scan lies where the face was put"
    return (
        f"{level}: median {numbers.median_mm:.3f} mm, 90 % below {numbers.p90_mm:.3f} mm, "
        f"normals {numbers.normal_median:.1f}° apart"
    )
