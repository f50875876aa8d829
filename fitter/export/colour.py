"""Colour: sRGB coding, colour maps for signed and one-sided quantities, and colour bars drawn with Pillow alone."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DIVERGING = (
    "#053061",
    "#2166ac",
    "#4393c3",
    "#92c5de",
    "#d1e5f0",
    "#f7f7f7",
    "#fddbc7",
    "#f4a582",
    "#d6604d",
    "#b2182b",
    "#67001f",
)
"""Blue, white, red at equal steps (ColorBrewer RdBu, reversed; Harrower and Brewer 2003)."""
SEQUENTIAL = (
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
)
"""Dark violet to yellow at equal steps (viridis; van der Walt and Smith 2015, CC0)."""
ERROR = ("#f3f6f4", "#cfe4d8", "#f6e3a1", "#f2b25c", "#e0703c", "#b83030", "#6e1038")
"""Pale to dark red: pale is close, so that only what is wrong draws the eye."""


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    """Linear RGB to sRGB-encoded values in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055)


def srgb_decode(encoded: np.ndarray) -> np.ndarray:
    """sRGB-encoded values in [0, 1] to linear RGB (IEC 61966-2-1)."""
    encoded = np.clip(encoded, 0.0, 1.0)
    return np.where(encoded <= 0.04045, encoded / 12.92, np.power((encoded + 0.055) / 1.055, 2.4))


def to_bytes(encoded: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to uint8, rounded."""
    return (np.clip(encoded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def colour_map(fraction: np.ndarray, stops: tuple[str, ...]) -> np.ndarray:
    """sRGB-encoded colours [..., 3] in [0, 1] for fractions in [0, 1] along equally spaced stops."""
    table = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops]) / 255.0
    position = np.clip(np.nan_to_num(fraction), 0.0, 1.0) * (len(stops) - 1)
    return np.stack([np.interp(position, np.arange(len(stops)), table[:, c]) for c in range(3)], -1)


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """sRGB-encoded colours of signed values; white at zero, full colour at ± `limit`."""
    return colour_map(values / (2.0 * limit) + 0.5, DIVERGING)


def round_limit(values: np.ndarray, smallest: float = 0.01, quantile: float = 1.0) -> float:
    """A round number (1, 2 or 5 times a power of ten) not below the magnitude's quantile, for scales and ranges."""
    magnitude = np.abs(values[np.isfinite(values)])
    largest = float(np.quantile(magnitude, quantile)) if magnitude.size else 0.0
    largest = max(largest, smallest)
    power = 10.0 ** np.floor(np.log10(largest) + 1e-9)
    factor = next(step for step in (1.0, 2.0, 5.0, 10.0) if step * power >= largest * (1 - 1e-6))
    return float(f"{factor * power:.6g}")


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font: it is there on every machine."""
    return ImageFont.load_default(size)


def with_colour_bar(
    picture: np.ndarray,
    stops: tuple[str, ...],
    low: float,
    high: float,
    label: str,
    size: int | None = None,
    *,
    beyond: bool = False,
) -> np.ndarray:
    """Put a horizontal colour bar with its numbers below a uint8 picture [H, W, 3].

    Args:
        picture: uint8 RGB, on whose background colour (white) the bar is drawn.
        stops: Colours from `low` to `high`.
        low: Number at the bar's left end.
        high: Number at its right end.
        label: What the numbers are, with the unit.
        size: Height of the letters in px; by default it follows the width.
        beyond: Whether the last colour stands for more than `high`, too.
    """
    height, width = picture.shape[:2]
    letters = size or max(11, width // 48)
    strip = int(letters * 4.2)
    canvas = Image.new("RGB", (width, height + strip), "white")
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    left, right = int(width * 0.08), int(width * 0.92)
    top, thickness = height + letters // 2, letters
    ramp = to_bytes(colour_map(np.linspace(0, 1, right - left), stops))
    canvas.paste(Image.fromarray(np.repeat(ramp[None], thickness, 0)), (left, top))
    draw.rectangle((left - 1, top - 1, right, top + thickness), outline="#888888")
    under = top + thickness + letters // 4
    for value in (low, (low + high) / 2, high):
        x = left + (right - left) * (value - low) / (high - low)
        draw.line((x, top + thickness, x, top + thickness + 3), fill="#555555")
        number = f"> {value:g}" if beyond and value == high else f"{value:g}"
        draw.text((x, under), number, fill="#222222", font=font(letters), anchor="mt")
    draw.text(((left + right) / 2, under + int(letters * 1.15)), label, fill="#222222", font=font(letters), anchor="mt")
    return np.asarray(canvas)
