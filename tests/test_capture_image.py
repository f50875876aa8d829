"""Reading photographs: depth, orientation, alpha, colour profile, focal length."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from fitter.capture.image import read_image
from fitter.errors import InputError
from tests.capture_inputs import picture, write_picture


def deep_picture(channels: int = 3) -> np.ndarray:
    """[80, 120, C] uint16 whose low bytes matter."""
    return np.random.default_rng(1).integers(0, 65536, (80, 120, channels), dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_8_bit_is_exact(tmp_path, suffix):
    photo = read_image(write_picture(tmp_path / f"a.{suffix}"))
    assert photo.image.dtype == np.float32
    np.testing.assert_array_equal(np.rint(photo.image * 255), picture())
    assert photo.image[3, 5, 1] == np.float32(picture()[3, 5, 1]) / np.float32(255)


def test_jpeg_is_what_pillow_decodes(tmp_path):
    path = write_picture(tmp_path / "a.jpg", quality=95)
    with Image.open(path) as opened:
        expected = np.asarray(opened)
    np.testing.assert_array_equal(np.rint(read_image(path).image * 255), expected)


def test_16_bit_png_keeps_every_bit(tmp_path):
    deep = deep_picture()
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    np.testing.assert_array_equal(np.rint(read_image(tmp_path / "a.png").image.astype(np.float64) * 65535), deep)


@pytest.mark.parametrize("options", [{}, {"compression": "deflate", "predictor": True}, {"planarconfig": "separate"}])
def test_16_bit_tiff_keeps_every_bit(tmp_path, options):
    deep = deep_picture()
    stored = deep.transpose(2, 0, 1) if "planarconfig" in options else deep
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    np.testing.assert_array_equal(np.rint(read_image(tmp_path / "a.tif").image.astype(np.float64) * 65535), deep)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_becomes_rgb(tmp_path, suffix):
    grey = deep_picture(1)[..., 0]
    if suffix == "png":
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(grey))
    else:
        tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack")
    image = read_image(tmp_path / f"a.{suffix}").image.astype(np.float64)
    for channel in range(3):
        np.testing.assert_array_equal(np.rint(image[..., channel] * 65535), grey)


def test_inverted_grey_tiff(tmp_path):
    grey = deep_picture(1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite")
    image = read_image(tmp_path / "a.tif").image[..., 0].astype(np.float64)
    np.testing.assert_array_equal(np.rint(image * 65535), 65535 - grey.astype(int))


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_is_taken_off_and_kept_as_mask(tmp_path, depth):
    limit = (1 << depth) - 1
    pixels = np.full((80, 120, 4), limit // 3, dtype=np.uint8 if depth == 8 else np.uint16)
    pixels[..., 3] = 0
    pixels[20:60, 30:90, 3] = limit
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    photo = read_image(tmp_path / "a.png")
    assert photo.image.shape == (80, 120, 3)
    np.testing.assert_array_equal(photo.alpha, (pixels[..., 3] > 0).astype(np.float32))


def test_alpha_that_says_nothing_is_no_mask(tmp_path):
    Image.fromarray(picture()).convert("RGBA").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").alpha is None


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    Image.fromarray(picture()).convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(np.rint(read_image(tmp_path / "a.png").image * 255), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "deep.png"])
def test_orientation_as_pillow_turns_it(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, picture(), photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        write_picture(path, exif=exif)
    with Image.open(path) as opened:
        assert opened.getexif()[0x0112] == orientation
        expected = np.asarray(ImageOps.exif_transpose(opened))
    if suffix == "deep.png":  # the 16-bit reader with the same tag
        chunk = _exif_chunk(path.read_bytes())
        deep = imagecodecs.png_encode(picture().astype(np.uint16) * 257)
        path.write_bytes(deep[:33] + chunk + deep[33:])
    photo = read_image(path)
    np.testing.assert_array_equal(np.rint(photo.image * 255), expected)
    assert photo.orientation == orientation
    assert photo.stored_size == (80, 120)


def _exif_chunk(data: bytes) -> bytes:
    """The whole eXIf chunk of a PNG (length, name, data, checksum)."""
    start = data.index(b"eXIf") - 4
    return data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]


def write_with_exif(path, tags: dict[int, object], height: int, width: int):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    return write_picture(path, height, width, exif=exif)


def test_focal_from_35_mm_equivalent(tmp_path):
    # A 3:2 picture: 50 mm before a 36 mm wide frame is 50 / 36 of the width.
    path = write_with_exif(tmp_path / "a.jpg", {0xA405: 50}, 80, 120)
    assert read_image(path).focal_guess == pytest.approx(50 / 36 * 120)


def test_focal_does_not_change_when_the_photograph_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 50
    photo = read_image(write_picture(tmp_path / "a.jpg", exif=exif))
    assert photo.size == (120, 80)
    assert photo.focal_guess == pytest.approx(50 / 36 * 120)


def test_focal_from_pixel_density(tmp_path):
    # 10 mm at 2540 px per inch = 100 px per mm on 240 x 160 px; the file was halved since: 500 px.
    tags = {0x920A: 10.0, 0xA20E: 2540.0, 0xA210: 2, 0xA002: 240, 0xA003: 160}
    assert read_image(write_with_exif(tmp_path / "a.jpg", tags, 80, 120)).focal_guess == pytest.approx(500)


def test_focal_is_unknown_without_tags_or_after_a_crop(tmp_path):
    assert read_image(write_picture(tmp_path / "a.jpg")).focal_guess is None
    cropped = write_with_exif(tmp_path / "b.jpg", {0xA405: 50, 0xA002: 4000, 0xA003: 3000}, 80, 120)
    assert read_image(cropped).focal_guess is None
    assert read_image(write_with_exif(tmp_path / "c.jpg", {0xA405: 0}, 80, 120)).focal_guess is None


def test_colour_profile_is_applied(tmp_path):
    """A profile with the red and blue primaries exchanged turns red into blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {}
    for index in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * index
        places[bytes(profile[entry : entry + 4])] = entry
    red, blue = places[b"rXYZ"] + 4, places[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    swapped = bytes(profile).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=swapped)
    photo = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(photo.image[10, 10] * 255, [0, 0, 200], atol=2)
    assert "Swap" in photo.notes[0]


def test_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=profile)
    photo = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(photo.image * 255), picture())
    assert photo.notes == ()


def test_float_tiff_in_range_and_out_of_range(tmp_path):
    values = np.linspace(0, 1, 80 * 120 * 3, dtype=np.float32).reshape(80, 120, 3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").image, values)
    tifffile.imwrite(tmp_path / "b.tif", values * 10, photometric="rgb")
    with pytest.raises(InputError, match="outside"):
        read_image(tmp_path / "b.tif")


def test_truncated_files_are_refused(tmp_path):
    for suffix in ("jpg", "png", "tif"):
        whole = io.BytesIO()
        Image.fromarray(picture()).save(whole, format={"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}[suffix])
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        with pytest.raises(InputError, match=r"a\..*damaged.*expected a readable JPEG, PNG or TIFF"):
            read_image(path)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep_picture())[:20000])
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "deep.png")
