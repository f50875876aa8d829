"""`hrn compare` from folder and scan to table, files and pictures; wherever the fit lies; and its bad input."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from fitter.cli.compare import compare_command, remarks
from fitter.compare import picture
from fitter.compare.align import Similarity, rotation_from_vector
from fitter.compare.run import compare_fit, load_fit
from fitter.compare.scan import load_scan, load_scan_landmarks
from fitter.errors import InputError
from fitter.export import error_mesh
from fitter.export.folder import write_result
from tests.factories import toy_result

FAR = Similarity(1.0, rotation_from_vector(np.array([0.4, 2.2, -0.9])), np.array([250.0, -90, 400]))


@pytest.fixture(scope="module")
def result():
    """A toy fit whose M1 is 0.5 mm behind the scan (its own dense mesh) everywhere."""
    result = toy_result(mm_per_unit=10.0)
    shift = 0.5 * result.world_from_model[:3, 2] / np.linalg.norm(result.world_from_model[:3, 2])
    return dataclasses.replace(result, vertices_m1=result.vertices_m1 - shift)


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    write_result(result, folder, report=False)
    return folder


def _write_scan(path, result, pose=None, mm_per_unit=1.0):
    pose = pose or Similarity.identity()
    mesh = trimesh.Trimesh(pose(result.dense.vertices) / mm_per_unit, result.dense.triangles, process=False)
    mesh.export(path)
    return path


def _landmarks(result, pose):
    """The scan's landmarks: on the unshifted M1, a millimetre off, as picked ones are."""
    exact = result.model.landmarks(torch.from_numpy(result.vertices_m1)).numpy()
    return pose(exact + np.sin(np.arange(204.0)).reshape(68, 3))


def test_in_place(result, folder, tmp_path):
    comparison = compare_fit(load_fit(folder), load_scan(_write_scan(tmp_path / "scan.ply", result)))
    assert comparison.start == "in place" and comparison.metric and remarks(comparison) == []
    m2, m1 = comparison.get("M2", "raw").score, comparison.get("M1", "raw").score
    # OBJ coordinates have 6 decimals in centimetres, PLY ones 32 bits.
    assert m2.median < 1e-4 and m2.normal_median < 0.1 and m2.within_1mm == 1.0
    assert 0.2 < m1.median < 0.6
    assert comparison.get("M1", "rigid").score.median < m1.median
    assert len(comparison.measurements) == 9
    near = np.linalg.norm(comparison.scan.vertices[comparison.points] - comparison.frame.nose_tip, axis=1)
    assert near.max() <= 80.0
    assert comparison.frame.forward @ result.world_from_model[:3, 2] > 1.04


@pytest.mark.parametrize(("given", "start"), [(True, "landmarks"), (False, "search")])
def test_a_fit_that_lies_elsewhere_is_found(result, folder, tmp_path, given, start):
    scan = load_scan(_write_scan(tmp_path / "scan.ply", result, FAR))
    comparison = compare_fit(load_fit(folder), scan, scan_landmarks=_landmarks(result, FAR) if given else None)
    assert comparison.start == start and comparison.get("M2", "raw").score.median > 20
    for alignment in ("rigid", "similarity"):
        entry = comparison.get("M2", alignment)
        assert entry.score.median < 2e-3 and entry.score.normal_median < 0.2
        np.testing.assert_allclose(entry.pose(result.dense.vertices), FAR(result.dense.vertices), atol=2e-2)
    assert any("do" in line and start in line for line in remarks(comparison))


def test_similarity_finds_the_scale(result, folder, tmp_path):
    larger = Similarity(1.08, np.eye(3), np.array([3.0, 2.0, -4.0]))
    scan = load_scan(_write_scan(tmp_path / "scan.ply", result, larger, mm_per_unit=1000.0), "m")
    comparison = compare_fit(load_fit(folder), scan, radius=70.0)
    assert comparison.get("M2", "similarity").pose.scale == pytest.approx(1.08, abs=1e-3)
    assert comparison.get("M2", "similarity").score.median < 0.02 < comparison.get("M2", "rigid").score.median


def test_levels_that_are_not_there_are_left_out(result, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "fit")
    (tmp_path / "fit" / "dense.obj").unlink()
    comparison = compare_fit(load_fit(tmp_path / "fit"), load_scan(_write_scan(tmp_path / "scan.ply", result)))
    assert {entry.level for entry in comparison.measurements} == {"M0", "M1"}


def test_command_prints_and_writes(result, folder, tmp_path, capsys):
    scan = _write_scan(tmp_path / "scan.ply", result, mm_per_unit=10.0)
    compare_command(folder, scan, unit="cm", out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "M2" in printed and "similarity" in printed and "error.png" in printed and "0.000" in printed
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert record["levels"]["M1"]["raw"]["median"] > 0.2 and record["radius_mm"] == 80.0
    mesh = trimesh.load(tmp_path / "out" / "error.ply", process=False)
    assert len(mesh.vertices) == record["vertices"] and mesh.visual.kind == "vertex"
    assert np.ptp(mesh.vertices, axis=0).max() < 20  # in the scan's unit, centimetres
    image = np.asarray(Image.open(tmp_path / "out" / "error.png"))
    assert image.shape[1] == 3 * picture.SIDE and image.std() > 10


def test_same_input_same_files(result, folder, tmp_path):
    scan = load_scan(_write_scan(tmp_path / "scan.ply", result))
    for name in ("a", "b"):
        picture.write_comparison(compare_fit(load_fit(folder), scan), tmp_path / name)
    for name in ("compare.json", "error.ply", "error.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_large_errors_are_red_and_small_ones_pale():
    pale, red = error_mesh.error_colours(np.array([0.0, 1.0]), 1.0)
    assert pale.min() > 0.9 and red[0] > 2 * red[1]
    assert error_mesh.error_limit(np.array([0.1] * 50)) == 0.5 and error_mesh.error_limit(np.array([500.0])) == 50.0


def test_landmark_files(tmp_path):
    points = np.arange(204.0).reshape(68, 3)
    np.savetxt(tmp_path / "a.txt", points)
    np.savetxt(tmp_path / "b.csv", points, delimiter=",")
    np.save(tmp_path / "c.npy", points)
    (tmp_path / "d.json").write_text(json.dumps(points.tolist()))
    for name in ("a.txt", "b.csv", "c.npy", "d.json"):
        np.testing.assert_allclose(load_scan_landmarks(tmp_path / name, "cm"), 10 * points)
    (tmp_path / "e.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "f.json").write_text("{")
    for name in ("e.txt", "f.json", "absent.txt"):
        with pytest.raises(InputError, match=name):
            load_scan_landmarks(tmp_path / name)


def test_bad_scans(result, tmp_path):
    (tmp_path / "noise.ply").write_bytes(b"nothing of use")
    trimesh.PointCloud(result.dense.vertices).export(tmp_path / "points.ply")
    for name in ("noise.ply", "points.ply", "absent.ply"):
        with pytest.raises(InputError, match=name):
            load_scan(tmp_path / name)
    path = _write_scan(tmp_path / "scan.ply", result)
    with pytest.raises(InputError, match="--unit"):
        load_scan(path, "m")
    with pytest.raises(InputError, match="inch"):
        load_scan(path, "inch")


def test_bad_fits(folder, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_fit(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"fit\.json"):
        load_fit(tmp_path)
    shutil.copytree(folder, tmp_path / "fit")
    (tmp_path / "fit" / "face.obj").unlink()
    with pytest.raises(InputError, match=r"face\.obj"):
        load_fit(tmp_path / "fit")
    (tmp_path / "fit" / "fit.json").write_text("{}")
    with pytest.raises(InputError, match=r"fit\.json"):
        load_fit(tmp_path / "fit")


def test_a_crop_without_a_face_and_a_bad_radius(result, folder, tmp_path):
    path = _write_scan(tmp_path / "scan.ply", result)
    with pytest.raises(InputError, match="radius"):
        compare_fit(load_fit(folder), load_scan(path), radius=0.5)
    with pytest.raises(InputError, match="--radius"):
        compare_command(folder, path, radius=-1.0)


def test_output_that_cannot_be_written(result, folder, tmp_path, monkeypatch):
    comparison = compare_fit(load_fit(folder), load_scan(_write_scan(tmp_path / "scan.ply", result)))

    def failing(path, data):
        raise OSError(errno.ENOSPC, "simulated")

    monkeypatch.setattr(picture, "write_bytes", failing)
    with pytest.raises(InputError, match="no space left"):
        picture.write_comparison(comparison, tmp_path / "out")
