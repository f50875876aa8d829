"""`hrn scan` from the outside: a generated scan in any pose and in metres, alone and with photographs; bad scans."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import igl
import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from fitter.capture.scan_session import load_scan_session
from fitter.cli.main import run
from fitter.export.folder import is_complete
from fitter.obj import read_obj
from fitter.result.checkpoint import NAME
from tests.recovery_scene import as_scanned, known_face, write_session
from tests.scan_meshes import ply_bytes, sphere

CONFIGURATION = """name: tiny
maps: {deformation: 32, displacement: 64, texture: 64, dense_levels: 0}
stages:
  - {name: start, solver: initialise}
  - name: m0
    solver: gauss_newton
    free: [head_pose, identity]
    energies:
      scan: {gate: [15, 6], least_cosine: 0.5, sigma: [4.0, 1.5], points: 2000}
      scan_landmark: {weight: 0.01, sigma_mm: 2.0}
      identity_prior: {weight: 0.01, sigma: 1.0}
    steps: 5
  - name: m1
    solver: gauss_newton
    free: [deformation]
    energies:
      scan: {gate: [8, 3], least_cosine: 0.6, sigma: [2.0, 0.5], points: 4000, point_share: 0.05}
      smoothness: {bilaplacian: [3.0, 0.03], laplacian: 0.0, magnitude: 0.01, tangential: 0.0}
    steps: 4
  - {name: m2, solver: ray_cast, free: [displacement], energies: {smoothness: {noise: 400.0}}}
  - {name: light, solver: closed_form, views: some, free: [lighting, albedo]}
"""
MESHES = {"m0.obj", "face.obj", "face.mtl", "dense.obj", "face.glb"}
MAPS = {
    "deformation.exr", "deformation_preview.png", "displacement.exr", "displacement.png", "displacement_preview.png",
    "normal.png", "texture.png", "albedo.png", "confidence.png", "confidence.exr", "valid.png",
}  # fmt: skip
RECORDS = {"coefficients.json", "fit.json", "landmarks3d.json", "maps.json", "timings.json", "report.html"}
SCAN = {"scan_error.ply", "scan_error.png"}
PHOTOGRAPHS = {"cameras.json", "transforms.json", "coverage.png"}


def pose() -> np.ndarray:
    """[4, 4] somewhere else, turned anyhow."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=8).as_matrix()
    matrix[:3, 3] = (210.0, -330.0, 120.0)
    return matrix


def moved(points: np.ndarray) -> np.ndarray:
    return points @ pose()[:3, :3].T + pose()[:3, 3]


@pytest.fixture(scope="module")
def known(open_model):
    """A generated person before two cameras."""
    return known_face(open_model, size=200, yaws=(-20.0, 20.0))


@pytest.fixture(scope="module")
def surface(known, open_model):
    return as_scanned(known, open_model)


@pytest.fixture(scope="module")
def inputs(known, surface, tmp_path_factory) -> Path:
    """A folder with scan.ply (posed, in metres), its landmarks, photographs and a quick configuration."""
    folder = tmp_path_factory.mktemp("inputs")
    vertices, triangles, landmarks = surface
    (folder / "scan.ply").write_bytes(ply_bytes(moved(vertices) / 1000, triangles))
    (folder / "scan.json").write_text(json.dumps((moved(landmarks) / 1000).tolist()))
    (folder / "tiny.yaml").write_text(CONFIGURATION)
    write_session(known, folder / "photographs")
    (folder / "rig.ply").write_bytes(ply_bytes(vertices, triangles))
    return folder


def fit(inputs: Path, out: Path, *more: str, scan: str | Path = "scan.ply") -> int:
    """Run `hrn scan` on one of the folder's scans."""
    return run(["scan", str(inputs / scan), "--config", str(inputs / "tiny.yaml"), "--out", str(out), *more])


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results") / "alone"
    assert fit(inputs, out, "--landmarks", "none") == 0
    return out


@pytest.fixture(scope="module")
def both(inputs, tmp_path_factory) -> Path:
    """A scan with its photographs."""
    out = tmp_path_factory.mktemp("results") / "both"
    assert fit(inputs, out, "--photographs", str(inputs / "photographs"), scan="rig.ply") == 0
    return out


def one_line(capsys) -> str:
    """The only line on standard error, which is no traceback."""
    text = capsys.readouterr().err.strip()
    lines = [line for line in text.splitlines() if line.startswith("hrn")]
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text("utf-8"))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def page(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def test_a_scan_leaves_a_whole_folder(finished):
    assert is_complete(finished)
    expected = MESHES | MAPS | RECORDS | SCAN
    assert files(finished) == expected | {"done.json", "run.json", "configuration.yaml"}
    assert set(read(finished, "done.json")["files"]) == expected
    record = read(finished, "fit.json")
    assert record["metric"] and record["reference_view"] is None and record["views"] == []
    scan = record["scan"]
    assert scan["landmarks"] is None and scan["alignment"]["method"] == "search" and scan["alignment"]["certain"]
    assert scan["valid_share"]["face"] > 0.8
    medians = [scan["levels"][level]["skin"]["median_mm"] for level in ("M0", "M1", "M2")]
    assert medians[0] > 3 * medians[1] and medians[2] < 0.05


def test_meshes_of_a_scan_in_metres_are_in_metres_and_lie_on_it(finished, surface):
    record = read(finished, "fit.json")
    assert record["unit"] == "m" and record["mm_per_unit"] == 1000.0
    tip = moved(surface[2][30:31]) / 1000
    face = read_obj(finished / "face.obj")
    points = moved(surface[0]) / 1000
    near = np.linalg.norm(points - tip, axis=1) < 0.06
    squared = igl.point_mesh_squared_distance(points[near], face.vertices, face.triangles)[0]
    assert np.median(np.sqrt(squared)) < 2e-4
    landmarks = np.array(read(finished, "landmarks3d.json")["m1"])
    assert np.linalg.norm(landmarks[30] - tip[0]) < 0.005


def test_the_error_mesh_holds_true_distances_where_the_scan_is(finished, surface):
    raw = trimesh.load(finished / "scan_error.ply", process=False)
    vertices = raw.metadata["_ply_raw"]["vertex"]["data"]
    found = np.asarray(vertices["distance"], np.float64).ravel()
    dense = read_obj(finished / "dense.obj")
    squared = igl.point_mesh_squared_distance(np.asarray(raw.vertices, np.float64), dense.vertices, dense.triangles)[0]
    # Coordinates in metres: single precision in the PLY, 9 decimals in the OBJ.
    np.testing.assert_allclose(found, 1000 * np.sqrt(squared), atol=2e-3)
    assert cKDTree(moved(surface[0]) / 1000).query(raw.vertices)[0].max() < 1e-6
    assert raw.visual.kind == "vertex" and len(raw.faces) > 0.9 * len(surface[1])
    counted = np.asarray(vertices["counted"]).ravel().astype(bool)
    away = np.linalg.norm(raw.vertices - moved(surface[2][30:31]) / 1000, axis=1)
    assert counted.any() and away[counted].max() < 0.085 and not counted[away > 0.085].any()


def test_maps_say_what_they_are(finished):
    record = read(finished, "maps.json")
    valid = np.asarray(Image.open(finished / "valid.png"))
    assert valid.shape == (64, 64) and set(np.unique(valid)) == {0, 255}
    assert record["valid.png"]["values"]["255"] == "measured on the scan"
    np.testing.assert_array_equal(np.asarray(Image.open(finished / "confidence.png")), valid)
    assert "coverage.png" not in record and "no photograph" in record["texture.png"]["content"]
    assert Image.open(finished / "scan_error.png").size[0] == 1200


def test_the_report_speaks_of_the_scan_only(finished):
    text = page(finished)
    for words in (
        "scan.ply",
        "triangles once cleaned",
        "found by its shape alone",
        "M2: and displacement, front",
        "without eyes, nostrils, inside of the mouth",
        "none: whether lips",
        "Grey was measured on the scan",
        "scan_error.ply",
        "there was no photograph",
    ):
        assert words in text, words
    for words in ("0 photographs", "Each photograph", "Coverage", "colour of the photographs", "half-transparent"):
        assert words not in text, words


def test_landmarks_beside_the_scan_are_used_unless_told_otherwise(inputs, tmp_path):
    out = tmp_path / "out"
    assert fit(inputs, out) == 0
    scan = read(out, "fit.json")["scan"]
    assert scan["alignment"]["method"] == "landmarks" and scan["landmarks"]["M1"]["median_mm"] < 3.0
    text = page(out)
    assert "of scan.json" in text and "mm at worst" in text and "none: whether" not in text


def test_a_rerun_says_that_it_is_done_and_another_fit_is_refused(inputs, finished, capsys):
    before = (finished / "face.obj").stat().st_mtime_ns
    assert fit(inputs, finished, "--landmarks", "none") == 0
    assert "already" in capsys.readouterr().out
    assert fit(inputs, finished) == 2
    assert "another fit" in one_line(capsys)
    assert (finished / "face.obj").stat().st_mtime_ns == before and is_complete(finished)


def test_an_interrupted_scan_goes_on_and_ends_alike(inputs, finished, tmp_path, capsys, monkeypatch):
    from fitter.cli import progress

    step = progress.FitProgress.step

    def interrupt(self, stage, *rest):
        if stage == "m1":
            raise KeyboardInterrupt
        step(self, stage, *rest)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(progress.FitProgress, "step", interrupt)
        assert fit(inputs, out, "--landmarks", "none", "--no-report") == 130
    assert "Run the same command again" in one_line(capsys)
    assert (out / NAME).is_file() and not is_complete(out)
    again = []
    with monkeypatch.context() as patch:
        patch.setattr(progress.FitProgress, "step", lambda self, stage, *rest: again.append(stage))
        assert fit(inputs, out, "--landmarks", "none", "--no-report") == 0
    assert "m0" not in again and "m1" in again
    for name in ("scan_error.ply", "face.obj", "dense.obj", "valid.png", "fit.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


def test_the_unit_is_the_scans_where_photographs_have_no_cameras(inputs):
    session = load_scan_session(inputs / "rig.ply", inputs / "photographs", cameras="none", unit="mm")
    assert not session.calibrated and session.scan.unit == "mm"
    assert not any("--unit" in line for line in session.warnings)


def test_photographs_and_scan_give_both_kinds_of_sections(both):
    names = {f"views/view{view}_{kind}.png" for view in (0, 1) for kind in ("texture", "realigned")}
    expected = MESHES | MAPS | RECORDS | SCAN | PHOTOGRAPHS | names
    assert set(read(both, "done.json")["files"]) == expected and is_complete(both)
    text = page(both)
    for words in (
        "rig.ply",
        "2 photographs, taken at one instant",
        "Each photograph",
        "carried over from the photographs",
        "Photographs gave no shape",
        "Coverage",
        "scan_error.ply",
        "Texture of “view",
    ):
        assert words in text, words
    assert "there was no photograph" not in text
    scan = read(both, "fit.json")["scan"]
    assert scan["landmarks"]["M1"]["median_mm"] < 4.0
    # The scan alone carries the shape, so nothing else is certain.
    valid, confidence = (np.asarray(Image.open(both / name)) for name in ("valid.png", "confidence.png"))
    np.testing.assert_array_equal(valid, confidence)


@pytest.mark.parametrize(("result", "scan", "unit"), [("finished", "scan.ply", "m"), ("both", "rig.ply", "mm")])
def test_a_scans_result_can_be_compared(inputs, result, scan, unit, tmp_path, request):
    folder = request.getfixturevalue(result)
    assert run(["compare", str(folder), str(inputs / scan), "--unit", unit, "--out", str(tmp_path)]) in (0, None)
    record = read(tmp_path, "compare.json")
    assert record["alignment_started_from"] == "in place" and record["levels"]["M2"]["raw"]["median"] < 0.05


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(buffer, "PNG")
    return buffer.getvalue()


def _bad(name: str, surface) -> bytes:
    vertices, triangles, _ = surface
    whole = ply_bytes(moved(vertices), triangles)
    return {
        "empty": lambda: b"",
        "truncated": lambda: whole[: len(whole) // 2],
        "picture": _picture,
        "triangle": lambda: ply_bytes(100 * np.eye(3), np.array([[0, 1, 2]])),
        "nothing": lambda: ply_bytes(np.full_like(vertices, np.nan), triangles),
        "cube": lambda: _cube(),
    }[name]()


def _cube() -> bytes:
    solid = trimesh.creation.box([150.0] * 3).subdivide().subdivide().subdivide()
    return ply_bytes(np.asarray(solid.vertices), np.asarray(solid.faces))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("picture", "picture"),
        ("triangle", "so few"),
        ("nothing", "finite"),
        ("cube", "resembles a face"),
    ],
)
def test_what_is_no_scan_of_a_face_is_refused_in_one_line(inputs, surface, tmp_path, capsys, name, words):
    path = tmp_path / f"{name}.ply"
    path.write_bytes(_bad(name, surface))
    assert fit(inputs, tmp_path / "out", scan=path) == 2
    line = one_line(capsys)
    assert words in line and (name in line or "scan" in line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("unit", "words"), [("mm", "--unit"), ("cm", "--unit")])
def test_the_wrong_unit_is_refused(inputs, tmp_path, capsys, unit, words):
    assert fit(inputs, tmp_path / "out", "--unit", unit, "--landmarks", "none") == 2
    assert words in one_line(capsys) and not (tmp_path / "out").exists()


def _odd(name: str, surface) -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles, landmarks = surface
    if name == "inside out":
        return moved(vertices), triangles[:, ::-1]
    if name == "holes":
        vertices = moved(vertices)
        vertices[::53] = np.nan
        return vertices, triangles
    if name == "half":
        return moved(vertices), triangles[(vertices[triangles][..., 0] > landmarks[30, 0] - 4.0).all(1)]
    return sphere(80.0, 60, 90)


@pytest.mark.parametrize(
    ("name", "words"),
    [("inside out", ""), ("holes", "finite"), ("half", ""), ("sphere", "not certain|resembles a face")],
)
def test_odd_scans_are_fitted_with_an_honest_word_or_refused(inputs, surface, tmp_path, capsys, name, words):
    path = tmp_path / "odd.ply"
    path.write_bytes(ply_bytes(*_odd(name, surface)))
    code = fit(inputs, tmp_path / "out", "--no-report", scan=path)
    printed = capsys.readouterr()
    assert re.search(words, printed.out + printed.err) and "Traceback" not in printed.err
    assert code == 0 or (name == "sphere" and code == 2)
    if code:
        return
    scan = read(tmp_path / "out", "fit.json")["scan"]
    if name != "sphere":
        assert scan["levels"]["M1"]["skin"]["median_mm"] < 0.3 and scan["levels"]["M1"]["skin"]["count"] > 300
    if name == "half":
        assert scan["valid_share"]["face"] < 0.75


def test_a_configuration_without_a_scan_is_refused(inputs, tmp_path, capsys):
    assert run(["scan", str(inputs / "scan.ply"), "--config", "draft", "--out", str(tmp_path / "out")]) == 2
    assert "no stage that fits a scan" in one_line(capsys)
    assert not (tmp_path / "out").exists()
