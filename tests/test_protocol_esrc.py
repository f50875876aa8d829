"""FG 2018, ESRC with two views and FaceScape with three, on generated copies of their layouts."""

from __future__ import annotations

import json
import shutil
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.protocols.run import run_protocol
from benchmarks.protocols.scan_to_mesh import order_misfits
from benchmarks.protocols.types import Options
from fitter.errors import InputError
from tests import naive_metrics as naive
from tests.protocol_data import SEVEN, Faces, save_mesh, save_points


@pytest.fixture(scope="module")
def faces(open_model):
    return Faces(open_model, 95.0)


def _lnd(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row} {x:.9f} {y:.9f} {z:.9f}\n" for row, (x, y, z) in enumerate(points, 1)))


def _turned(scale=1.0):
    turn = Rotation.from_rotvec([0.1, 0.5, -0.3]).as_matrix()
    return lambda vertices: scale * vertices @ turn.T + np.array([3.0, 70.0, -500.0])


@pytest.fixture(scope="module")
def esrc(faces, tmp_path_factory):
    """Two subjects, one written in lower case as the data set does; three images and two views each."""
    root = tmp_path_factory.mktemp("esrc")
    for seed, (scan, folder) in enumerate((("F1001_N", "F_3D_N"), ("m1002_N", "M_3D_N")), 1):
        vertices, triangles, marks = faces.face(seed)
        save_mesh(root / "scans" / scan / f"{scan}.obj", vertices, triangles)
        _lnd(root / "annotations" / folder / f"{scan}.lnd", marks[SEVEN])
        subject = scan.split("_")[0].upper()
        for quality, number in (("HQ", 1), ("HQ", 2), ("LQ", 3)):
            image = root / "Subset_2D_FG2018" / quality / f"{subject}_{number}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"")
        for view in ("left", "right"):
            (root / "views" / scan).mkdir(parents=True, exist_ok=True)
            (root / "views" / scan / f"{view}.jpg").write_bytes(b"")
    return root


def _predict_images(faces, folder, change, mark_change=None):
    for seed, subject in ((1, "F1001"), (2, "M1002")):
        vertices, triangles, marks = faces.face(seed)
        for quality, number in (("HQ", 1), ("HQ", 2), ("LQ", 3)):
            stem = folder / quality / f"{subject}_{number}"
            save_mesh(stem.with_suffix(".obj"), change(vertices), triangles)
            save_points(stem.with_suffix(".txt"), (mark_change or change)(marks[SEVEN]))
    return folder


def _predict_scans(faces, folder, change):
    for seed, scan in ((1, "F1001_N"), (2, "m1002_N")):
        vertices, triangles, marks = faces.face(seed)
        save_mesh(folder / f"{scan}.obj", change(vertices), triangles)
        save_points(folder / f"{scan}.npy", change(marks[SEVEN]))
    return folder


def _items(out):
    return json.loads((out / "results.json").read_text())["items"]


def test_fg2018_exact_predictions_give_zero(faces, esrc, tmp_path):
    predictions = _predict_images(faces, tmp_path / "p", _turned(0.01))
    summary = run_protocol("fg2018", esrc, predictions, tmp_path / "o", pictures=False)
    assert summary.complete
    rows = {row.name: row.cells for row in summary.tables[0].rows}
    assert [rows[name]["images"] for name in ("ours", "ours, HQ", "ours, LQ")] == [6, 4, 2]
    assert rows["ours"]["3DRMSE"] < 1e-5


def test_fg2018_does_not_repair_what_landmarks_say(faces, esrc, tmp_path):
    """No ICP: landmarks 3 mm off along the line of sight push the whole face back by 3 mm."""
    shift = np.array([0, 0, 3.0])
    predictions = _predict_images(faces, tmp_path / "p", lambda v: v, lambda marks: marks + shift)
    run_protocol("fg2018", esrc, predictions, tmp_path / "o", pictures=False)
    vertices, triangles, marks = faces.face(1)
    counted = _counted(vertices, marks[SEVEN])
    twin = naive.distances(counted[::300], vertices - shift, triangles)
    with np.load(tmp_path / "o" / "items" / "HQ" / "F1001_1.npz") as stored:
        np.testing.assert_allclose(stored["distances"][::300], twin, atol=1e-6)
    assert all(1.5 < item["rmse"] < 3.0 for item in _items(tmp_path / "o"))


def _counted(vertices, seven):
    """The crop, from its description."""
    bridge = (seven[1] + seven[2]) / 2
    radius = 1.2 * (np.linalg.norm(seven[0] - seven[3]) + np.linalg.norm(bridge - seven[4])) / 2
    return vertices[np.linalg.norm(vertices - (seven[4] + 0.3 * (bridge - seven[4])), axis=1) <= radius]


def test_fg2018_agrees_with_a_naive_twin(faces, esrc, tmp_path):
    predictions = _predict_images(faces, tmp_path / "p", lambda v: 1.1 * v + np.sin(v / 15))
    run_protocol("fg2018", esrc, predictions, tmp_path / "o", pictures=False)
    with np.load(tmp_path / "o" / "items" / "HQ" / "F1001_1.npz") as stored:
        found = stored["distances"]
    vertices, triangles, marks = faces.face(1)
    seven, predicted = marks[SEVEN], 1.1 * vertices + np.sin(vertices / 15)
    pose = naive.horn(1.1 * seven + np.sin(seven / 15), seven, True)
    counted = _counted(vertices, seven)
    assert len(counted) == len(found)
    twin = naive.distances(counted[::200], naive.moved(predicted, pose), triangles)
    np.testing.assert_allclose(found[::200], twin, atol=1e-6)


@pytest.mark.parametrize("rigid", [False, True])
def test_two_views_of_esrc(faces, esrc, tmp_path, rigid):
    """Exact in any pose: 0. Five per cent too large: 0 with scale, what a rigid alignment leaves without."""
    grown = _predict_scans(faces, tmp_path / "p", _turned(1.05))
    summary = run_protocol("esrc-2view", esrc, grown, tmp_path / "o", Options(rigid=rigid), pictures=False)
    assert summary.complete
    row = summary.tables[0].rows[0]
    assert row.name == ("ours (rigid)" if rigid else "ours (similarity)")
    assert (0.3 < row.cells["mean"] < 3.0) if rigid else row.cells["mean"] < 1e-4
    assert [row.name for row in summary.tables[0].rows if row.source] == ["HRN", "DFNRMVS"]
    assert any("unverified" in note for note in summary.notes)


def test_missing_predictions_of_esrc_are_listed(faces, esrc, tmp_path):
    predictions = _predict_scans(faces, tmp_path / "p", _turned())
    (predictions / "F1001_N.obj").unlink()
    summary = run_protocol("esrc-2view", esrc, predictions, tmp_path / "o", pictures=False)
    assert summary.missing == (("F1001_N", "no prediction"),)
    with pytest.raises(InputError, match="times the scan's size"):
        metres = _predict_scans(faces, tmp_path / "m", lambda v: v / 1000)
        run_protocol("esrc-2view", esrc, metres, tmp_path / "o2", Options(rigid=True), pictures=False)
    with pytest.raises(InputError, match="no such folder"):
        run_protocol("fg2018", tmp_path, predictions, tmp_path / "o3", pictures=False)


def test_three_views_of_facescape(faces, tmp_path):
    """Scans in a unit of their own, brought to mm by Rt_scale_dict.json: a 4 mm error stays one of 4 mm."""
    data, scale = tmp_path / "d", 37.5
    for seed, subject in ((1, "101"), (2, "122")):
        vertices, triangles, marks = faces.face(seed)
        save_mesh(data / "meshes" / subject / "1_neutral.obj", vertices / scale, triangles)
        _lnd(data / "meshes" / subject / "1_neutral.lnd", marks[SEVEN] / scale)
        for folder, change in (("exact", lambda v: v), ("bent", lambda v: v + np.sin(v[:, :1] / 6) * [0, 0, 1.0])):
            stem = tmp_path / folder / subject / "1_neutral"
            save_mesh(stem.with_suffix(".obj"), _turned(2.0)(change(vertices)), triangles)
            save_points(stem.with_suffix(".npy"), _turned(2.0)(change(marks[SEVEN])))
    (data / "Rt_scale_dict.json").write_text(json.dumps({s: {"1": [scale, []]} for s in ("101", "122")}))
    exact = run_protocol("facescape-3view", data, tmp_path / "exact", tmp_path / "o", pictures=False)
    assert exact.tables[0].rows[0].cells["mean"] < 1e-4
    bent = run_protocol("facescape-3view", data, tmp_path / "bent", tmp_path / "o2", pictures=False)
    # The mean of |sin| is 0.64 mm along the line of sight, less across slopes.
    assert 0.3 < bent.tables[0].rows[0].cells["mean"] < 0.64
    (data / "Rt_scale_dict.json").write_text(json.dumps({"101": {"1": [scale, []]}, "122": {"1": [1.0, []]}}))
    summary = run_protocol("facescape-3view", data, tmp_path / "exact", tmp_path / "o", pictures=False)
    assert "apart" in dict(summary.refused)["122/1_neutral"]
    (data / "Rt_scale_dict.json").unlink()
    with pytest.raises(InputError, match="no such file"):
        run_protocol("facescape-3view", data, tmp_path / "exact", tmp_path / "o", pictures=False)


def test_landmarks_in_another_order_are_refused_even_where_they_nearly_fit(faces, esrc, tmp_path):
    """Inner and outer corners of both eyes swapped: no mirror image, a misfit of a quarter of the eyes' distance."""
    swapped = [1, 0, 3, 2, 4, 5, 6]
    predictions = _predict_images(faces, tmp_path / "p", lambda v: v)
    vertices, _, marks = faces.face(1)
    save_points(predictions / "HQ" / "F1001_1.txt", marks[SEVEN][swapped])
    summary = run_protocol("fg2018", esrc, predictions, tmp_path / "o", pictures=False)
    (refused,) = summary.refused
    assert refused[0] == "HQ/F1001_1" and "right eye outer where right eye inner should be" in refused[1]


def test_misfits_of_all_orders_agree_with_aligning_each():
    random = np.random.default_rng(3)
    source, target = random.normal(size=(2, 7, 3))
    misfits = order_misfits(source, target)
    assert len(misfits) == 5040
    for number in (0, 1, 17, 2500, 5039):
        order = list(permutations(range(7)))[number]
        moved = naive.moved(source[list(order)], naive.horn(source[list(order)], target, True))
        assert misfits[number] == pytest.approx(np.sqrt(((moved - target) ** 2).sum(1).mean()), abs=1e-9)


def test_the_unit_of_rigid_predictions_is_honoured_and_no_other(faces, esrc, tmp_path):
    metres = _predict_scans(faces, tmp_path / "p", lambda v: _turned()(v) / 1000)
    summary = run_protocol("esrc-2view", esrc, metres, tmp_path / "o", Options(rigid=True, unit="m"), pictures=False)
    assert summary.complete and summary.tables[0].rows[0].cells["mean"] < 1e-4
    with pytest.raises(InputError, match="--rigid with it"):
        run_protocol("esrc-2view", esrc, metres, tmp_path / "o", Options(unit="m"), pictures=False)
    with pytest.raises(InputError, match="--rigid: found True; expected no such option"):
        run_protocol("fg2018", esrc, metres, tmp_path / "o", Options(rigid=True), pictures=False)


def test_scans_that_nobody_asks_for_are_told(faces, esrc, tmp_path):
    data = tmp_path / "d"
    shutil.copytree(esrc, data)
    shutil.rmtree(data / "views")
    predictions = _predict_scans(faces, tmp_path / "p", _turned())
    (predictions / "F1001_N.obj").unlink()
    summary = run_protocol("esrc-2view", data, predictions, tmp_path / "o", pictures=False)
    assert any("1 of 2 scans have neither" in note for note in summary.notes)


def test_a_data_set_without_annotations_is_blamed_itself(faces, esrc, tmp_path):
    data = tmp_path / "d"
    shutil.copytree(esrc, data)
    shutil.rmtree(data / "annotations")
    with pytest.raises(InputError, match=f"^{data}: found nothing to score .*no seven landmarks"):
        run_protocol("esrc-2view", data, _predict_scans(faces, tmp_path / "p", _turned()), tmp_path / "o")


def test_results_of_an_earlier_run_do_not_outlive_their_predictions(faces, esrc, tmp_path):
    exact, out = _predict_scans(faces, tmp_path / "p", _turned()), tmp_path / "o"
    run_protocol("esrc-2view", esrc, exact, out)
    assert len(list((out / "heat_maps").glob("*.png"))) == 2
    (exact / "F1001_N.obj").unlink()
    run_protocol("esrc-2view", esrc, exact, out)
    assert [path.stem for path in (out / "heat_maps").glob("*.png")] == ["M1002"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to score"):
        run_protocol("esrc-2view", esrc, tmp_path / "empty", out)
    assert not (out / "results.md").exists() and "no prediction" in (out / "not_scored.csv").read_text()
