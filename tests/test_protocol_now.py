"""NoW on a generated copy of its layout: known answers, a naive twin, bad input, resuming, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from benchmarks.protocols.run import run_protocol
from benchmarks.protocols.types import Options
from fitter.errors import InputError
from tests import naive_metrics as naive
from tests.factories import toy_model
from tests.protocol_data import SEVEN, Faces, save_mesh, save_points

SUBJECTS = ("FaMoS_01", "FaMoS_02")
IMAGES = (("multiview_neutral", "IMG_0001"), ("selfie", "IMG_0002"))


@pytest.fixture(scope="module")
def faces(open_model):
    return Faces(open_model, 85.0)


@pytest.fixture(scope="module")
def now(faces, tmp_path_factory):
    """Two subjects, an image in each of two challenges."""
    root = tmp_path_factory.mktemp("now")
    lines = []
    for seed, subject in enumerate(SUBJECTS, 1):
        vertices, triangles, marks = faces.face(seed)
        save_mesh(root / "scans" / subject / "scan.obj", vertices, triangles)
        save_points(root / "scans_lmks_onlypp" / subject / "scan.pp", marks[SEVEN])
        lines += [f"{subject}/{challenge}/{image}.jpg" for challenge, image in IMAGES]
    (root / "imagepathsvalidation.txt").write_text("\n".join(lines) + "\n")
    return root


def _predict(faces, folder, change=lambda vertices: vertices, seeds=(1, 2), suffix=".npy"):
    """Predictions that are the scans' own meshes, changed."""
    for seed, subject in zip(seeds, SUBJECTS, strict=True):
        vertices, triangles, marks = faces.face(seed)
        for challenge, image in IMAGES:
            save_mesh(folder / subject / challenge / f"{image}.obj", change(vertices), triangles)
            save_points(folder / subject / challenge / f"{image}{suffix}", change(marks[SEVEN]))
    return folder


def _turned(scale=1.0, shift=(40.0, -20.0, 300.0)):
    turn = Rotation.from_rotvec([0.3, -0.7, 0.2]).as_matrix()
    return lambda vertices: scale * vertices @ turn.T + np.array(shift)


def _figures(summary, table=0, row="ours"):
    return next(line.cells for line in summary.tables[table].rows if line.name == row)


def test_exact_predictions_in_any_pose_and_size_give_zero(faces, now, tmp_path):
    predictions = _predict(faces, tmp_path / "p", _turned(0.001), suffix=".txt")
    summary = run_protocol("now", now, predictions, tmp_path / "o", pictures=False)
    cells = _figures(summary)
    assert summary.complete
    assert cells["images"] == 4
    assert cells["median"] < 1e-4
    assert cells["mean"] < 1e-4


def test_metrical_does_not_forgive_size(faces, now, tmp_path):
    """Metrical: an exact prediction in metres gives 0; one 5 % too large gives what is left after a rigid alignment."""
    exact = _predict(faces, tmp_path / "a", lambda vertices: 0.001 * _turned()(vertices))
    assert _figures(run_protocol("now-metrical", now, exact, tmp_path / "o1", pictures=False))["mean"] < 1e-4
    grown = _predict(faces, tmp_path / "b", _turned(1.05))
    forgiving = _figures(run_protocol("now", now, grown, tmp_path / "o2", pictures=False))
    strict = _figures(run_protocol("now-metrical", now, grown, tmp_path / "o3", Options(unit="mm"), pictures=False))
    assert forgiving["mean"] < 1e-4
    assert 0.3 < strict["mean"] < 3.0


def test_a_known_dent_gives_its_own_depth(faces, now, tmp_path):
    """A smooth 8 mm bump on one cheek: far from it next to nothing, at its top almost its height."""

    def dent(vertices):
        tip = faces.face(0)[2][[1, 2, 3, 31]].mean(0)
        weight = np.exp(-((vertices - tip) ** 2).sum(1) / (2 * 9.0**2))
        return vertices + weight[:, None] * np.array([-3.0, 0, 7.4])

    predictions = _predict(faces, tmp_path / "p", dent)
    run_protocol("now", now, predictions, tmp_path / "o", pictures=False)
    items = json.loads((tmp_path / "o" / "results.json").read_text())["items"]
    for item in items:
        assert 0 < item["median"] < 0.35
        assert item["rmse"] > 2 * item["median"]


def test_the_whole_pipeline_agrees_with_a_naive_twin(tmp_path):
    """A coarse dome against a deformed, turned, larger one: own crop, Horn, scipy's solver, brute-force distances."""
    toy = toy_model()
    triangles = toy.atlas_triangles.numpy()
    scan = toy.mean.double().numpy()[: triangles.max() + 1]
    marks = toy.landmarks(toy.mean.double()).numpy()[SEVEN]
    waves = np.sin(scan[:, :1] / 21) * np.cos(scan[:, 1:2] / 25) * np.array([0, 0, 1.5])
    predicted, predicted_marks = _turned(1.2)(scan + waves), _turned(1.2)(marks + np.array([0.5, 0.3, 0.1]))
    save_mesh(tmp_path / "d" / "scans" / "S" / "s.obj", scan, triangles)
    save_points(tmp_path / "d" / "scans_lmks_onlypp" / "S" / "s.pp", marks)
    (tmp_path / "d" / "imagepathsvalidation.txt").write_text("S/selfie/a.jpg\n")
    save_mesh(tmp_path / "p" / "S" / "selfie" / "a.obj", predicted, triangles)
    save_points(tmp_path / "p" / "S" / "selfie" / "a.npy", predicted_marks[None])
    run_protocol("now", tmp_path / "d", tmp_path / "p", tmp_path / "o", pictures=False)
    with np.load(tmp_path / "o" / "items" / "S" / "selfie" / "a.npz") as stored:
        found = stored["distances"]

    bridge, bottom = (marks[1] + marks[2]) / 2, marks[4]
    radius = 1.4 * (np.linalg.norm(marks[0] - marks[3]) + np.linalg.norm(bridge - bottom)) / 2
    counted = scan[np.linalg.norm(scan - (bottom + 0.3 * (bridge - bottom)), axis=1) <= radius]
    start = naive.horn(predicted_marks, marks, True)
    pose = naive.minimise_distances(counted, predicted, triangles, start, True)
    np.testing.assert_allclose(found, naive.distances(counted, naive.moved(predicted, pose), triangles), atol=1e-3)


def test_files_curves_and_heat_maps(faces, now, tmp_path):
    predictions = _predict(faces, tmp_path / "p", seeds=(4, 5))
    out = tmp_path / "o"
    summary = run_protocol("now", now, predictions, out)
    assert {path.name for path in summary.files} >= {"results.md", "results.csv", "results.json", "curves.png"}
    text = (out / "results.md").read_text()
    assert "| **ours, selfie** |" in text
    assert "*DECA*" in text
    assert "published [" in text
    assert "test set" in text
    table = (out / "results.csv").read_text().splitlines()
    assert table[0] == "table,method,origin,source,column,value"
    assert any(line.endswith('DECA,published,"sicxu/Deep3DFaceRecon_pytorch, README",median,1.09') for line in table)
    with Image.open(out / "curves.png") as picture:
        assert picture.size == (860, 600)
    assert sorted(path.stem for path in (out / "heat_maps").iterdir()) == list(SUBJECTS)


def test_a_second_run_scores_nothing_and_a_changed_prediction_is_scored_anew(faces, now, tmp_path):
    predictions = _predict(faces, tmp_path / "p")
    out = tmp_path / "o"
    assert run_protocol("now", now, predictions, out, pictures=False).fresh == 4
    before = (out / "results.json").read_bytes()
    assert run_protocol("now", now, predictions, out, pictures=False).fresh == 0
    assert (out / "results.json").read_bytes() == before
    vertices, triangles, _ = faces.face(4)
    save_mesh(predictions / SUBJECTS[0] / "selfie" / "IMG_0002.obj", vertices, triangles)
    assert run_protocol("now", now, predictions, out, pictures=False).fresh == 1
    (out / "items" / SUBJECTS[0] / "selfie" / "IMG_0002.npz").write_bytes(b"cut short")
    assert run_protocol("now", now, predictions, out, pictures=False).fresh == 1


def test_what_cannot_be_scored_is_counted_and_listed(faces, now, tmp_path):
    predictions = _predict(faces, tmp_path / "p")
    first = predictions / SUBJECTS[0] / "multiview_neutral" / "IMG_0001"
    marks = faces.face(1)[2]
    save_points(first.with_suffix(".npy"), 0.001 * marks[SEVEN])  # Landmarks in metres, mesh in millimetres.
    (predictions / SUBJECTS[0] / "selfie" / "IMG_0002.obj").unlink()
    wrong = predictions / SUBJECTS[1] / "selfie" / "IMG_0002"
    save_points(wrong.with_suffix(".npy"), marks[SEVEN][[3, 2, 1, 0, 4, 6, 5]])  # Left and right swapped.
    out = tmp_path / "o"
    summary = run_protocol("now", now, predictions, out, pictures=False)
    assert summary.scored == 1
    assert [name for name, _ in summary.missing] == [f"{SUBJECTS[0]}/selfie/IMG_0002"]
    reasons = dict(summary.refused)
    assert "off their mesh" in reasons[f"{SUBJECTS[0]}/multiview_neutral/IMG_0001"]
    assert "mirror image" in reasons[f"{SUBJECTS[1]}/selfie/IMG_0002"]
    assert "1 of 4 scored, 1 missing, 2 refused" in (out / "results.md").read_text()
    assert "INCOMPLETE" in (out / "results.md").read_text()
    assert len((out / "not_scored.csv").read_text().splitlines()) == 4


def test_a_metrical_prediction_in_another_unit_is_refused(faces, now, tmp_path):
    predictions = _predict(faces, tmp_path / "p")
    with pytest.raises(InputError, match="times the scan's size") as caught:
        run_protocol("now-metrical", now, predictions, tmp_path / "o", pictures=False)
    assert "--unit" in str(caught.value)
    assert "4 refused" in str(caught.value)


def test_wrong_layouts_are_one_line(now, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        run_protocol("now", tmp_path / "nowhere", tmp_path, tmp_path / "o")
    with pytest.raises(InputError, match="no list of images"):
        run_protocol("now", tmp_path, tmp_path, tmp_path / "o")
    with pytest.raises(InputError, match="nothing to score"):
        run_protocol("now", now, tmp_path / "empty", tmp_path / "o")
    (tmp_path / "imagepathstest.txt").write_text("picture.jpg\n")
    with pytest.raises(InputError, match=r"subject/challenge/file.jpg"):
        run_protocol("now", tmp_path, tmp_path, tmp_path / "o")
    with pytest.raises(InputError, match="the protocol"):
        run_protocol("then", now, tmp_path, tmp_path / "o")
