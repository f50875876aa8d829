"""REALY on a generated copy of its layout: known answers, dense naive twins, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.crops import submesh
from benchmarks.nonrigid import Keypoints, bend_region
from benchmarks.protocols.published_realy import REALY_FRONTAL, REALY_SIDE
from benchmarks.protocols.realy import global_alignment
from benchmarks.protocols.run import run_protocol
from benchmarks.protocols.types import Options
from fitter.errors import InputError
from tests.factories import toy_model
from tests.protocol_data import Faces, save_mesh

MM = 8.95
REGIONS = {
    "nose": range(27, 36),
    "mouth": range(48, 68),
    "forehead": [*range(17, 27), *range(36, 48)],
    "cheek": [1, 15, 31],
}
"""Landmarks around which each region lies: its keypoints have to be in it."""


@pytest.fixture(scope="module")
def faces(open_model):
    return Faces(open_model)


@pytest.fixture(scope="module")
def numbers(faces):
    """85 keypoints at vertices, so that an exact prediction's keypoints and the scan's are the same points."""
    vertices, triangles, marks = faces.face(0)
    extra = np.array([marks[31] + [k, 2 * k, 0] for k in range(-8, 9)])
    rows = [int(np.linalg.norm(vertices - point, axis=1).argmin()) for point in np.concatenate([marks, extra])]
    return [(int(np.flatnonzero((triangles == row).any(1))[0]), row) for row in rows]


@pytest.fixture(scope="module")
def realy(faces, numbers, tmp_path_factory):
    root = tmp_path_factory.mktemp("realy")
    mean, triangles, _ = faces.face(0)
    save_mesh(root / "open.obj", mean, triangles)
    weights = [[float(triangles[t, 0] == row), float(triangles[t, 1] == row)] for t, row in numbers]
    rows = [[t, *pair] for (t, _), pair in zip(numbers, weights, strict=True)]
    (root / "open.txt").write_text(json.dumps(rows))
    (root / "metrical_scale.txt").write_text(f"{MM}\n{MM}\n")
    for subject in (1, 2):
        vertices, triangles, marks = faces.face(subject)
        points = vertices[[row for _, row in numbers]] / MM
        (root / "REALY_HIFI3D_keypoints").mkdir(exist_ok=True)
        text = "".join("v {:.9f} {:.9f} {:.9f}\n".format(*point) for point in points)
        (root / "REALY_HIFI3D_keypoints" / f"{subject}.obj").write_text(text)
        for region, around in REGIONS.items():
            keep = np.linalg.norm(vertices[:, None] - marks[list(around)], axis=-1).min(1) < 12.0
            part = submesh(vertices / MM, triangles, keep)
            save_mesh(root / "REALY_scan_region" / str(subject) / f"{region}.obj", *part)
    return root


def _turned(scale=1.0):
    turn = Rotation.from_rotvec([0.4, -0.2, 0.3]).as_matrix()
    return lambda vertices: scale * vertices @ turn.T + np.array([1.0, -2.0, 30.0])


def _predict(faces, folder, change, names=("1", "2")):
    for name in names:
        vertices, triangles, _ = faces.face(int(name.split("_")[0]))
        save_mesh(folder / f"{name}.obj", change(vertices), triangles)
    return folder


def _items(out):
    return {item["name"]: item for item in json.loads((out / "results.json").read_text())["items"]}


def test_exact_predictions_give_zero_frontal_and_side(faces, realy, tmp_path):
    predictions = _predict(faces, tmp_path / "p", _turned(0.013), ("1", "2_3"))
    summary = run_protocol("realy", realy, predictions, tmp_path / "o", pictures=False)
    assert all(item["all"] < 1e-5 for item in _items(tmp_path / "o").values())
    assert ["frontal" in table.title for table in summary.tables] == [True, False]
    assert "HRN" in [row.name for row in summary.tables[0].rows]


def test_a_region_moved_rigidly_costs_nothing_elsewhere_and_a_bump_counts_where_it_is(faces, realy, tmp_path):
    """A 5 mm dent above the left brow: error there, next to none at the nose, which is aligned by itself."""
    centre = faces.face(0)[2][24] + np.array([0, 5.0, 0])

    def dent(vertices):
        near = np.exp(-((vertices - centre) ** 2).sum(1) / (2 * 9.0**2))
        return vertices - 5.0 * near[:, None] * [0, 0, 1]

    run_protocol("realy", realy, _predict(faces, tmp_path / "p", dent), tmp_path / "o", pictures=False)
    for item in _items(tmp_path / "o").values():
        assert 0.1 < item["forehead"] < 1.0
        assert item["nose"] < 0.01
        assert item["mouth"] < 0.01
        assert item["all"] == pytest.approx(np.mean([item[region] for region in REGIONS]))


def _dense(vertices, triangles, targets, keypoints):
    """The deformation with dense matrices and lstsq, straight from the description."""
    edges = sorted({tuple(sorted(pair)) for t in triangles for pair in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))})
    count = len(vertices)

    def stiff(diagonal):
        rows = np.zeros((4 * len(edges), 4 * count))
        for number, (a, b) in enumerate(edges):
            for k in range(4):
                rows[4 * number + k, 4 * a + k], rows[4 * number + k, 4 * b + k] = diagonal[k], -diagonal[k]
        return rows

    def solve(now, diagonal, weights, goals):
        data = np.zeros((len(weights), 4 * count))
        right = np.zeros((len(weights), 3))
        for row, ((vertex, weight), goal) in enumerate(zip(weights, goals, strict=True)):
            data[row, 4 * vertex : 4 * vertex + 4] = weight * np.append(now[vertex], 1)
            right[row] = weight * goal
        matrix = np.concatenate([stiff(diagonal), data])
        maps = np.linalg.lstsq(matrix, np.concatenate([np.zeros((4 * len(edges), 3)), right]), rcond=None)[0]
        return maps, np.array([np.append(now[v], 1) @ maps[4 * v : 4 * v + 4] for v in range(count)])

    now, previous, maps = vertices, np.zeros((4 * count, 3)), np.ones((4 * count, 3))
    done = 0
    if keypoints is not None:
        previous = maps
        pairs = [(row, 50.0) for row in keypoints.rows]
        maps, now = solve(now, 150 * np.array([2, 2, 3, 2]), pairs, keypoints.targets)
        done = 1
    for stage in range(3):
        step = 0
        while np.sqrt(((maps - previous) ** 2).sum()) > 0.5**stage and step < (11 if keypoints is not None else 10**6):
            previous = maps
            table = np.linalg.norm(now[:, None] - targets, axis=-1)
            limit = max(2 * table.min(1).mean(), 1.0)
            pairs, goals = [], []
            for vertex in range(count):
                if table[vertex].min() < limit:
                    pairs.append((vertex, 1.0))
                    goals.append(targets[table[vertex].argmin()])
            if keypoints is not None:
                pairs += [(row, 5.0 * np.exp(-0.9 * done)) for row in keypoints.rows]
                goals += list(keypoints.targets)
            maps, now = solve(now, np.full(4, 50 * np.exp(-0.5 * stage)), pairs, goals)
            step, done = step + 1, done + 1
    return now


@pytest.mark.parametrize("held", [False, True])
def test_bending_agrees_with_a_dense_twin(held):
    toy = toy_model()
    triangles = toy.atlas_triangles.numpy()
    vertices = toy.mean.double().numpy()[: triangles.max() + 1] / MM
    vertices, triangles = submesh(vertices, triangles, np.linalg.norm(vertices - vertices[0], axis=1) < 5.2)
    assert 40 < len(vertices) < 140
    targets = vertices + 0.2 * np.sin(vertices[:, [1, 2, 0]] * 2)
    keypoints = Keypoints(np.array([3, 11, 20, 31]), vertices[[3, 11, 20, 31]] + [0.1, -0.1, 0.2]) if held else None
    found = bend_region(vertices, triangles, targets, keypoints)
    np.testing.assert_allclose(found, _dense(vertices, triangles, targets, keypoints), atol=1e-6)
    assert np.abs(found - vertices).max() > 0.01


def test_the_global_alignment_scales_by_absolute_sums():
    random = np.random.default_rng(0)
    source = random.normal(size=(7, 3))
    target = _turned(3.0)(source) + random.normal(0, 0.05, (7, 3))
    pose = global_alignment(source, target)
    centred = (source - source.mean(0)) @ pose.rotation.T
    assert pose.scale == pytest.approx(np.abs(target - target.mean(0)).sum() / np.abs(centred).sum(), abs=1e-12)
    np.testing.assert_allclose(pose(source.mean(0)), target.mean(0), atol=1e-9)


def test_wrong_topologies_and_missing_parts(faces, realy, tmp_path):
    predictions = _predict(faces, tmp_path / "p", lambda v: v)
    vertices, triangles, _ = faces.face(2)
    save_mesh(predictions / "2.obj", vertices, triangles[::-1])
    summary = run_protocol("realy", realy, predictions, tmp_path / "o", pictures=False)
    assert "topology" in dict(summary.refused)["2"]
    assert summary.scored == 1
    save_mesh(predictions / "7.obj", vertices, triangles)
    (predictions / "2.obj").unlink()
    summary = run_protocol("realy", realy, predictions, tmp_path / "o", pictures=False)
    assert [name for name, _ in summary.missing] == ["2", "7"]
    with pytest.raises(InputError, match="no template"):
        run_protocol("realy", realy, predictions, tmp_path / "o", Options(template=tmp_path / "x.obj"), pictures=False)
    other = tmp_path / "q"
    save_mesh(other / "1.obj", vertices, triangles[::-1])
    with pytest.raises(InputError, match="a topology that no template has"):
        run_protocol("realy", realy, other, tmp_path / "o", pictures=False)
    with pytest.raises(InputError, match="no such folder"):
        run_protocol("realy", tmp_path, predictions, tmp_path / "o", pictures=False)


def test_one_wrong_topology_does_not_stop_the_others_and_a_wrong_scale_is_no_figure(faces, realy, tmp_path):
    predictions = _predict(faces, tmp_path / "p", lambda v: v)
    vertices, triangles, _ = faces.face(1)
    save_mesh(predictions / "1.obj", vertices, triangles[::-1])
    summary = run_protocol("realy", realy, predictions, tmp_path / "o", pictures=False)
    assert summary.scored == 1 and "topology" in dict(summary.refused)["1"]
    data = tmp_path / "d"
    shutil.copytree(realy, data)
    (data / "metrical_scale.txt").write_text(f"{MM}\n1000\n")
    summary = run_protocol("realy", data, _predict(faces, tmp_path / "q", lambda v: v), tmp_path / "o2", pictures=False)
    assert summary.scored == 1 and "outer eye corners" in dict(summary.refused)["2"]


def test_the_leaderboard_has_a_mean_a_median_and_a_deviation_of_every_region():
    for rows, count in ((REALY_FRONTAL, 26), (REALY_SIDE, 20)):
        assert len(rows) == count
        for row in rows:
            means = [float(row.cells[region].split("/")[0]) for region in REGIONS]
            assert row.cells["all"] == pytest.approx(np.mean(means), abs=0.015), row.name
