"""Files and report of a result with a scan, on the toy model: orientation, units, honest words, equal bytes."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import igl
import numpy as np
import pytest
import trimesh
from PIL import Image

from fitter.capture.types import Scan, ScanLandmarks
from fitter.export import error_mesh
from fitter.export.folder import is_complete, write_result
from fitter.export.records import face_valid_share, fit_record
from fitter.export.report import build_report, pictures, scan_pictures
from fitter.export.scan_files import scan_error_ply
from fitter.result.types import LevelResiduals, ScanOutcome
from tests.factories import toy_result

SCAN_FILES = {"valid.png", "scan_error.ply", "scan_error.png"}
PHOTOGRAPH_FILES = {"cameras.json", "transforms.json", "coverage.png"}


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Small pictures keep these tests short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "STUDIO_SIZE", 96)
        patch.setattr(pictures, "picture_size", lambda count: 64)
        patch.setattr(scan_pictures, "SIDE", 120)
        yield


def distances_to(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[P] mm, by libigl."""
    return np.sqrt(igl.point_mesh_squared_distance(points, vertices, triangles)[0])


def with_scan(result, *, photographs: bool = False, **changes):
    """The toy result, with its own dense mesh a little moved as the scan."""
    away = result.world_from_model[:3, 2] / np.linalg.norm(result.world_from_model[:3, 2])
    vertices, triangles = result.dense.vertices + 0.02 * away, result.dense.triangles
    model_triangles = result.model.triangles.numpy()
    distances = {
        "M0": distances_to(vertices, result.vertices_m0, model_triangles),
        "M1": distances_to(vertices, result.vertices_m1, model_triangles),
        "M2": distances_to(vertices, result.dense.vertices, triangles),
    }
    numbers = {
        level: LevelResiduals(900, float(np.median(d)), float(d.mean()), float(np.percentile(d, 90)), 2.0, 3.0)
        for level, d in distances.items()
    }
    valid = result.map_valid.copy()
    valid[len(valid) // 2 :] = False
    outcome = ScanOutcome(
        alignment={"method": "search", "score": 0.21, "runner_up": 0.44, "certain": True, "warnings": []},
        residuals={level: {"all": found, "skin": found} for level, found in numbers.items()},
        landmark_mm=None,
        as_marked=None,
        flipped_triangles=0,
        counted_triangles=400,
        noise_mm=0.05,
        edge_mm=1.2,
        valid=valid,
        vertices=vertices,
        triangles=triangles,
        counted=vertices[:, 1] > np.median(vertices[:, 1]),
        distances=distances,
    )
    scan = Scan("head", Path("head.ply"), vertices, triangles, "cm", 10.0, 0.05, 1.2)
    session = dataclasses.replace(result.session, scan=scan, skipped=())
    if not photographs:
        session = dataclasses.replace(session, views=())
        result = dataclasses.replace(result, views=(), reference_view=0, warnings=())
    outcome = dataclasses.replace(outcome, **changes)
    return dataclasses.replace(result, session=session, scan=outcome, confidence=valid.astype(np.float32))


@pytest.fixture(scope="module")
def result():
    return with_scan(toy_result(mm_per_unit=10.0))


@pytest.fixture(scope="module")
def written(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_result(result, folder)
    return folder


def page(result) -> str:
    return build_report(result).decode("utf-8")


def test_files_of_a_scan_are_vouched_for(written):
    names = set(json.loads((written / "done.json").read_text())["files"])
    assert SCAN_FILES <= names and not names & PHOTOGRAPH_FILES and is_complete(written)


def test_valid_is_upright(result, written):
    valid = np.asarray(Image.open(written / "valid.png"))
    np.testing.assert_array_equal(valid[::-1] == 255, result.scan.valid)
    assert (valid[0] == 0).all() and (valid[len(valid) * 3 // 4] == 255).any()


def test_the_error_mesh(result, written):
    mesh = trimesh.load(written / "scan_error.ply", process=False)
    np.testing.assert_allclose(mesh.vertices * 10.0, result.scan.vertices, atol=1e-4)
    np.testing.assert_array_equal(mesh.faces, result.scan.triangles)
    data = mesh.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.ravel(data["distance"]), result.scan.distances["M2"], atol=1e-6)
    np.testing.assert_array_equal(np.ravel(data["counted"]), result.scan.counted)
    header = (written / "scan_error.ply").read_bytes().split(b"end_header")[0].decode("ascii")
    assert "comment vertices in cm" in header and "mm, whatever the unit" in header


def test_the_error_picture_has_a_row_for_each_level_and_a_finer_one(result, written):
    studio = scan_pictures.ScanStudio(pictures.Studio(result))
    sheet = np.asarray(Image.open(written / "scan_error.png"))
    np.testing.assert_array_equal(sheet, studio.error_sheet)
    assert sheet.shape[1] == 360 and sheet.shape[0] > 4 * 120
    coarse = dataclasses.replace(
        result.scan, distances={level: d * 0 + 0.4 for level, d in result.scan.distances.items()}
    )
    plain = scan_pictures.ScanStudio(pictures.Studio(dataclasses.replace(result, scan=coarse))).error_sheet
    assert plain.shape[0] < sheet.shape[0] - 120


def test_red_is_far_and_grey_does_not_count(result):
    def row(distance: float, counted: bool) -> np.ndarray:
        outcome = result.scan
        changed = dataclasses.replace(
            outcome,
            distances={level: np.full_like(d, distance) for level, d in outcome.distances.items()},
            counted=np.full_like(outcome.counted, counted),
        )
        studio = scan_pictures.ScanStudio(pictures.Studio(dataclasses.replace(result, scan=changed)))
        return studio._error_row("M2", 0.5).astype(int)[50:70, 170:190]

    red, pale, grey = row(0.5, True), row(0.0, True), row(0.5, False)
    assert (red[..., 0] - red[..., 1]).mean() > 50
    assert np.ptp(pale.mean((0, 1))) < 25 and np.ptp(grey.mean((0, 1))) < 25 and pale.mean() > grey.mean() + 10


def test_limits_of_scales():
    assert error_mesh.error_limit(np.zeros(0)) == 50.0
    assert error_mesh.finest_limit(np.array([0.03] * 95 + [9.0] * 5)) == 0.05
    assert error_mesh.error_limit(np.array([0.03] * 95 + [9.0] * 5), error_mesh.FINE_LIMITS_MM) == 10.0


@pytest.mark.parametrize(
    ("alignment", "words"),
    [
        ({"certain": False}, ("by its shape alone", "not certain", "0.44")),
        ({"method": "in place"}, ("stood where the model stands", "0.21")),
        ({"method": "landmarks", "runner_up": float("nan")}, ("placed by landmarks", "most landmarks agree")),
        ({"method": "landmarks", "certain": False}, ("do not agree well",)),
    ],
)
def test_how_the_face_was_found_in_plain_words(result, alignment, words):
    outcome = dataclasses.replace(result.scan, alignment={**result.scan.alignment, **alignment})
    text = page(dataclasses.replace(result, scan=outcome))
    assert all(word in text for word in words), words
    assert not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", text))


def test_landmarks_folds_and_doubt_are_said(result):
    scan = dataclasses.replace(result.session.scan, landmarks=ScanLandmarks(np.zeros((3, 3)), np.arange(3), "a<b.pp"))
    outcome = dataclasses.replace(
        result.scan,
        landmark_mm={"M0": np.array([1.0, 2.0, 3.0]), "M1": np.array([0.5, 0.5, 4.0])},
        flipped_triangles=1,
        alignment={**result.scan.alignment, "method": "landmarks"},
    )
    changed = dataclasses.replace(result, scan=outcome, session=dataclasses.replace(result.session, scan=scan))
    text = page(changed)
    assert "3 of a&lt;b.pp" in text and "M1 0.50 mm median, 4.00 mm at worst" in text and "1 triangle of 400" in text
    assert fit_record(changed)["scan"]["landmarks"]["M0"]["points"] == 3


def test_a_scan_on_which_nothing_counts_still_gives_a_page(result):
    nan = float("nan")
    nothing = LevelResiduals(0, nan, nan, nan, nan, nan)
    outcome = dataclasses.replace(
        result.scan,
        residuals={level: {"all": nothing, "skin": nothing} for level in result.scan.residuals},
        counted=np.zeros_like(result.scan.counted),
        valid=np.zeros_like(result.scan.valid),
    )
    changed = dataclasses.replace(result, scan=outcome, confidence=np.zeros_like(result.confidence))
    text = page(changed)
    assert '<td class="number">–</td>' in text and "0 % of the face" in text
    assert scan_error_ply(changed) and face_valid_share(changed) == 0.0


def test_photographs_that_shape_the_surface_keep_their_scale_of_doubt():
    both = with_scan(toy_result(), photographs=True)
    text = page(both)
    assert "Photographs gave no shape" in text and "Coverage" in text and "Each photograph" in text
    half = dataclasses.replace(both, confidence=0.5 * both.confidence)
    text = page(half)
    assert "scan or the photographs" in text and "Photographs gave no shape" not in text and "Confidence" in text


def test_files_of_an_earlier_result_do_not_stay_behind(result, tmp_path):
    write_result(with_scan(toy_result(), photographs=True), tmp_path)
    assert all((tmp_path / name).is_file() for name in SCAN_FILES | PHOTOGRAPH_FILES | {"report.html"})
    write_result(toy_result(), tmp_path, report=False)
    assert not any((tmp_path / name).exists() for name in SCAN_FILES | {"report.html"})
    write_result(result, tmp_path, report=False)
    assert not any((tmp_path / name).exists() for name in PHOTOGRAPH_FILES) and is_complete(tmp_path)
    # Pictures of the error are drawn with the report only; the mesh is always there.
    assert (tmp_path / "scan_error.ply").is_file() and not (tmp_path / "scan_error.png").exists()


def test_the_same_bytes_twice(written, tmp_path):
    write_result(with_scan(toy_result(mm_per_unit=10.0)), tmp_path)
    for name in sorted(SCAN_FILES | {"report.html", "fit.json", "maps.json"}):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_pictures_of_the_page_are_whole(result):
    text = page(result)
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    # 3 of the face, 12 of scan and levels, the error sheet, 3 of doubt, 5 maps.
    assert len(images) == 3 + 12 + 1 + 3 + 5
    for data in images:
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
