"""Cumulative error curves, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.metrics import cumulative_curve
from fitter.export.colour import font

WIDTH, HEIGHT, SCALE = 860, 600, 3
"""Pixels, and how much larger it is drawn before it is reduced: Pillow's lines are not smooth."""
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 46, 66
COLOURS = ("#1b4f8a", "#c8553d", "#2e8b57", "#8a5aa8", "#b8860b", "#4a4a4a", "#008b9a", "#a03060")
SAMPLES = 600


def _ticks(limit: float) -> np.ndarray:
    step = next(size for size in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if limit / size <= 10)
    return np.arange(0, limit + 1e-9, step)


def error_curves(series: Mapping[str, np.ndarray], limit: float, title: str, what: str = "") -> np.ndarray:
    """uint8 picture [H, W, 3]: for each name the share of its distances below every error up to `limit` mm.

    Args:
        series: Name -> distances, mm; the first is drawn thickest.
        limit: Right end, mm.
        title: Above the plot.
        what: What the distances are, beside the axis.
    """
    canvas = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    draw = ImageDraw.Draw(canvas)
    letters, small = font(17 * SCALE), font(15 * SCALE)
    inner = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)

    def place(x: float | np.ndarray, y: float | np.ndarray):
        across = inner[0] + np.asarray(x) / limit * (inner[2] - inner[0])
        return across * SCALE, (inner[3] - np.asarray(y) * (inner[3] - inner[1])) * SCALE

    for value in _ticks(limit):
        x, y = place(value, 0.0)
        draw.line((x, inner[1] * SCALE, x, y), fill="#e4e4e4", width=SCALE)
        draw.text((x, y + 8 * SCALE), f"{value:g}", fill="#333333", font=small, anchor="mt")
    for share in np.arange(0, 1.01, 0.1):
        x, y = place(0.0, share)
        draw.line((x, y, inner[2] * SCALE, y), fill="#e4e4e4", width=SCALE)
        draw.text((x - 8 * SCALE, y), f"{100 * share:.0f}", fill="#333333", font=small, anchor="rm")
    at = np.linspace(0, limit, SAMPLES)
    for number, distances in enumerate(series.values()):
        x, y = place(at, cumulative_curve(distances, at))
        thick = (4 if number == 0 else 2) * SCALE
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=COLOURS[number % 8], width=thick, joint="curve")
    draw.rectangle([side * SCALE for side in inner], outline="#555555", width=SCALE)
    _legend(draw, series, (inner[2] - 12, inner[3] - 12), small)
    draw.text((WIDTH * SCALE / 2, 14 * SCALE), title, fill="#111111", font=letters, anchor="mt")
    middle = 0.5 * (inner[0] + inner[2]) * SCALE
    draw.text(
        (middle, (HEIGHT - 14) * SCALE),
        "error [mm]" + (f"  ({what})" if what else ""),
        fill="#111111",
        font=letters,
        anchor="mb",
    )
    _upright(canvas, "share of points [%]", 14, 0.5 * (inner[1] + inner[3]), letters)
    return np.asarray(canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _legend(draw: ImageDraw.ImageDraw, series: Mapping[str, np.ndarray], corner: tuple[float, float], letters) -> None:
    """Names with their medians, in the corner where cumulative curves leave room."""
    rows = [f"{name}  (median {np.median(distances):.2f} mm)" for name, distances in series.items()]
    wide = max(draw.textlength(row, font=letters) for row in rows) / SCALE
    line = 23
    left, top = corner[0] - wide - 52, corner[1] - line * len(rows) - 10
    box = [left * SCALE, top * SCALE, corner[0] * SCALE, corner[1] * SCALE]
    draw.rectangle(box, fill="white", outline="#bbbbbb", width=SCALE)
    for number, row in enumerate(rows):
        y = (top + 5 + line * (number + 0.5)) * SCALE
        thick = (4 if number == 0 else 2) * SCALE
        draw.line(((left + 10) * SCALE, y, (left + 36) * SCALE, y), fill=COLOURS[number % 8], width=thick)
        draw.text(((left + 44) * SCALE, y), row, fill="#222222", font=letters, anchor="lm")


def _upright(canvas: Image.Image, text: str, x: float, y: float, letters) -> None:
    """Text that runs upwards, its left edge at `x`, its middle at `y`."""
    wide, high = int(letters.getlength(text)) + 4 * SCALE, 26 * SCALE
    label = Image.new("RGB", (wide, high), "white")
    ImageDraw.Draw(label).text((wide / 2, high / 2), text, fill="#111111", font=letters, anchor="mm")
    turned = label.rotate(90, expand=True)
    canvas.paste(turned, (int(x * SCALE), int(y * SCALE - turned.height / 2)))
