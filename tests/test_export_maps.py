"""Maps: EXR round trip, orientation, 16-bit displacement, normal and colour coding, previews, equal bytes."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from fitter.errors import InputError
from fitter.export import maps
from fitter.export.colour import diverging, round_limit, srgb_decode, srgb_encode
from tests.factories import toy_result


@pytest.fixture(scope="module")
def result():
    return toy_result()


@pytest.fixture(scope="module")
def written(result):
    return maps.map_files(result)


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_exr_round_trip_is_exact_and_flipped(result, written, tmp_path):
    (tmp_path / "d.exr").write_bytes(written.files["deformation.exr"])
    channels = maps.read_exr(tmp_path / "d.exr")
    assert set(channels) == {"R", "G", "B"}
    for name, axis in zip("RGB", result.deformation_map, strict=True):
        assert channels[name].dtype == np.float32
        np.testing.assert_array_equal(channels[name], axis[::-1])
    (tmp_path / "y.exr").write_bytes(written.files["displacement.exr"])
    np.testing.assert_array_equal(maps.read_exr(tmp_path / "y.exr")["Y"], result.displacement_map[::-1])


def test_exr_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.exr").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"x\.exr"):
        maps.read_exr(tmp_path / "x.exr")


def test_displacement_png_has_mid_grey_zero(result, written):
    grey = _pixels(written.files["displacement.png"])
    assert grey.dtype == np.uint16
    limit = written.record["displacement.png"]["range_mm"]
    assert limit >= np.abs(result.displacement_map).max()
    assert (grey[::-1][result.displacement_map == 0] == 32768).all()
    np.testing.assert_allclose(maps.displacement_from_png(grey, limit), result.displacement_map, atol=limit / 65000)


def test_all_zero_displacement():
    data, limit = maps.displacement_png(np.zeros((4, 4), np.float32))
    assert limit > 0 and (_pixels(data) == 32768).all()


def test_normal_map_is_opengl_green(written):
    up = np.zeros((2, 2, 3))
    up[0] = (0, np.sqrt(0.5), np.sqrt(0.5))
    up[1] = (0, 0, 1)
    pixels = _pixels(maps.normal_png(up))
    # Row 0 in memory is the bottom row of the file; leaning along +v is greener than flat.
    assert pixels[1, 0, 1] > 200 and pixels[0, 0].tolist() == [128, 128, 255]
    assert "OpenGL" in written.record["normal.png"]["green"]


def test_colours_are_srgb(result, written):
    expected = srgb_encode(result.texture[::-1]) * 255
    np.testing.assert_allclose(_pixels(written.files["texture.png"]), expected, atol=0.5 + 1e-6)
    import imagecodecs

    deep = imagecodecs.png_decode(maps.colour_png(result.texture, bits=16))
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep, srgb_encode(result.texture[::-1]) * 65535, atol=0.5 + 1e-2)
    line = np.linspace(0, 1, 50)
    np.testing.assert_allclose(srgb_decode(srgb_encode(line)), line, atol=1e-12)


def test_previews_show_sign_and_scale(written):
    assert diverging(np.array([0.0]), 1.0)[0].min() > 0.95
    red, blue = diverging(np.array([1.0, -1.0]), 1.0)
    assert red[0] > red[2] and blue[2] > blue[0]
    assert _pixels(written.files["displacement_preview.png"]).shape[0] > maps.PREVIEW_SIZE
    assert _pixels(written.files["deformation_preview.png"]).shape[1] > 3 * maps.PREVIEW_SIZE


@pytest.mark.parametrize(("largest", "limit"), [(0.3, 0.5), (0.5, 0.5), (1.01, 2.0), (0.0, 0.01), (7.0, 10.0)])
def test_round_limit(largest, limit):
    assert round_limit(np.array([-largest, 0.0])) == limit


def test_same_input_same_bytes(result, written):
    assert maps.map_files(result).files == written.files


def test_every_file_is_described(written):
    assert set(written.files) <= set(written.record)


def test_textures_of_single_views_carry_their_weight_as_alpha(result, written):
    view = result.views[1]
    pixels = _pixels(written.files["views/front_realigned.png"])
    assert pixels.shape == (*view.realigned_weight.shape, 4)
    np.testing.assert_array_equal(pixels[::-1, :, 3], np.round(view.realigned_weight * 255))
    np.testing.assert_allclose(srgb_decode(pixels[::-1, :, :3] / 255.0), view.realigned, atol=0.005)
    assert "M0" in written.record["views/front_texture.png"]["content"]


def test_views_without_textures_have_no_files(result):
    bare = dataclasses.replace(result, views=tuple(dataclasses.replace(v, texture=None) for v in result.views))
    found = maps.map_files(bare)
    assert not [name for name in (*found.files, *found.record) if name.startswith("views/")]
