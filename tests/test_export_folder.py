"""The result folder: complete, in the session's unit, the same bytes twice, nothing half-written when writing fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json

import numpy as np
import pytest

from fitter import atomic
from fitter.errors import InputError
from fitter.export import folder as folder_module
from fitter.export.folder import is_complete, write_result
from fitter.export.meshes import whole_head
from fitter.export.records import json_bytes
from fitter.obj import read_obj
from fitter.result.types import DenseMesh
from tests.factories import toy_result

EXPECTED = {
    "m0.obj", "face.obj", "face.mtl", "dense.obj", "face.glb", "texture.png", "albedo.png", "normal.png",
    "displacement.png", "displacement.exr", "deformation.exr", "coverage.png", "confidence.png", "confidence.exr",
    "displacement_preview.png", "deformation_preview.png",
    "maps.json", "cameras.json", "transforms.json", "coefficients.json", "landmarks3d.json",
    "fit.json", "timings.json",
    "views/left_texture.png", "views/left_realigned.png", "views/front_texture.png", "views/front_realigned.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return toy_result(mm_per_unit=10.0)


@pytest.fixture(scope="module")
def written(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "deep" / "out"
    write_result(result, folder, report=False)
    return folder


def _json(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_everything_is_there_and_vouched_for(written):
    there = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert there == EXPECTED | {"done.json"}
    files = _json(written, "done.json")["files"]
    assert set(files) == EXPECTED
    for name, checksum in files.items():
        if name != "timings.json":
            assert hashlib.sha256((written / name).read_bytes()).hexdigest() == checksum
    assert is_complete(written)


def test_meshes_are_in_session_units_with_the_models_topology(result, written):
    face = read_obj(written / "face.obj")
    np.testing.assert_allclose(face.vertices * 10.0, result.vertices_m1, atol=1e-5)
    np.testing.assert_array_equal(face.triangles, result.model.triangles)
    np.testing.assert_allclose(face.uv, result.model.atlas_uv, atol=1e-6)
    assert face.materials == ("face", "inner")
    coarse = read_obj(written / "m0.obj")
    np.testing.assert_allclose(coarse.vertices * 10.0, result.vertices_m0, atol=1e-5)
    np.testing.assert_allclose(coarse.uv, result.model.uv, atol=1e-6)
    dense = read_obj(written / "dense.obj")
    count, faces = len(result.dense.vertices), len(result.dense.triangles)
    np.testing.assert_allclose(dense.vertices[:count] * 10.0, result.dense.vertices, atol=1e-5)
    np.testing.assert_allclose(dense.normals[:count], result.dense.normals, atol=1e-6)
    np.testing.assert_array_equal(dense.uv_triangles[:faces], result.dense.triangles)
    # The eyes, which the dense mesh lacks, follow: two caps of nine vertices and eight triangles.
    assert len(dense.vertices) == count + 18 and len(dense.triangles) == faces + 16
    np.testing.assert_allclose(dense.vertices[count:] * 10.0, result.vertices_m1[-18:], atol=1e-5)
    assert (dense.material_of[:faces] == 0).all() and (dense.material_of[faces:] == 1).all()


def test_cameras_project_the_exported_mesh_where_the_fit_saw_it(result, written):
    landmarks = np.array(_json(written, "landmarks3d.json")["m1"])
    record = _json(written, "cameras.json")
    frames = _json(written, "transforms.json")["frames"]
    for view, camera, frame in zip(result.views, record["cameras"], frames, strict=True):
        matrix = np.array(camera["cam_from_world"])
        pixels = (landmarks @ matrix[:3, :3].T + matrix[:3, 3]) @ np.array(camera["intrinsics"]).T
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], view.landmarks_fitted, atol=1e-3)
        # nerfstudio: the camera looks along its -z, y up.
        local = np.linalg.inv(np.array(frame["transform_matrix"]))
        points = landmarks @ local[:3, :3].T + local[:3, 3]
        assert (points[:, 2] < 0).all()
        x = frame["cx"] + frame["fl_x"] * points[:, 0] / -points[:, 2]
        y = frame["cy"] - frame["fl_y"] * points[:, 1] / -points[:, 2]
        np.testing.assert_allclose(np.stack([x, y], -1), view.landmarks_fitted, atol=1e-3)
        assert frame["file_path"].endswith(".png")


def test_eyes_are_not_added_twice(result):
    head = whole_head(result)
    full = DenseMesh(head.vertices, head.normals, head.triangles, head.uv)
    assert len(whole_head(dataclasses.replace(result, dense=full)).triangles) == len(head.triangles)


def test_eyes_that_subdivision_smoothed_are_not_added_twice(result):
    head = whole_head(result)
    smoothed = head.vertices + 0.4 * np.sin(np.arange(head.vertices.size)).reshape(-1, 3)
    full = DenseMesh(smoothed, head.normals, head.triangles, head.uv)
    assert len(whole_head(dataclasses.replace(result, dense=full)).triangles) == len(head.triangles)


def test_fit_json(result, written):
    record = _json(written, "fit.json")
    assert record["seed"] == 7 and record["metric"] is True and record["unit"] == "cm" and record["mm_per_unit"] == 10.0
    assert record["stages"][0]["energies"]["landmark"] == {"before": 3.0, "after": 1.25}
    assert record["skipped"] == [{"file": "blank.jpg", "reason": "zero bytes"}]
    assert record["warnings"] == list(result.warnings)
    assert record["model"]["source"]["sha256"] == "0" * 64
    assert record["configuration"]["preset"] == "toy" and "torch" in record["packages"]
    assert "seconds" not in json.dumps(record) and "timings" not in record
    assert _json(written, "timings.json")["steps"]["M0"] == 0.5
    expression = _json(written, "coefficients.json")["views"]["front"]["expression"]
    assert expression["mouthSmileRight"] == 0.5


def test_unknown_unit_is_said(result, tmp_path):
    write_result(toy_result(mm_per_unit=123.4, metric=False), tmp_path, report=False)
    record = _json(tmp_path, "fit.json")
    assert record["metric"] is False and record["unit"] == "session" and record["mm_per_unit"] == 123.4
    face = read_obj(tmp_path / "face.obj")
    np.testing.assert_allclose(face.vertices * 123.4, result.vertices_m1, atol=1e-3)


def test_same_bytes_twice(result, written, tmp_path):
    write_result(toy_result(mm_per_unit=10.0), tmp_path, report=False)
    for name in EXPECTED - {"timings.json"}:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name
    assert (tmp_path / "done.json").read_bytes() == (written / "done.json").read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_failing_disk_leaves_nothing_half_written(result, tmp_path, monkeypatch, number):
    write_result(result, tmp_path, report=False)
    before = (tmp_path / "face.glb").read_bytes()

    def failing(path, data):
        if path.name == "face.glb":
            with atomic.atomic_path(path) as temporary:
                temporary.write_bytes(data[:100])
                raise OSError(number, "simulated")
        atomic.write_bytes(path, data)

    monkeypatch.setattr(folder_module, "write_bytes", failing)
    with pytest.raises(InputError, match=r"face\.glb") as caught:
        write_result(result, tmp_path, report=False)
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert (tmp_path / "face.glb").read_bytes() == before
    assert not list(tmp_path.glob(".*part*")) and not is_complete(tmp_path)


def test_folder_that_is_a_file(result, tmp_path):
    (tmp_path / "out").write_text("here already")
    with pytest.raises(InputError, match="out"):
        write_result(result, tmp_path / "out", report=False)
    assert (tmp_path / "out").read_text() == "here already"


def test_a_missing_file_is_not_complete(written, tmp_path):
    assert not is_complete(tmp_path)
    (tmp_path / "done.json").write_text('{"files": {"face.obj": "x"}}')
    assert not is_complete(tmp_path)


def test_numbers_that_are_not_finite_become_null(result):
    odd = dataclasses.replace(result, configuration={"x": float("nan"), "y": np.float32(1.5), "z": (np.arange(2),)})
    assert json.loads(json_bytes(odd.configuration)) == {"x": None, "y": 1.5, "z": [[0, 1]]}
