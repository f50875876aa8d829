"""Pieces of HTML that all sections of the report use."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from fitter.export.report.pictures import TURNS

JPEG_QUALITY = 84


def image(pixels: np.ndarray, caption: str, *, alt: str, kind: str = "") -> str:
    """A figure with its picture embedded; `caption` is HTML."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    tag = f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
    label = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{tag}{label}</figure>\n' if kind else f"<figure>{tag}{label}</figure>\n"


def count(number: int, singular: str, plural: str) -> str:
    """A number with its noun."""
    return f"{number:,} {singular if number == 1 else plural}"


def decimal(value: float) -> str:
    """A number for a table, or a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}"


def three_turns(pictures: list[np.ndarray], what: str) -> str:
    """A row of pictures from the sides of `TURNS`, each with its caption."""
    figures = (
        image(picture, escape(f"{what}, {side}"), alt=f"{what}, {side}")
        for picture, (_, side) in zip(pictures, TURNS, strict=True)
    )
    return f'<div class="row three">{"".join(figures)}</div>'
