"""Sheets to look through: a row of pictures for every sample, drawn from the files alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from fitter.export.colour import diverging, font, srgb_encode, to_bytes
from fitter.export.maps import png, to_image_rows
from priors.dataset.preview import SIZE

ROWS = 6
"""Samples on a sheet."""
GAP, STRIP, TITLE = 10, 28, 34
"""Between pictures, above a row, above the sheet, px."""
PAPER, INK, FAINT = (250, 249, 247), (30, 30, 32), (112, 112, 116)
OUTSIDE = (226, 224, 221)
"""sRGB of texels that no triangle covers."""
UNMEASURED = (233, 148, 58)
"""sRGB of texels that the scan says nothing about."""
DISPLACEMENT_MM, DEFORMATION_MM = 0.5, 4.0
"""At which the colours are full: the same on all sheets, so that samples can be compared."""
COLUMNS = (
    "photograph, fitted points",
    "M2",
    "texture T",
    "T', realigned",
    f"displacement ±{DISPLACEMENT_MM:g} mm",
    f"deformation ±{DEFORMATION_MM:g} mm (x, y, z)",
    "seen; orange: not measured",
)


def sheet_name(number: int) -> str:
    """File name of a sheet."""
    return f"sheet-{number:03d}.png"


def draw_sheet(rows: list[tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]]) -> bytes:
    """A sheet as PNG.

    Args:
        rows: Of each sample its record, its session's record, and its tensors.
    """
    width = GAP + len(COLUMNS) * (SIZE + GAP)
    canvas = Image.new("RGB", (width, TITLE + len(rows) * (STRIP + SIZE + GAP)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, title in enumerate(COLUMNS):
        pen.text((GAP + column * (SIZE + GAP), 10), title, FAINT, font(14))
    for number, (sample, session, tensors) in enumerate(rows):
        top = TITLE + number * (STRIP + SIZE + GAP)
        label, note = _label(sample, session)
        pen.text((GAP, top + 5), label, INK, font(16))
        pen.text((GAP + pen.textlength(label, font(16)) + 24, top + 7), note, FAINT, font(14))
        for column, picture in enumerate(_pictures(tensors)):
            if picture is not None:
                canvas.paste(_fitted(picture), (GAP + column * (SIZE + GAP), top + STRIP))
    return png(np.asarray(canvas))


def _label(sample: dict[str, Any], session: dict[str, Any]) -> tuple[str, str]:
    """Who and what, and how well: two pieces of text."""
    residuals = session["residuals"]
    found = [f"{level} {_figure(residuals[level]['skin']['median_mm'], 3)}" for level in ("M0", "M1", "M2")]
    scan = session["scan"]
    notes = [
        "  ".join(found) + " mm to the scan (median, skin)",
        f"scan: edges {_figure(scan['edge_mm'], 2)}, noise {_figure(scan['noise_mm'], 3)} mm",
    ]
    if not scan["has_detail"]:
        notes.append("too coarse for detail")
    if sample.get("landmark_error") is not None:
        notes.append(f"landmarks {100 * sample['landmark_error']:.1f} %")
    if session["warnings"]:
        notes.append(f"{len(session['warnings'])} warnings")
    return f"{sample['sample']}  [{sample['split']}]", "   |   ".join(notes)


def _figure(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _fitted(picture: np.ndarray) -> Image.Image:
    """A uint8 picture at the row's height; enlarged texels stay squares."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.size == (SIZE, SIZE):
        return image
    larger = image.size[0] < SIZE
    return image.resize((SIZE, SIZE), Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _pictures(tensors: dict[str, Tensor]) -> list[np.ndarray | None]:
    """The columns of a sample's row, uint8 [H, W, 3] or None where there is none."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    valid = arrays["valid"]
    preview = arrays["preview"]
    displacement = diverging(arrays["displacement"], DISPLACEMENT_MM)
    return [
        preview[0],
        preview[1],
        _colour(arrays.get("texture"), valid),
        _colour(arrays.get("realigned"), valid),
        _on_paper(to_bytes(displacement), valid),
        _deformation(arrays["deformation"], valid),
        _masks(valid, arrays["measured"], arrays.get("texture_weight")),
    ]


def _on_paper(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """uint8 texels [S, S, 3], grey where no triangle is, top row first."""
    return to_image_rows(np.where(valid[..., None], pixels, np.uint8(OUTSIDE)))


def _colour(texture: np.ndarray | None, valid: np.ndarray) -> np.ndarray | None:
    if texture is None:
        return None
    return _on_paper(to_bytes(srgb_encode(texture.transpose(1, 2, 0).astype(np.float32))), valid)


def _deformation(deformation: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """x, y and z as red, green and blue around a middle grey: colours between are directions between."""
    side = deformation.shape[-1]
    index = ((np.arange(side) + 0.5) / side * len(valid)).astype(int)
    colour = 0.5 + 0.5 * np.clip(deformation.transpose(1, 2, 0) / DEFORMATION_MM, -1.0, 1.0)
    return _on_paper(to_bytes(colour), valid[index[:, None], index])


def _masks(valid: np.ndarray, measured: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """How well the photograph shows a texel as grey; orange where the scan says nothing."""
    weight = np.ones(valid.shape) if seen is None else seen.astype(np.float64)
    grey = np.repeat(to_bytes(0.15 + 0.8 * weight)[..., None], 3, -1)
    tint = np.array(UNMEASURED) * (0.45 + 0.55 * weight[..., None])
    return _on_paper(np.where(measured[..., None], grey, tint).astype(np.uint8), valid)
