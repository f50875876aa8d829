"""report.html and its pictures: complete, self-contained, honest, escaped, the same bytes twice."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from fitter.export.folder import is_complete, write_result
from fitter.export.report import build_report, clay, pictures
from fitter.mesh_normals import vertex_normals
from tests.factories import toy_camera, toy_result

IMAGE = re.compile(r'src="data:image/jpeg;base64,([^"]+)"')


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Small pictures keep these tests short; nothing in them depends on the size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "STUDIO_SIZE", 120)
        patch.setattr(pictures, "picture_size", lambda count: 96)
        yield


@pytest.fixture(scope="module")
def result():
    return toy_result()


@pytest.fixture(scope="module")
def page(result):
    return build_report(result).decode("utf-8")


def _square() -> tuple[np.ndarray, np.ndarray]:
    """A square of 100 mm facing +z, counter-clockwise."""
    return np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])


def test_studio_camera_sees_what_it_should():
    vertices, triangles = _square()
    subject = clay.figure(vertices, triangles, vertex_normals(vertices, triangles))
    camera = clay.studio_camera(np.zeros(3), np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), 0.0, 200.0, 64)
    picture = clay.draw(subject, camera)
    # 100 of 200 mm: the middle half in both directions.
    assert picture.coverage[16:48, 16:48].min() == 1 and picture.coverage.sum() == pytest.approx(32 * 32, abs=2)
    turned = clay.studio_camera(np.zeros(3), np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), 60.0, 200.0, 64)
    assert turned.centre[0] > 0  # to the subject's left, which is +x
    assert clay.draw(subject, turned).coverage.sum() == pytest.approx(16 * 32, rel=0.1)


def test_picture_is_upright_and_not_mirrored():
    vertices, triangles = _square()
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.0]])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    texture = colours[[[0, 1], [3, 2]]]  # row 0 is v = 0
    subject = clay.figure(vertices, triangles, vertex_normals(vertices, triangles), uv=uv, texture=texture)
    camera = clay.studio_camera(np.zeros(3), np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), 0.0, 100.0, 32)
    drawn = clay.draw(subject, camera).colour
    # +x is to the right of a camera that looks at +z, and v = 0 is at the bottom.
    np.testing.assert_allclose(drawn[31, 0], [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(drawn[31, 31], [0, 1, 0], atol=1e-3)
    np.testing.assert_allclose(drawn[0, 31], [0, 0, 1], atol=1e-3)


def test_light_falls_from_above_and_the_inside_is_dim():
    towards_camera = np.array([[0, 0, -1.0]])
    up, down = np.array([[0, -0.7, -0.7]]), np.array([[0, 0.7, -0.7]])
    ahead = np.array([[0, 0, 100.0]])
    assert clay.light(up, ahead).sum() > clay.light(towards_camera, ahead).sum() > clay.light(down, ahead).sum()
    assert clay.light(-towards_camera, ahead).sum() < 0.5 * clay.light(towards_camera, ahead).sum() + 1e-6


def test_sample_is_bilinear_with_texel_centres():
    texture = np.arange(4.0).reshape(2, 2, 1)
    np.testing.assert_allclose(
        clay.sample(texture, np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]))[:, 0], [0, 1, 2, 1.5]
    )


def test_overlay_lies_on_the_fit(result):
    studio = pictures.Studio(result)
    view, found = result.session.views[1], result.views[1]
    window = studio._window(found, 200)
    # Drawing in the window and projecting into it agree: the nose tip is covered, a place beside the head is not.
    drawn = clay.draw(studio.level(found.vertices_m1), window.camera(found))
    x, y = window.to_picture(found.landmarks_fitted)[30]
    assert drawn.coverage[int(y), int(x)] == 1 and drawn.coverage[2, 2] == 0
    row = studio.view(view, found, 200)
    for image in (row.photograph, row.overlay, row.m0, row.m1, row.m2):
        assert image.shape == (200, 200, 3) and image.dtype == np.uint8
    assert np.abs(row.m0.astype(int) - row.m1).max() > 5


def test_crop_over_the_edge_is_filled():
    image = np.zeros((10, 10, 3), np.float32)
    cropped = pictures.crop_photograph(image, pictures._Window(-10, -10, 20, 20))
    assert cropped[15, 15].max() == 0 and cropped[2, 2].min() > 100


def test_doubt_is_red_where_confidence_is_low(result):
    low = dataclasses.replace(result, confidence=np.zeros_like(result.confidence))
    high = dataclasses.replace(result, confidence=np.ones_like(result.confidence))
    red = pictures.Studio(low).doubt_turns()[1].astype(int)
    grey = pictures.Studio(high).doubt_turns()[1].astype(int)
    centre = slice(52, 68)
    assert (red[centre, centre, 0] - red[centre, centre, 2]).mean() > 60
    assert abs((grey[centre, centre, 0] - grey[centre, centre, 2]).mean()) < 25


def test_page_is_complete_and_self_contained(result, page):
    HTMLParser().feed(page)
    images = IMAGE.findall(page)
    # 6 of the face, 5 per view, 3 of doubt and a legend, 7 maps, T and T' and their weight.
    assert len(images) == 6 + 5 * len(result.views) + 3 + 1 + 7 + 3 == page.count("<img")
    for data in images[:3]:
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
    assert "http" not in page and "<script" not in page and len(page) < 8e6
    for text in (
        "left cheek",
        "blank.jpg",
        "zero bytes",
        "landmark px",
        "M2: and displacement",
        "prefers-color-scheme",
        "3.1 % of the eye",
        "by 3.1 of 255",
    ):
        assert text in page


def test_text_from_outside_is_escaped(result):
    session = dataclasses.replace(result.session, name="<b>&", skipped=(("<i>.jpg", "a & b"),))
    page = build_report(dataclasses.replace(result, session=session)).decode("utf-8")
    assert "<b>&<" not in page and "&lt;b&gt;&amp;" in page and "&lt;i&gt;.jpg" in page


def test_page_without_landmarks_maps_or_warnings(result):
    views = tuple(dataclasses.replace(view, landmarks=None) for view in result.session.views)
    found = tuple(dataclasses.replace(view, landmarks_fitted=None, landmark_error=None) for view in result.views)
    session = dataclasses.replace(result.session, views=views, kind="casual", skipped=(), unit=None)
    bare = dataclasses.replace(result, session=session, views=found, warnings=(), stages=(), metric=False)
    page = build_report(bare).decode("utf-8")
    assert "Nothing unusual" in page and "scale estimated" in page and "expression of “front”" in page


def test_same_bytes_and_no_durations(result, page):
    slower = tuple(dataclasses.replace(stage, seconds=99.0) for stage in result.stages)
    again = dataclasses.replace(result, stages=slower, timings={"M0": 98.0})
    assert build_report(again).decode("utf-8") == page


def test_folder_with_report(result, tmp_path):
    names = []
    write_result(result, tmp_path, progress=lambda name, fraction: names.append((name, fraction)))
    assert is_complete(tmp_path) and (tmp_path / "report.html").stat().st_size > 10_000
    assert names[-1] == ("done", 1.0) and [f for _, f in names] == sorted(f for _, f in names)


def test_camera_of_the_engine_and_clay_agree():
    """Clay goes through the same camera type as the fit: a point lands where `fitter.camera` projects it."""
    camera = toy_camera(0.3)
    small = np.array([[20.0, 10, 0], [21, 10, 0], [20, 11, 0]])
    drawn = clay.draw(clay.figure(small, np.array([[0, 1, 2]]), np.tile([0, 0, 1.0], (3, 1))), camera)
    cam = torch.from_numpy(small) @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    pixels = (cam @ camera.intrinsics.T).numpy()
    expected = (pixels[:, :2] / pixels[:, 2:]).mean(0)
    rows, columns = np.nonzero(drawn.coverage)
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], expected, atol=0.6)
