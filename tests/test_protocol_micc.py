"""MICC on a generated copy of its layout, in both protocols: known answers, naive twins, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.protocols import protocol
from benchmarks.protocols.micc import symmetric_score
from benchmarks.protocols.micc_files import average_shape
from benchmarks.protocols.run import run_protocol
from benchmarks.protocols.types import Options
from fitter.errors import InputError
from tests import naive_metrics as naive
from tests.factories import toy_model
from tests.protocol_data import Faces, save_mesh, save_points

SUBJECTS = ("subject_01", "subject_28")


def _ljson(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"groups": {"LJSON": {"labels": [], "landmarks": {"points": points.tolist()}}}}))


def _turned(scale=1.0):
    turn = Rotation.from_rotvec([-0.2, 0.6, 0.1]).as_matrix()
    return lambda vertices: scale * vertices @ turn.T + np.array([10.0, 250.0, -30.0])


@pytest.fixture(scope="module")
def faces(open_model):
    return Faces(open_model, 140.0)


@pytest.fixture(scope="module")
def micc(faces, tmp_path_factory):
    """Raw scans in mm and registrations in units of 100 mm; the first subject's second scan is another face."""
    root = tmp_path_factory.mktemp("micc")
    for seed, subject in enumerate(SUBJECTS, 1):
        for take, other in (("frontal1", 0), ("frontal2", 5)):
            vertices, triangles, marks = faces.face(seed + other)
            part = f"{subject}/Model/{take}/obj"
            save_mesh(root / part / "110920150452.obj", _turned()(vertices), triangles)
            save_mesh(root / "registered" / part / "110920150452.obj", vertices / 100, triangles)
            _ljson(root / "MICC_landmarks" / part / "110920150452.ljson", _turned()(marks))
    return root


def _numbers(faces, folder):
    vertices, _, marks = faces.face(0)
    near = [int(np.linalg.norm(vertices - mark, axis=1).argmin()) for mark in marks]
    (folder / "template_landmarks.txt").write_text("\n".join(map(str, near)))


def _predict(faces, folder, change, setting="Indoor-Cooperative"):
    for seed, subject in enumerate(SUBJECTS, 1):
        vertices, triangles, _ = faces.face(seed)
        save_mesh(folder / subject / f"{setting}.obj", change(vertices), triangles)
    _numbers(faces, folder)
    return folder


def _errors(out, key):
    return {item["name"]: item[key] for item in json.loads((out / "results.json").read_text())["items"]}


def test_symmetric_exact_predictions_give_zero_in_any_pose_and_size(faces, micc, tmp_path):
    predictions = _predict(faces, tmp_path / "p", lambda v: _turned(1.08)(v) / 100)
    summary = run_protocol("micc-symmetric", micc, predictions, tmp_path / "o", pictures=False)
    assert summary.scored == 2
    assert summary.complete
    assert max(_errors(tmp_path / "o", "error").values()) < 1e-4
    assert any("PTZ-Outdoor" in note for note in summary.notes)
    cells = summary.tables[0].rows[0].cells
    assert cells["Cooperative"] == "0.00±0.00"
    assert "Outdoor" not in cells


def test_symmetric_counts_95_mm_and_60_mm_of_subject_28(faces, micc, tmp_path):
    """A bump at 60 to 95 mm from the nose tip counts for the one and not for the other."""
    tip = faces.face(0)[2][30]

    def bump(vertices):
        reach = np.linalg.norm(vertices - tip, axis=1)
        return (vertices + np.where((reach > 75) & (reach < 95), 6.0, 0.0)[:, None] * [0, 0, 1]) / 100

    predictions = _predict(faces, tmp_path / "p", bump)
    run_protocol("micc-symmetric", micc, predictions, tmp_path / "o", pictures=False)
    errors = _errors(tmp_path / "o", "error")
    assert errors["subject_28/Indoor-Cooperative"] < 0.02
    assert errors["subject_01/Indoor-Cooperative"] > 0.2


def test_the_symmetric_score_agrees_with_a_naive_twin():
    toy = toy_model()
    triangles = toy.atlas_triangles.numpy()
    truth = toy.mean.double().numpy()[: triangles.max() + 1]
    predicted = _turned(1.03)(truth + 1.5 * np.sin(truth[:, [1, 2, 0]] / 19))
    tips = truth[0], predicted[0]
    there, back, distances, mask = symmetric_score(truth, predicted, triangles, tips, 80.0)
    twin = []
    for source, target, tip in ((truth, predicted, tips[0]), (predicted, truth, tips[1])):
        near = np.array([np.linalg.norm(vertex - tip) < 80.0 for vertex in source])
        pose = naive.alternating(source[near], target, triangles, target[near], 1e-3)
        twin.append(naive.distances(naive.moved(source[near], pose), target, triangles))
    np.testing.assert_allclose(distances, twin[0], atol=1e-3)
    assert (there, back) == pytest.approx((twin[0].mean(), twin[1].mean()), abs=1e-3)
    assert mask.sum() == len(twin[0])


def test_cropped_exact_predictions_give_zero_and_a_deformation_does_not(faces, micc, tmp_path):
    exact = _predict(faces, tmp_path / "p", _turned(0.001))
    summary = run_protocol("micc-cropped", micc, exact, tmp_path / "o", pictures=False)
    assert summary.complete
    assert max(_errors(tmp_path / "o", "rmse").values()) < 1e-4
    wavy = _predict(faces, tmp_path / "q", lambda v: v + np.sin(v[:, :1] / 9) * [0, 0, 2.0])
    run_protocol("micc-cropped", micc, wavy, tmp_path / "o2", pictures=False)
    # Waves of 2 mm along the line of sight: 1.4 mm root mean square, less on slopes and after alignment.
    assert all(0.7 < value < 1.42 for value in _errors(tmp_path / "o2", "rmse").values())


def test_what_lies_beyond_95_mm_does_not_count(faces, micc, tmp_path):
    tip = faces.face(0)[2][30]

    def bump(vertices):
        return vertices + np.where(np.linalg.norm(vertices - tip, axis=1) > 103, 15.0, 0.0)[:, None] * [0, 0, -1]

    run_protocol("micc-cropped", micc, _predict(faces, tmp_path / "p", bump), tmp_path / "o", pictures=False)
    assert max(_errors(tmp_path / "o", "rmse").values()) < 0.05


def test_frames_of_a_video_are_scored_as_their_average(faces, micc, tmp_path):
    """Two frames that err by opposite waves, in other poses and sizes: together they are exact."""
    predictions = tmp_path / "p"
    for seed, subject in enumerate(SUBJECTS, 1):
        vertices, triangles, marks = faces.face(seed)
        wave = np.sin(vertices[:, :1] / 11) * [0, 0, 1.5]
        for sign, change in ((1, _turned(1.0)), (-1, lambda v: 1.0 * v)):
            stem = predictions / subject / "PTZ-Indoor" / f"frame_{sign + 1}"
            save_mesh(stem.with_suffix(".obj"), change(vertices + sign * wave), triangles)
            save_points(stem.with_suffix(".npy"), change(marks))
    run_protocol("micc-cropped", micc, predictions, tmp_path / "o", pictures=False)
    assert max(_errors(tmp_path / "o", "rmse").values()) < 0.02


def test_frames_without_a_prediction_are_jobs_and_are_told(faces, micc, tmp_path):
    """Three frames of a film, one of them predicted: two jobs, and a note beside the figure."""
    data = tmp_path / "d"
    shutil.copytree(micc, data)
    frames = data / "subject_01" / "frames" / "PTZ-Indoor"
    frames.mkdir(parents=True)
    for number in range(3):
        (frames / f"f{number}.jpg").write_bytes(b"")
    vertices, triangles, marks = faces.face(1)
    save_mesh(tmp_path / "p" / "subject_01" / "PTZ-Indoor" / "f1.obj", vertices, triangles)
    save_points(tmp_path / "p" / "subject_01" / "PTZ-Indoor" / "f1.npy", marks)
    found = protocol("micc-cropped").find(data, tmp_path / "p", Options())
    assert [job.name for job in found.jobs] == ["subject_01/PTZ-Indoor/f0", "subject_01/PTZ-Indoor/f2"]
    assert "1 of 3 frames" in found.notes[-1]
    assert [item.name for item in found.items] == ["subject_01/PTZ-Indoor"]


def test_the_average_of_one_shape_in_many_poses_is_that_shape(faces):
    vertices = faces.face(1)[0]
    mean = average_shape([vertices, _turned(0.5)(vertices), _turned(1.5)(vertices)])
    np.testing.assert_allclose(mean, vertices, atol=1e-6)


def test_what_cannot_be_scored_is_counted_and_listed(faces, micc, tmp_path):
    predictions = _predict(faces, tmp_path / "p", lambda v: v / 100)
    vertices, triangles, _ = faces.face(1)
    save_mesh(
        predictions / "subject_01" / "Indoor-Cooperative.obj", vertices[:5000], triangles[(triangles < 5000).all(1)]
    )
    summary = run_protocol("micc-symmetric", micc, predictions, tmp_path / "o", pictures=False)
    assert summary.scored == 1
    assert "vert" in dict(summary.refused)["subject_01/Indoor-Cooperative"]
    save_mesh(predictions / "subject_01" / "Indoor-Cooperative.obj", vertices, triangles)
    (predictions / "subject_28" / "Indoor-Cooperative.obj").unlink()
    with pytest.raises(InputError, match="units of 1 mm"):
        run_protocol("micc-symmetric", micc, predictions, tmp_path / "o", pictures=False)
    (predictions / "template_landmarks.txt").unlink()
    with pytest.raises(InputError, match="without landmarks"):
        run_protocol("micc-cropped", micc, predictions, tmp_path / "o", pictures=False)
    with pytest.raises(InputError, match="no frontal scan"):
        run_protocol("micc-cropped", tmp_path, predictions, tmp_path / "o", pictures=False)


def test_a_scan_without_landmarks_is_missing_not_forgotten(faces, micc, tmp_path):
    data = tmp_path / "d"
    shutil.copytree(micc, data)
    shutil.rmtree(data / "MICC_landmarks" / "subject_28")
    summary = run_protocol(
        "micc-cropped", data, _predict(faces, tmp_path / "p", _turned()), tmp_path / "o", pictures=False
    )
    assert summary.scored == 1
    assert summary.missing == (("subject_28/Indoor-Cooperative", "a scan without landmarks (.ljson)"),)
