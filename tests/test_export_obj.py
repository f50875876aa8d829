"""OBJ files: speed, exact round trip, seams and vertex order kept, foreign forms read, bad files refused."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fitter.errors import InputError
from fitter.obj import ObjMaterial, ObjMesh, decimals_for, format_mtl, format_obj, read_obj, write_obj


def _grid(side: int) -> ObjMesh:
    y, x = np.mgrid[0:side, 0:side]
    vertices = np.stack([x, y, np.sin(x * 0.1) * np.cos(y * 0.1)], -1).reshape(-1, 3).astype(float)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + side + 1], -1),
            np.stack([corner, corner + side + 1, corner + side], -1),
        ]
    )
    uv = vertices[:, :2] / side
    return ObjMesh(vertices, triangles, uv, triangles, vertices * 0 + [0, 0, 1], triangles)


def test_large_mesh_is_written_quickly_and_read_back(tmp_path):
    mesh = _grid(257)
    assert len(mesh.triangles) > 130_000
    start = time.process_time()
    data = format_obj(mesh)
    assert time.process_time() - start < 1.5
    (tmp_path / "grid.obj").write_bytes(data)
    back = read_obj(tmp_path / "grid.obj")
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=5.1e-7)
    np.testing.assert_array_equal(back.triangles, mesh.triangles)
    np.testing.assert_array_equal(back.uv_triangles, mesh.uv_triangles)
    np.testing.assert_array_equal(back.normal_triangles, mesh.normal_triangles)


def test_seams_materials_and_unreferenced_vertices_survive(tmp_path):
    vertices = np.arange(15.0).reshape(5, 3)
    mesh = ObjMesh(
        vertices,
        np.array([[0, 1, 2], [2, 1, 3]]),
        np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.5], [1, 1.0]]),
        np.array([[0, 1, 2], [3, 1, 4]]),
        materials=("skin", "eyes"),
        material_of=np.array([0, 1]),
    )
    write_obj(tmp_path / "m.obj", mesh, material_library="m.mtl", comment="two\nlines")
    back = read_obj(tmp_path / "m.obj")
    assert len(back.vertices) == 5
    np.testing.assert_array_equal(back.uv_triangles, mesh.uv_triangles)
    assert back.materials == ("skin", "eyes") and back.material_of.tolist() == [0, 1]
    text = (tmp_path / "m.obj").read_text()
    assert text.startswith("# two\n# lines\nmtllib m.mtl\nv 0.000000 1.000000 2.000000\n")
    assert "usemtl eyes\nf 3/4 2/2 4/5\n" in text


def test_bytes_are_deterministic_and_have_no_negative_zero():
    mesh = ObjMesh(np.array([[-1e-9, 0, 0], [1, 0, 0], [0, 1, -0.0]]), np.array([[0, 1, 2]]))
    assert format_obj(mesh) == format_obj(mesh)
    assert b"-0.000000" not in format_obj(mesh)


def test_foreign_forms(tmp_path):
    path = tmp_path / "foreign.obj"
    path.write_text(
        "# quad, relative indices, colours\r\nv 0 0 0 1 0 0\r\nv 1 0 0 1 0 0\nv 1 1 0 1 0 0\nv 0 1 0 1 0 0\n"
        "vn 0 0 1\nvt 0 0 0\nf 1//1 2//1 3//1 4//1\nf -4/1 -3/-1 -1/1\nf 1 2 3\n"
    )
    mesh = read_obj(path)
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    np.testing.assert_array_equal(mesh.uv_triangles, [[-1] * 3, [-1] * 3, [0] * 3, [-1] * 3])
    np.testing.assert_array_equal(mesh.normal_triangles[0], [0, 0, 0])
    assert mesh.vertices.shape == (4, 3) and mesh.uv.shape == (1, 2)


@pytest.mark.parametrize("text", ["", "v 0 0 0\n", "v 0 0 0\nf 1 2 3\n", "v 0 0 x\nf 1 1 1\n", "v 0 0 0\nf 1 -2 1\n"])
def test_bad_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_obj(path)
    assert "bad.obj" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.obj"):
        read_obj(tmp_path / "absent.obj")


def test_mtl_and_decimals():
    text = format_mtl((ObjMaterial("skin", texture="texture.png"), ObjMaterial("eyes", (0.8, 0.8, 0.8)))).decode()
    assert "newmtl skin" in text and "map_Kd texture.png" in text and "Kd 0.800000 0.800000 0.800000" in text
    assert [decimals_for(unit) for unit in (0.5, 1, 10, 1000)] == [6, 6, 6, 7]
