"""Maps as files: EXR in float millimetres, 16-bit and 8-bit PNG, previews, and `maps.json`, which says what each means.

In memory row 0 of a map is v = 0, the bottom; files have their top row first: all is flipped here and only here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from fitter.errors import InputError
from fitter.export.colour import DIVERGING, diverging, round_limit, srgb_encode, to_bytes, with_colour_bar
from fitter.threads import in_threads

MID_GREY = 32768
"""16-bit value of zero displacement."""
PREVIEW_SIZE = 512
"""Largest side of one preview panel, px."""


@dataclass(frozen=True)
class MapFiles:
    """Every map file of a result, ready to be written."""

    files: dict[str, bytes]
    """File name -> content."""
    record: dict[str, Any]
    """The content of `maps.json`."""


def to_image_rows(texels: np.ndarray) -> np.ndarray:
    """From row 0 = bottom (v = 0) to row 0 = top, as image files have it; its own inverse."""
    return np.ascontiguousarray(texels[::-1])


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 grey, RGB or RGBA, or uint16 grey or RGB [H, W(, 3)]; no date inside: equal pixels, equal bytes."""
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        # Pillow has no 16-bit RGB.
        import imagecodecs

        return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=3))
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def exr(channels: dict[str, np.ndarray]) -> bytes:
    """A float32 OpenEXR file (ZIP, lossless) with the given channels [H, W], top row first, uncorrected data.

    The library writes to paths only, so the bytes go through a temporary file.
    """
    import tempfile
    from pathlib import Path

    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    data = {name: np.ascontiguousarray(values, np.float32) for name, values in channels.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.exr"
        OpenEXR.File(header, data).write(str(path))
        return path.read_bytes()


def read_exr(path) -> dict[str, np.ndarray]:
    """Channels [H, W] float32 of an OpenEXR file by name, top row first.

    Raises:
        InputError: The file is not there or is no OpenEXR file.
    """
    import OpenEXR

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            return {name: np.array(channel.pixels, np.float32) for name, channel in file.channels().items()}
    except Exception as error:  # the library raises plain RuntimeErrors and TypeErrors for anything it cannot read
        raise InputError(path, "a file that cannot be read as OpenEXR", "an .exr map") from error


def deformation_exr(deformation: np.ndarray) -> bytes:
    """Deformation map [3, R, R] (mm, model axes, row 0 is v = 0) as R = x, G = y, B = z."""
    return exr({name: to_image_rows(axis) for name, axis in zip("RGB", deformation, strict=True)})


def grey_exr(values: np.ndarray) -> bytes:
    """One-channel map [S, S] (row 0 is v = 0) as channel Y."""
    return exr({"Y": to_image_rows(values)})


def displacement_png(displacement: np.ndarray) -> tuple[bytes, float]:
    """16-bit grey PNG and its range in mm: value = 32768 + displacement / range * 32767 (mid-grey is zero)."""
    limit = round_limit(displacement, smallest=0.1)
    grey = np.round(MID_GREY + np.nan_to_num(displacement) / limit * 32767.0)
    return png(to_image_rows(np.clip(grey, 0, 65535).astype(np.uint16))), limit


def displacement_from_png(grey: np.ndarray, limit: float) -> np.ndarray:
    """Displacement in mm (row 0 is v = 0) from the 16-bit values of a file; the inverse of `displacement_png`."""
    return (to_image_rows(grey).astype(np.float64) - MID_GREY) / 32767.0 * limit


def normal_png(normals: np.ndarray) -> bytes:
    """Tangent-space unit normals [S, S, 3] as 8-bit RGB = n / 2 + 1 / 2; green is along +v, which is OpenGL's green."""
    return png(to_image_rows(to_bytes(normals * 0.5 + 0.5)))


def colour_png(linear: np.ndarray, *, bits: int = 8) -> bytes:
    """Linear RGB map [T, T, 3] as sRGB-encoded PNG of 8 or 16 bits."""
    encoded = srgb_encode(to_image_rows(linear))
    return png(to_bytes(encoded) if bits == 8 else np.round(encoded * 65535.0).astype(np.uint16))


def weighted_colour_png(linear: np.ndarray, weight: np.ndarray) -> bytes:
    """Linear RGB [S, S, 3] as sRGB-encoded 8-bit PNG whose (straight, linear) alpha is a weight [S, S] in [0, 1]."""
    encoded = np.concatenate([srgb_encode(linear), weight[..., None]], -1)
    return png(to_image_rows(to_bytes(encoded)))


def view_file(view_name: str, kind: str) -> str:
    """File of one view's `texture` or `realigned` texture, in the result's folder."""
    return f"views/{view_name}_{kind}.png"


def grey_png(fraction: np.ndarray) -> bytes:
    """Map [S, S] of values in [0, 1] as linear 8-bit grey."""
    return png(to_image_rows(to_bytes(fraction)))


def _preview_panel(values: np.ndarray, valid: np.ndarray, limit: float) -> np.ndarray:
    """uint8 panel of signed values [S, S], light grey outside the atlas, at most `PREVIEW_SIZE` px."""
    shaded = np.where(valid[..., None], diverging(np.where(valid, values, 0.0), limit), 0.92)
    image = Image.fromarray(to_image_rows(to_bytes(shaded)))
    if image.width > PREVIEW_SIZE:
        image = image.resize((PREVIEW_SIZE, PREVIEW_SIZE), Image.Resampling.BOX)
    elif image.width < PREVIEW_SIZE:
        image = image.resize((PREVIEW_SIZE, PREVIEW_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _resized_mask(valid: np.ndarray, size: int) -> np.ndarray:
    """Nearest-neighbour resampling of a square mask to another resolution."""
    index = ((np.arange(size) + 0.5) / size * len(valid)).astype(int)
    return valid[index[:, None], index]


def displacement_preview(displacement: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """uint8 picture of the displacement: red is out, blue is in, with its scale in mm below."""
    limit = round_limit(displacement[valid], smallest=0.02, quantile=0.995)
    panel = _preview_panel(displacement, valid, limit)
    return with_colour_bar(panel, DIVERGING, -limit, limit, "displacement along the normal, mm", 20)


def deformation_preview(deformation: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """uint8 picture of the deformation's three components side by side, one scale in mm below."""
    mask = _resized_mask(valid, deformation.shape[-1])
    limit = round_limit(deformation[:, mask], smallest=0.05, quantile=0.995)
    gap = np.full((PREVIEW_SIZE, 12, 3), 255, np.uint8)
    x, y, z = (_preview_panel(axis, mask, limit) for axis in deformation)
    row = np.concatenate([x, gap, y, gap, z], 1)
    return with_colour_bar(
        row, DIVERGING, -limit, limit, "deformation in mm: x (subject's left), y (up), z (out of the face)", 26
    )


def map_files(result, *, texture_bits: int = 8) -> MapFiles:
    """All map files of a `FitResult`, with the record that goes into `maps.json`.

    Args:
        result: The fit (`fitter.result.types.FitResult`).
        texture_bits: 8, or 16 for texture.png and albedo.png of 16 bits per channel.
    """
    displacement, limit = displacement_png(result.displacement_map)
    made: dict[str, Callable[[], bytes]] = {
        "deformation.exr": lambda: deformation_exr(result.deformation_map),
        "displacement.exr": lambda: grey_exr(result.displacement_map),
        "displacement.png": lambda: displacement,
        "normal.png": lambda: normal_png(result.normal_map),
        "texture.png": lambda: colour_png(result.texture, bits=texture_bits),
        "albedo.png": lambda: colour_png(result.albedo_map, bits=texture_bits),
        "confidence.png": lambda: grey_png(result.confidence),
        "confidence.exr": lambda: grey_exr(result.confidence),
        "displacement_preview.png": lambda: png(displacement_preview(result.displacement_map, result.map_valid)),
        "deformation_preview.png": lambda: png(deformation_preview(result.deformation_map, result.map_valid)),
    }
    if result.views:
        made["coverage.png"] = lambda: grey_png(result.coverage / len(result.views))
    if result.scan is not None:
        made["valid.png"] = lambda: grey_png(result.scan.valid.astype(np.float32))
    for view in result.views:
        if view.texture is not None and view.realigned is not None:
            made[view_file(view.name, "texture")] = partial(weighted_colour_png, view.texture, view.texture_weight)
            made[view_file(view.name, "realigned")] = partial(
                weighted_colour_png, view.realigned, view.realigned_weight
            )
    files = dict(zip(made, in_threads(lambda make: make(), made.values()), strict=True))
    record = _map_record(limit) | _colour_record(result, texture_bits) | _measured_record(result)
    return MapFiles(files, record | _view_record(result.views))


def _view_record(views) -> dict[str, Any]:
    """What the textures of single photographs mean."""
    common = {"encoding": "sRGB", "bits": 8, "alpha": "how well the photograph shows the texel (linear, straight)"}
    meaning = {
        "texture": "T: the photograph sampled through M0; filled in where alpha is 0",
        "realigned": "T': T moved along with the deformation map; filled in where alpha is 0",
    }
    shown = [view.name for view in views if view.texture is not None and view.realigned is not None]
    return {view_file(name, kind): common | {"content": text} for name in shown for kind, text in meaning.items()}


def _colour_record(result, texture_bits: int) -> dict[str, Any]:
    """What texture and albedo mean: without photographs they are the model's."""
    colour = {"encoding": "sRGB", "bits": texture_bits}
    if not result.views:
        plain = colour | {
            "content": "the face model's own colours: there was no photograph, nothing of it was observed"
        }
        return {"texture.png": plain, "albedo.png": plain}
    return {
        "texture.png": colour | {"content": "fused colour of the photographs, holes filled"},
        "albedo.png": colour | {"content": "skin colour without shading; its tone lies between model and photograph"},
    }


def _measured_record(result) -> dict[str, Any]:
    """What coverage, confidence and valid mean, for those that there are."""
    record: dict[str, Any] = {}
    if result.views:
        record["coverage.png"] = {
            "formula": f"views = value / 255 * {len(result.views)}",
            "encoding": "linear",
            "content": "how many photographs see the place",
        }
    content = "how well the photographs determine the surface"
    if result.scan is not None:
        content = (
            "1 where the surface was measured on the scan; elsewhere how well photographs determine it, if they may"
        )
        record["valid.png"] = {
            "values": {"0": "not measured: the model's guess", "255": "measured on the scan"},
            "encoding": "linear",
            "content": "texels whose surface was measured on the scan: no eyes' openings, inside of the mouth, "
            "holes, nor anything beyond the scan's edge",
        }
    record["confidence.png"] = {"formula": "confidence = value / 255", "encoding": "linear", "content": content}
    record["confidence.exr"] = {"channels": {"Y": "confidence in [0, 1]"}}
    return record


def _map_record(limit: float) -> dict[str, Any]:
    """What the maps of the geometry mean, for programs and people."""
    return {
        "layout": "texture coordinates of face.obj and dense.obj; origin bottom-left; the files' top row is v = 1",
        "unit": "mm, whatever the unit of the meshes",
        "deformation.exr": {
            "channels": {"R": "x", "G": "y", "B": "z"},
            "unit": "mm",
            "axes": "model: x to the subject's left, y up, z out of the face",
        },
        "displacement.exr": {
            "channels": {"Y": "along the normal of face.obj's surface, outwards positive"},
            "unit": "mm",
        },
        "displacement.png": {
            "bits": 16,
            "zero": MID_GREY,
            "range_mm": limit,
            "formula": f"mm = (value - {MID_GREY}) / 32767 * {limit:g}",
        },
        "normal.png": {
            "space": "tangent",
            "green": "OpenGL (+Y up)",
            "formula": "n = value / 255 * 2 - 1",
            "encoding": "linear",
        },
        "displacement_preview.png": {"content": "displacement in colour, for people; the scale is in the picture"},
        "deformation_preview.png": {"content": "deformation in colour, for people; the scale is in the picture"},
    }
