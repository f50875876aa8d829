"""Scans from files: formats, units, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from fitter.capture.scan.load import load_scan
from fitter.capture.scan.quality import _residual_variance, estimate_noise, median_edge
from fitter.capture.scan.read import find_unit, read_mesh
from fitter.capture.scan.reduce import reduce_mesh
from fitter.errors import InputError
from fitter.mesh_edges import boundary_vertices, edge_table
from tests.scan_meshes import (
    canonical,
    face_height,
    face_sheet,
    grid_triangles,
    joined,
    obj_bytes,
    ply_bytes,
    sphere,
    stl_bytes,
)

FACE = np.round(face_sheet()[0], 2), face_sheet()[1]
WRITERS = {
    "binary.ply": lambda v, t: ply_bytes(v, t),
    "big.ply": lambda v, t: ply_bytes(v, t, order=">"),
    "text.ply": lambda v, t: ply_bytes(v, t, text=True),
    "binary.stl": lambda v, t: stl_bytes(v, t),
    "text.stl": lambda v, t: stl_bytes(v, t, text=True),
    "mesh.obj": obj_bytes,
}


def _written(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_format_gives_the_same_surface(tmp_path, name):
    scan = load_scan(_written(tmp_path / name, WRITERS[name](*FACE)))
    assert scan.vertices.shape == FACE[0].shape and scan.triangles.dtype == np.int64
    assert (scan.name, scan.path, scan.unit, scan.mm_per_unit) == (name.split(".")[0], tmp_path / name, "mm", 1.0)
    assert scan.landmarks is None
    np.testing.assert_allclose(canonical(scan.vertices, scan.triangles), canonical(*FACE), atol=2e-3)
    assert scan.edge_mm == pytest.approx(median_edge(*FACE), abs=1e-4)
    assert not [line for line in scan.warnings if "coarse" not in line]


@pytest.mark.parametrize("suffix", ["glb", "gltf"])
def test_scenes_are_joined_with_their_transforms(tmp_path, suffix):
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0])
    shift = trimesh.transformations.translation_matrix([0.2, 0.3, 0.1])
    scene.add_geometry(trimesh.Trimesh(FACE[0] / 1000, FACE[1], process=False), transform=shift @ turn)
    if suffix == "glb":
        scene.export(tmp_path / "scan.glb")
    else:
        for name, content in trimesh.exchange.gltf.export_gltf(scene).items():
            (tmp_path / name.replace("model.gltf", "scan.gltf")).write_bytes(content)
    scan = load_scan(tmp_path / f"scan.{suffix}")
    assert scan.unit == "m" and scan.mm_per_unit == 1000.0
    x, y, z = FACE[0].T
    expected = np.stack([z + 200, y + 300, 100 - x], -1)
    np.testing.assert_allclose(scan.vertices, expected, atol=1e-3)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("cm", 10.0), ("m", 1000.0)])
def test_units_are_found_and_said(tmp_path, unit, mm):
    path = _written(tmp_path / "scan.stl", stl_bytes(FACE[0] / mm, FACE[1]))
    scan = load_scan(path)
    assert (scan.unit, scan.mm_per_unit) == (unit, mm)
    assert np.ptp(scan.vertices, axis=0).max() == pytest.approx(np.ptp(FACE[0], axis=0).max(), rel=1e-5)
    assert len(scan.vertices) == len(FACE[0])  # an STL file's corners are joined whatever the unit
    said = [line for line in scan.warnings if "--unit" in line]
    assert len(said) == (unit != "mm") and all(f"to be {unit}" in line for line in said)
    assert not any("--unit" in line for line in load_scan(path, unit=unit).warnings)


def test_a_given_unit_is_believed_within_reason(tmp_path):
    path = _written(tmp_path / "scan.ply", ply_bytes(*FACE))
    assert load_scan(path, unit="cm").vertices.max() == pytest.approx(10 * FACE[0].max(), rel=1e-5)
    with pytest.raises(InputError, match="--unit"):
        load_scan(path, unit="m")
    with pytest.raises(InputError, match="inch"):
        load_scan(path, unit="inch")


@pytest.mark.parametrize(
    ("extent", "unit"),
    [
        (0.079, None),
        (0.081, "m"),
        (1.59, "m"),
        (1.7, None),
        (7.9, None),
        (8.1, "cm"),
        (79, "cm"),
        (81, "mm"),
        (1590, "mm"),
        (1610, None),
    ],
)
def test_limits_of_the_units(extent, unit):
    points = np.array([[0, 0, 0], [extent, 0, 0], [0, extent / 2, 0]], float)
    if unit is None:
        with pytest.raises(InputError, match="--unit"):
            find_unit("scan.ply", points)
    else:
        assert find_unit("scan.ply", points).name == unit


def test_vertices_that_nothing_uses_do_not_count(tmp_path):
    stray = np.concatenate([FACE[0], [[9000.0, 0, 0], [np.nan, 0, 0]]])
    scan = load_scan(_written(tmp_path / "scan.ply", ply_bytes(stray, FACE[1])))
    assert scan.unit == "mm" and len(scan.vertices) == len(FACE[0])


def test_coordinates_that_are_not_finite(tmp_path):
    vertices = FACE[0].copy()
    vertices[::97] = np.nan
    vertices[5] = np.inf
    scan = load_scan(_written(tmp_path / "scan.ply", ply_bytes(vertices, FACE[1])))
    bad = (~np.isfinite(vertices).all(1))[FACE[1]].any(1).sum()
    assert np.isfinite(scan.vertices).all() and len(scan.triangles) == len(FACE[1]) - bad
    assert any(f"{bad} triangles" in line and "finite" in line for line in scan.warnings)
    vertices[::2] = np.nan
    with pytest.raises(InputError, match="finite"):
        load_scan(_written(tmp_path / "scan.ply", ply_bytes(vertices, FACE[1])))


def _picture() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
    return buffer.getvalue()


PLY, STL = ply_bytes(*FACE), stl_bytes(*FACE)
GLB = trimesh.Trimesh(*FACE, process=False).export(file_type="glb")
BAD = {
    "empty.ply": (b"", "an empty file"),
    "empty.obj": (b"", "an empty file"),
    "photo.ply": (_picture(), "a picture"),
    "photo.stl": (_picture(), "a picture"),
    "photo.obj": (_picture(), "a picture"),
    "text.ply": (b"nothing of use", "no PLY"),
    "head.ply": (PLY[:100], "truncated"),
    "cut.ply": (PLY[: len(PLY) * 2 // 3], "truncated"),
    "one_byte.ply": (PLY[:-1], "truncated"),
    "lines.ply": (ply_bytes(*FACE, text=True)[:-5000], "truncated"),
    "cut.stl": (STL[: len(STL) // 2], "truncated"),
    "one_byte.stl": (STL[:-1], "truncated"),
    "short.stl": (STL[:50], "truncated"),
    "text.stl": (stl_bytes(*FACE, text=True)[:-3000], "truncated"),
    "cut.glb": (GLB[:-100], "truncated"),
    "other.glb": (PLY, "no binary glTF"),
    "none.gltf": (b"{}", "cannot be read|points without triangles"),
    "prose.obj": (b"no mesh at all\n", "cannot be understood"),
    "points.ply": (ply_bytes(FACE[0], np.zeros((0, 3), int)), "points without triangles"),
    "points.obj": (obj_bytes(FACE[0], np.zeros((0, 3), int)), "points without triangles"),
    "none.stl": (stl_bytes(FACE[0], np.zeros((0, 3), int)), "points without triangles"),
    "beyond.ply": (ply_bytes(FACE[0][:50], FACE[1]), "not there"),
    "scan.xyz": (b"1 2 3\n", "suffix"),
    "one.stl": (stl_bytes(FACE[0] * 100, FACE[1][:1]), "1 triangles.*so few"),
    "few.stl": (stl_bytes(*sphere(rows=8, columns=8)), "so few"),
    "point.ply": (ply_bytes(FACE[0] * 0 + 7, FACE[1]), "without extent"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_cannot_be_used_is_refused_with_one_clear_line(tmp_path, name):
    content, found = BAD[name]
    with pytest.raises(InputError, match=found) as caught:
        load_scan(_written(tmp_path / name, content))
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    assert caught.value.expected


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "absent.ply", tmp_path):
        with pytest.raises(InputError, match=r"no such file|suffix"):
            load_scan(path)


def test_uncleaned(tmp_path):
    speck = sphere(2.0, 6, 8, (0, 0, 130.0))
    path = _written(tmp_path / "scan.stl", stl_bytes(*joined(FACE, speck)))
    raw, cleaned = load_scan(path, clean=False), load_scan(path)
    assert len(raw.triangles) == len(FACE[1]) + len(speck[1]) and len(raw.vertices) == len(FACE[0]) + len(speck[0])
    assert len(cleaned.triangles) == len(FACE[1])
    assert any("isolated" in line for line in cleaned.warnings) and not any("isolated" in x for x in raw.warnings)
    mesh = read_mesh(path)
    assert len(mesh.vertices) == 3 * len(mesh.triangles)


def test_landmarks_beside_the_scan_and_given_ones(tmp_path):
    path = _written(tmp_path / "scan.ply", ply_bytes(FACE[0] / 10, FACE[1]))
    points = FACE[0][:: len(FACE[0]) // 68][:68]
    (tmp_path / "scan.json").write_text(json.dumps((points / 10).tolist()))
    scan = load_scan(path)
    np.testing.assert_allclose(scan.landmarks.points, points)
    assert scan.landmarks.source == "scan.json" and any("scan.json" in line for line in scan.warnings)
    np.savetxt(tmp_path / "other.txt", (points[17:] + 1) / 10)
    given = load_scan(path, landmarks=tmp_path / "other.txt")
    assert given.landmarks.indices.tolist() == list(range(17, 68))
    assert not any("beside" in line for line in given.warnings)
    np.savetxt(tmp_path / "other.txt", points)
    with pytest.raises(InputError, match="off the scan"):
        load_scan(path, landmarks=tmp_path / "other.txt")


@pytest.mark.parametrize("edge", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_noise_is_measured(edge, noise):
    mesh = face_sheet(edge, half=60.0 if edge > 0.5 else 40.0, noise=noise)
    assert estimate_noise(*mesh) == pytest.approx(noise, rel=0.08, abs=0.03)


def test_quadrics_leave_what_least_squares_leaves():
    points = np.random.default_rng(4).normal(size=(3, 16, 3)) * [5.0, 4.0, 0.5] + 100.0
    left = _residual_variance(points)
    for cloud, found in zip(points, left, strict=True):
        centred = cloud - cloud.mean(0)
        x, y, height = (centred @ np.linalg.svd(centred)[2].T).T
        basis = np.stack([np.ones(16), x, y, x * x, x * y, y * y], 1)
        expected = np.linalg.lstsq(basis, height, rcond=None)[1][0] / 10
        assert found == pytest.approx(expected, rel=1e-6)
    line = np.arange(16.0)[:, None] * [1.0, 2.0, 3.0]
    assert _residual_variance(line[None]) == pytest.approx(0.0, abs=1e-9)


def test_noise_does_not_depend_on_place_or_direction():
    vertices, triangles = face_sheet(1.0, half=40.0, noise=0.2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    assert estimate_noise(vertices @ turn + 500.0, triangles) == pytest.approx(estimate_noise(vertices, triangles))


def test_a_coarse_clean_face_is_not_noisy(tmp_path):
    mesh = face_sheet(6.0)
    assert estimate_noise(*mesh) == 0.0
    scan = load_scan(_written(tmp_path / "scan.stl", stl_bytes(*mesh)))
    assert scan.noise_mm == 0.0 and any("coarse" in line for line in scan.warnings)
    assert estimate_noise(np.zeros((3, 3)), np.array([[0, 1, 2]])) == 0.0
    assert median_edge(np.zeros((0, 3)), np.zeros((0, 3), int)) == 0.0


def test_a_noisy_scan_is_said_to_be(tmp_path):
    scan = load_scan(_written(tmp_path / "scan.ply", ply_bytes(*face_sheet(1.0, half=50.0, noise=0.3))))
    assert scan.noise_mm == pytest.approx(0.3, rel=0.08) and any("noisy" in line for line in scan.warnings)


@pytest.mark.parametrize("ratio", [1.45, 2.0, 4.0])
def test_thinned_scans_have_the_edges_asked_for_and_lie_on_the_surface(ratio):
    vertices, triangles = face_sheet(0.8, half=50.0)
    asked = ratio * median_edge(vertices, triangles)
    thin, faces = reduce_mesh(vertices, triangles, asked, many=1000)
    assert len(faces) < len(triangles) / (0.6 * ratio**1.5)
    assert 0.75 * asked <= median_edge(thin, faces) <= asked
    # Still one sheet, wound as before, on the surface but for the sagitta of a place's vertices.
    edges = edge_table(faces, len(thin))
    assert edges.uses.max() == 2 and (edges.agrees == (edges.uses == 2)).all()
    cross = np.cross(thin[faces[:, 1]] - thin[faces[:, 0]], thin[faces[:, 2]] - thin[faces[:, 0]])
    assert (cross[:, 2] > 0).mean() > 0.999
    rim = boundary_vertices(faces, len(thin))
    assert np.abs(thin[rim][:, :2]).max(1).min() > 50.0 - asked
    off = thin[:, 2] - face_height(thin[:, 0], thin[:, 1])
    assert np.median(np.abs(off)) < 0.02 * asked**2 and np.abs(off).max() < 0.2 * asked**2 + 0.05


def test_scans_that_are_no_finer_than_asked_stay():
    mesh = face_sheet(1.0, half=30.0)
    assert reduce_mesh(*mesh, edge_mm=0.35, many=10)[0] is mesh[0]
    assert reduce_mesh(*mesh, edge_mm=5.0)[0] is mesh[0]


def test_thinning_joins_no_sheets_that_touch():
    ticks = np.linspace(-20, 20, 61)
    x, y = np.meshgrid(ticks, ticks)
    flat = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    sheet = grid_triangles(61, 61)
    vertices, triangles = joined((flat, sheet), (flat + np.array([0, 0, 0.05]), sheet[:, ::-1]))
    thin, faces = reduce_mesh(vertices, triangles, edge_mm=2.0, many=10)
    assert len(faces) < len(triangles) / 4
    assert set(np.round(thin[:, 2], 9)) == {0.0, 0.05}
    assert (np.ptp(thin[faces][..., 2], axis=1) < 1e-9).all()


def test_a_fine_scan_is_thinned_when_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("fitter.capture.scan.load.reduce_mesh", lambda v, t, edge: reduce_mesh(v, t, edge, many=1000))
    mesh = face_sheet(1.0, half=45.0)
    scan = load_scan(_written(tmp_path / "scan.ply", ply_bytes(*mesh)), edge_mm=3.0)
    assert median_edge(scan.vertices, scan.triangles) <= 3.0 < 3 * scan.edge_mm
    assert scan.edge_mm == pytest.approx(median_edge(*mesh), abs=1e-4)
    assert any("thinned" in line for line in scan.warnings)
