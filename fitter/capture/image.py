"""Photographs from JPEG, PNG and TIFF: upright, 8 and 16 bit without loss, RGB, with a focal length from EXIF."""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings as python_warnings
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from fitter.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
FOREIGN_SUFFIXES = (".heic", ".heif", ".webp", ".bmp", ".gif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf")
"""Photograph formats that are not read; a session says so instead of ignoring them silently."""
MIN_SIDE = 64
"""Shortest side, px, of a photograph that a face can be fitted to."""

_MOST_PIXELS = 500_000_000
_FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
_EXIF_IFD = 0x8769
_ORIENTATION, _FOCAL_MM, _FOCAL_35MM = 0x0112, 0x920A, 0xA405
_PLANE_RESOLUTION_X, _PLANE_RESOLUTION_UNIT = 0xA20E, 0xA210
_STORED_WIDTH, _STORED_HEIGHT = 0xA002, 0xA003
_MM_PER_RESOLUTION_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@dataclass(frozen=True)
class Photograph:
    """One photograph as read from disk, upright."""

    image: np.ndarray
    """[H, W, 3] float32, sRGB-encoded, in [0, 1]."""
    alpha: np.ndarray | None
    """[H, W] float32 in [0, 1] where the file has a transparency that says something, else None."""
    focal_guess: float | None
    """Focal length from EXIF, px, or None."""
    orientation: int
    """EXIF orientation 1-8 that was applied."""
    notes: tuple[str, ...] = ()
    """Plain sentences for the report."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image, px."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) as stored in the file, before the EXIF rotation, px."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def read_image(path: str | Path, *, min_side: int = MIN_SIDE) -> Photograph:
    """Read a photograph.

    Args:
        path: A JPEG, PNG or TIFF file; recognised by its content.
        min_side: Shortest side, px, that is accepted.

    Returns:
        The upright photograph; samples are the file's integers divided by their largest value.

    Raises:
        InputError: The file is missing, empty, corrupt, of another format, or smaller than `min_side`.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            pixels, exif, notes = _decode_tiff(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10":
            pixels, exif, notes = _decode_png16(data)
        else:
            pixels, exif, notes = _decode_pillow(data)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "a file that is not an image") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise their own types for damaged files
        raise _unreadable(path, f"a damaged image ({error})") from error
    if min(pixels.shape[:2]) < min_side:
        raise InputError(
            path,
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels",
            f"at least {min_side} on each side",
            "Give the photograph in its full size.",
        )
    focal = _focal_from_exif(exif, pixels.shape[0], pixels.shape[1])
    orientation = _integer(exif.get(_ORIENTATION), 1)
    orientation = orientation if orientation in range(1, 9) else 1
    upright = apply_orientation(pixels, orientation)
    colour = upright[..., :3] if upright.shape[2] >= 3 else np.repeat(upright[..., :1], 3, axis=2)
    return Photograph(
        image=np.ascontiguousarray(colour, dtype=np.float32),
        alpha=_telling_alpha(upright),
        focal_guess=focal,
        orientation=orientation,
        notes=tuple(notes),
    )


def apply_orientation(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an [H, W, ...] array as the EXIF orientation (1-8) asks."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _unreadable(path: Path, found: str) -> InputError:
    return InputError(path, found, "a readable JPEG, PNG or TIFF photograph", "Export or copy the file again.")


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(path, "no such file", "a JPEG, PNG or TIFF photograph", "Check the path.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"a file that cannot be read ({error.strerror})", "a readable photograph") from error
    if not data:
        raise _unreadable(path, "an empty file (0 bytes)")
    return data


def _check_claim(width: int, height: int) -> None:
    """Refuse a size that only a damaged header claims, before memory is asked for it."""
    if width * height > _MOST_PIXELS:
        raise ValueError(f"a header that claims {width} x {height} pixels")


def _as_unit_float(samples: np.ndarray, largest: int | None = None) -> np.ndarray:
    """[H, W, C] float32 in [0, 1] from integer or float samples; integers keep every bit (24-bit mantissa)."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.dtype == np.bool_:
        return samples.astype(np.float32)
    if np.issubdtype(samples.dtype, np.floating):
        if not np.isfinite(samples).all():
            raise ValueError("samples are not finite numbers")
        if samples.max() > 1.0 + 1e-3 or samples.min() < -1e-3:
            raise ValueError("floating-point samples outside [0, 1]")
        return samples.clip(0, 1).astype(np.float32)
    if samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"samples of type {samples.dtype}; 8 and 16 bit are read")
    return samples.astype(np.float32) / np.float32(largest or np.iinfo(samples.dtype).max)


def _telling_alpha(pixels: np.ndarray) -> np.ndarray | None:
    """The alpha channel, unless it says the same everywhere."""
    if pixels.shape[2] not in (2, 4):
        return None
    alpha = pixels[..., -1]
    return None if alpha.min() == alpha.max() else np.ascontiguousarray(alpha, dtype=np.float32)


def _decode_pillow(data: bytes) -> tuple[np.ndarray, Image.Exif, list[str]]:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # Pillow warns about odd EXIF and large files; both are fine here
        with Image.open(io.BytesIO(data)) as opened:
            if opened.format not in ("JPEG", "MPO", "PNG"):
                raise UnidentifiedImageError(opened.format)
            exif = opened.getexif()
            opened.load()
            profile = opened.info.get("icc_profile")
            transparent = opened.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in opened.info
            alpha = opened.convert("RGBA").getchannel("A") if transparent else None
            colour, notes = _to_srgb(opened, profile)
    pixels = _as_unit_float(np.asarray(colour))
    if alpha is not None:
        pixels = np.concatenate([pixels, _as_unit_float(np.asarray(alpha))], axis=2)
    return pixels, exif, notes


def _to_srgb(opened: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """RGB in sRGB; phones write Display P3, whose reds would come out dull if its numbers were taken for sRGB."""
    if not profile or opened.mode not in ("RGB", "RGBA", "CMYK"):
        return opened.convert("RGB"), []
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        description = ImageCms.getProfileDescription(source).strip()
        if "srgb" in description.lower():
            return opened.convert("RGB"), []
        base = opened if opened.mode == "CMYK" else opened.convert("RGB")
        converted = ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted, [f"colours were converted from the profile '{description}' to sRGB"]
    except (ImageCms.PyCMSError, OSError, ValueError):
        return opened.convert("RGB"), ["the colour profile cannot be read; colours were taken as sRGB"]


def _profile_note(profile: bytes | None) -> list[str]:
    """Say so where a 16-bit file carries a profile that is not applied."""
    if not profile:
        return []
    try:
        description = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return ["the colour profile cannot be read; colours were taken as sRGB"]
    if "srgb" in description.lower():
        return []
    return [f"the colour profile '{description}' was not applied; export 16-bit files in sRGB"]


def _decode_png16(data: bytes) -> tuple[np.ndarray, Image.Exif, list[str]]:
    """16-bit PNG; Pillow would silently give 8 bits."""
    _check_claim(*struct.unpack(">II", data[16:24]))
    samples = imagecodecs.png_decode(data)
    with Image.open(io.BytesIO(data)) as opened:
        exif, profile = opened.getexif(), opened.info.get("icc_profile")
    return _as_unit_float(samples), exif, _profile_note(profile)


def _decode_tiff(data: bytes) -> tuple[np.ndarray, Image.Exif, list[str]]:
    """First page of a TIFF, at its own depth."""
    # tifffile logs each damaged tag as an error; what matters of it is raised, and told in one line.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        _check_claim(page.imagewidth, page.imagelength)
        samples = page.asarray()
        if page.axes.startswith("S") and samples.ndim == 3:
            samples = samples.transpose(1, 2, 0)
        if samples.ndim not in (2, 3):
            raise ValueError(f"samples with axes {page.axes}")
        photometric = page.photometric.name
        if photometric == "PALETTE":
            pixels = _as_unit_float(page.colormap.T[samples])
        elif photometric in ("RGB", "MINISBLACK", "MINISWHITE", "YCBCR"):
            largest = (1 << page.bitspersample) - 1 if samples.dtype.kind == "u" else None
            pixels = _as_unit_float(samples, largest)
        else:
            raise ValueError(f"colour model {photometric}; RGB and grey are read")
        if photometric == "MINISWHITE":
            pixels[..., 0] = 1 - pixels[..., 0]
        expected = 3 if pixels.shape[2] >= 3 else 1
        pixels = pixels[..., : expected + (1 if page.extrasamples else 0)]
        notes = _profile_note(page.iccprofile)
    return pixels, _exif_of_tiff(data), notes


def _exif_of_tiff(data: bytes) -> Image.Exif:
    """The tags of a TIFF's first page; EXIF data *is* a TIFF, so Pillow's reader serves. BigTIFF has none it reads."""
    exif = Image.Exif()
    try:
        exif.load(data)
    except (SyntaxError, struct.error, ValueError, OSError):
        return Image.Exif()
    return exif


def _integer(value: object, default: int) -> int:
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, ZeroDivisionError):
        return default


def _positive(value: object) -> float | None:
    """A finite positive number, or None; EXIF writers leave zeros and 0/0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _focal_from_exif(exif: Image.Exif, height: int, width: int) -> float | None:
    """Focal length, px, from the 35 mm equivalent (by the diagonal, CIPA DCG-001) or the sensor's pixel density.

    Args:
        exif: Tags of the file.
        height: Stored height, px.
        width: Stored width, px.

    Returns:
        Pixels, or None where the tags do not say or the picture was cropped to another shape since.
    """
    try:
        tags = exif.get_ifd(_EXIF_IFD)
    except (SyntaxError, struct.error, ValueError, OSError, KeyError):
        return None
    original_width = _positive(tags.get(_STORED_WIDTH))
    original_height = _positive(tags.get(_STORED_HEIGHT))
    if original_width and original_height:
        shape, original = width / height, original_width / original_height
        if min(abs(shape / original - 1), abs(shape * original - 1)) > 0.02:
            return None
    equivalent = _positive(tags.get(_FOCAL_35MM))
    if equivalent:
        return equivalent * math.hypot(height, width) / _FULL_FRAME_DIAGONAL
    focal_mm, density = _positive(tags.get(_FOCAL_MM)), _positive(tags.get(_PLANE_RESOLUTION_X))
    mm_per_unit = _MM_PER_RESOLUTION_UNIT.get(_integer(tags.get(_PLANE_RESOLUTION_UNIT), 2))
    if focal_mm and density and mm_per_unit:
        stored = max(original_width or 0.0, original_height or 0.0)
        scale = max(height, width) / stored if stored else 1.0
        return focal_mm * density / mm_per_unit * scale
    return None
