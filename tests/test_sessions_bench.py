"""The sessions bench: known fits get known scores, rows get known summaries, the gate closes, the command works."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import pytest

pytest.importorskip("anny")
from benchmarks import __main__ as commands
from benchmarks import ablation, report
from benchmarks.sessions import command
from benchmarks.sessions.cases import AVERAGE, CASES, SINGLES, chosen_cases
from benchmarks.sessions.error_maps import mean_face, vertex_errors
from benchmarks.sessions.fits import naive_average, triangles_of
from benchmarks.sessions.gate import averages, regressions
from benchmarks.sessions.levels import LEVELS, Levels, read_levels, save_levels
from benchmarks.sessions.score import level_errors, numbers
from benchmarks.sessions.summary import case_table, checks, persons_share, skins, thirds
from benchmarks.sessions.truth import POINTS, RADIUS_MM, Truth, load_truth
from benchmarks.subjects.photograph import CaptureSettings, capture
from benchmarks.subjects.skin import usual_tone
from fitter.compare.align import Similarity, rotation_from_vector
from fitter.compare.scan import Scan, face_frame
from fitter.errors import InputError
from fitter.mesh_normals import vertex_normals
from fitter.optimise.config import load_configuration
from fitter.optimise.run import check_configuration

SETTINGS = CaptureSettings(seed=1, renderer="quick", views=5, size=128, edge_mm=4.0)


@pytest.fixture(scope="module")
def folder(open_model, tmp_path_factory):
    """One small capture."""
    return capture(tmp_path_factory.mktemp("captures"), SETTINGS)


def _exact(open_model) -> tuple[Truth, Levels]:
    """The mean face as truth, and itself as a fit."""
    vertices, triangles = open_model.mean.double().numpy(), open_model.triangles.numpy()
    marks = open_model.landmarks(open_model.mean).double().numpy()
    scan, frame = Scan(vertices, triangles, vertex_normals(vertices, triangles)), face_frame(marks)
    near = np.linalg.norm(vertices - frame.nose_tip, axis=1) < 60.0
    chosen = np.flatnonzero(near & (scan.normals @ frame.forward > 0.3))
    truth = Truth(vertices[chosen], scan.normals[chosen], marks, frame, 3, scan, chosen)
    return truth, Levels(dict.fromkeys(LEVELS, vertices), {"M0": marks, "M1": marks}, 1.0)


def _row(subject: str, case: str, tone: int | None, distances: tuple, angles: tuple, raw: bool = True) -> dict:
    levels = {
        level: {"median_mm": d, "mean_mm": d, "p90_mm": d, "normal_median": a, "normal_mean": a}
        for level, d, a in zip(LEVELS, distances, angles, strict=True)
    }
    row = {"subject": subject, "tone": tone, "case": case, "seconds": 1.0, "similarity": levels}
    return row | {"raw": levels} if raw else row


def test_truth_counts_what_a_comparison_counts(folder):
    truth = load_truth(folder)
    assert (
        200 < len(truth.points) <= POINTS
        and truth.tone == json.loads((folder / "subject.json").read_text())["skin_tone"]
    )
    assert np.linalg.norm(truth.points - truth.frame.nose_tip, axis=1).max() <= RADIUS_MM
    assert (truth.normals @ truth.frame.forward).min() > 0.0
    with np.load(folder / "truth.npz") as file:
        assert file["counted"][truth.chosen].all()
    assert np.array_equal(truth.scan.vertices[truth.chosen], truth.points)


def test_a_real_capture_needs_landmarks_on_its_scan(folder):
    with pytest.raises(InputError, match="--scan-landmarks"):
        load_truth(folder, folder / "scan.ply")
    truth = load_truth(folder, folder / "scan.ply", folder / "scan_ibug68.txt")
    assert truth.tone is None and len(truth.points) > len(load_truth(folder).points) * 0.9


def test_an_exact_fit_has_no_error_and_an_offset_is_measured(open_model):
    truth, exact = _exact(open_model)
    triangles = dict.fromkeys(LEVELS, open_model.triangles.numpy())
    found = numbers(level_errors(exact, triangles, truth, "raw"))
    assert found["M1"]["mean_mm"] < 1e-6 and found["M1"]["normal_median"] < 1e-3
    # Another size and place: nothing is left after a similarity, and M0's own error stays with M0.
    move = Similarity(1.07, rotation_from_vector(np.array([0.02, -0.03, 0.01])), np.array([3.0, -2.0, 5.0]))
    moved = Levels(
        {k: move(v) for k, v in exact.vertices.items()}, {k: move(v) for k, v in exact.landmarks.items()}, 1.0
    )
    moved.vertices["M0"] = moved.vertices["M0"] + np.array([0.0, 0.0, 4.0])
    raw, aligned = (numbers(level_errors(moved, triangles, truth, how)) for how in ("raw", "similarity"))
    assert raw["M1"]["median_mm"] > 1.0
    assert aligned["M1"]["mean_mm"] < 1e-3 and aligned["M0"]["mean_mm"] < 1e-2
    errors = vertex_errors(moved, truth, calibrated=False)
    assert np.nanmax(errors) < 1e-2 and np.isnan(errors).any()


def test_average_of_singles_is_the_mean_after_alignment(open_model):
    """Two copies with opposite bumps, one of them elsewhere and larger: the mean has none."""
    truth, exact = _exact(open_model)
    bump = np.exp(-(np.linalg.norm(exact.vertices["M1"] - truth.landmarks[2], axis=1) ** 2) / 200.0)[:, None] * [
        0,
        0,
        1.0,
    ]
    first, second = (
        Levels({k: v + sign * bump for k, v in exact.vertices.items()}, exact.landmarks, 2.0) for sign in (1.0, -1.0)
    )
    move = Similarity(1.2, rotation_from_vector(np.array([0.1, 0.2, 0.0])), np.array([10.0, 0.0, 50.0]))
    second = Levels(
        {k: move(v) for k, v in second.vertices.items()}, {k: move(v) for k, v in second.landmarks.items()}, 2.0
    )
    average = naive_average([first, second])
    assert average.vertices["M2"] == pytest.approx(exact.vertices["M2"], abs=1e-9) and average.seconds == 4.0


def test_kept_fits_round_trip_and_damaged_ones_are_made_again(open_model, tmp_path):
    _, exact = _exact(open_model)
    save_levels(tmp_path / "fits" / "a.npz", exact)
    found = read_levels(tmp_path / "fits" / "a.npz")
    assert found.vertices["M2"] == pytest.approx(exact.vertices["M2"], abs=1e-4) and found.seconds == 1.0
    (tmp_path / "b.npz").write_bytes((tmp_path / "fits" / "a.npz").read_bytes()[:1000])
    assert read_levels(tmp_path / "b.npz") is None and read_levels(tmp_path / "c.npz") is None


def test_cases():
    assert [case.name for case in chosen_cases(["one", "five"])] == [*(case.name for case in SINGLES), "five"]
    assert chosen_cases(None) == CASES
    assert {case.configuration for case in SINGLES} == {"photo"} and chosen_cases(["two"])[0].configuration == "session"


def _good_rows() -> list[dict]:
    rows = []
    for number in range(6):
        who, tone = f"subject {number}", number
        extra = 0.001 * number
        rows += [_row(who, case.name, tone, (1.1, 1.0, 1.0), (9.0, 9.0, 9.0)) for case in SINGLES]
        rows.append(_row(who, AVERAGE, tone, (1.0, 1.0, 1.0), (9.0, 9.0, 9.0), raw=False))
        for case, error in (("two", 0.3), ("three", 0.2), ("five", 0.1)):
            rows.append(_row(who, case, tone, (0.4, error + extra + 0.02, error + extra), (5.0, 4.0, 3.0)))
    return rows


def test_checks_hold_and_miss_as_they_should():
    rows = _good_rows()
    found = checks(rows)
    assert len(found) == 11 and all(check.holds for check in found)
    spoilt = [dict(row) for row in rows]
    worse = _row("subject 5", "five", 5, (0.4, 0.5, 0.3), (5.0, 4.0, 4.5))
    spoilt[[(r["subject"], r["case"]) for r in rows].index(("subject 5", "five"))] = worse
    missed = [check.text for check in checks(spoilt) if not check.holds]
    assert len(missed) == 3
    assert any("M1's distance" in text and "(five" in text for text in missed)
    assert any("M2's normals" in text and "(five" in text for text in missed)
    assert any("darkest third" in text for text in missed)
    # Fused no better than the average.
    equal = [_row(r["subject"], "five", r["tone"], (1.0,) * 3, (1.0,) * 3) if r["case"] == "five" else r for r in rows]
    assert any("naive average" in check.text and not check.holds for check in checks(equal))


def test_thirds_are_the_ends_of_the_tones():
    light, dark = thirds(_good_rows())
    assert light == ["subject 0", "subject 1"] and dark == ["subject 4", "subject 5"]


def test_the_same_person_in_two_skins_is_compared_with_itself():
    """Person 1 is hard in either skin; what counts is what the skin adds: (0.11 + 0.33) / (0.1 + 0.3) - 1 = 10 %."""
    rows = []
    for person, light in (("subject 0", 0.1), ("subject 1", 0.3)):
        for tone, error in ((0, light), (6, 1.1 * light)):
            row = _row(f"{person} in tone {tone}", "five", tone, (1.0, 0.5, error), (5.0, 4.0, 3.0))
            rows.append(row | {"person": person})
    assert skins(rows) == [(f"subject {k} in tone 0", f"subject {k} in tone 6") for k in (0, 1)]
    (check,) = [check for check in checks(rows) if "darkest" in check.text]
    assert check.holds and "same 2 persons" in check.text and "+10%" in check.found


def test_what_persons_differ_in_is_measured_in_one_skin():
    """Person 2 is dark and, in either skin, half as far off again as person 0: that much is not the skin's doing."""
    rows = []
    for number, error in enumerate((0.2, 0.9, 0.3)):
        for tone, worse in ((0, 1.0), (6, 1.2)):
            row = _row(f"subject {number} in tone {tone}", "five", tone, (1.0, 0.5, error * worse), (5.0, 4.0, 3.0))
            rows.append(row | {"person": f"subject {number}"})
    own = {"subject 0": 0, "subject 1": 3, "subject 2": 6}
    assert persons_share(rows, "five", own) == "five views 0.300 against 0.200 mm (+50%)"


def test_a_person_s_own_tone_needs_no_name():
    options = argparse.Namespace(real=None, renderer="quick", seeds=[11], tones=[0, 6], size=64, sensor="small")
    light, dark = command.subjects_of(options)
    assert usual_tone(11) == 6 and dark.settings == CaptureSettings(11, "quick", size=64, sensor="small")
    assert (light.name, light.person, dark.name) == ("subject 11 in tone 0", "subject 11", "subject 11")


def test_table_has_a_row_per_case_with_the_alignment_that_is_fair():
    lines = case_table(_good_rows(), ["one", AVERAGE, "two", "five"]).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [(row[0], row[1]) for row in cells] == [
        ("one", "similarity"), ("average of singles", "similarity"), ("two", "raw"), ("five", "raw"),
    ]  # fmt: skip
    assert cells[3][4] == "0.102"  # by hand: 0.1 plus the mean of 0 … 0.005


def test_gate_closes_where_a_figure_rises():
    rows = _good_rows()
    baseline = averages(rows)
    assert baseline["five"]["M2"]["mean_mm"] == pytest.approx(0.1025, abs=1e-4)
    assert regressions(averages(rows), baseline) == []
    worse = [
        _row(r["subject"], "five", r["tone"], (0.4, 0.13, 0.12), (5.0, 4.0, 3.0)) if r["case"] == "five" else r
        for r in rows
    ]
    lines = regressions(averages(worse), baseline)
    assert lines == ["five, M2, mean_mm: 0.1025 before, 0.12 now"]
    gone = regressions(averages([row for row in rows if row["case"] != "two"]), baseline)
    assert len(gone) == 6 and all("not measured now" in line for line in gone)
    bad = averages(rows)
    bad["five"]["M2"]["mean_mm"] = float("nan")
    assert regressions(bad, baseline) == ["five, M2, mean_mm: 0.1025 before, nan now"]


def test_command_fits_measures_and_writes(open_model, folder, tmp_path, capsys, monkeypatch):
    """One real fit of three small photographs, then the same from what was kept."""
    # The command's own edges of 0.4 mm take most of a minute to make and are lost on photographs of 128 px.
    make = command.subjects_of
    monkeypatch.setattr(command, "subjects_of", lambda options, edge_mm: make(options, 10 * edge_mm))
    arguments = ["--seeds", "1", "--renderer", "quick", "--size", "128", "--cases", "three", "--workers", "0"]
    arguments += ["--work", str(tmp_path), "--out", str(tmp_path / "sessions.json")]
    assert command.main(arguments) == 0
    assert "| three | raw |" in capsys.readouterr().out
    record = json.loads((tmp_path / "sessions.json").read_text())
    (row,) = record["rows"]
    assert {"date", "version", "device"} <= set(record) and row["raw"]["M1"]["mean_mm"] < 5.0
    kept = list((tmp_path / "fits").iterdir())
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    assert command.main(arguments) == 0
    assert json.loads((tmp_path / "sessions.json").read_text())["rows"] == record["rows"]
    assert kept[0].stat().st_mtime_ns == before


def test_bad_commands_are_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    assert commands.main() == 2 and "sessions" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sessions", "--real", str(tmp_path)])
    assert commands.main() == 2
    assert capsys.readouterr().err.startswith("error: ")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed", "--former", str(tmp_path)])
    assert commands.main() == 2 and "git worktree" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ablation.PAPER + ablation.OWN, ids=lambda variant: variant.name)
def test_ablations_are_configurations_that_run(variant):
    configuration = variant.configuration()
    check_configuration(configuration)
    assert variant.change is ablation.unchanged or configuration != load_configuration(variant.preset)


def test_what_an_ablation_leaves_out_is_gone():
    session = load_configuration("session")
    assert not any("contour" in s.energies for s in ablation.without_energy("contour")(session).stages)
    assert "m2" not in [s.name for s in ablation.without_stages("m2")(session).stages]
    descent = {s.name: s for s in ablation.by_descent("m1", "m1 fine", "m2")(session).stages}
    assert {descent[name].solver for name in ("m1", "m1 fine", "m2")} == {"gauss_newton"}
    grey = ablation.with_setting("consistency", "channel", "grey")(session).stages
    channels = {
        s.energies["consistency"].get("channel") for s in grey if s.solver != "adam" and "consistency" in s.energies
    }
    assert channels == {"grey"}
    with pytest.raises(ValueError, match="no stage"):
        ablation.without_stages("m7")(session)
    with pytest.raises(ValueError, match="no energy"):
        ablation.without_energy("magic")(session)


def test_report_is_made_from_the_files(tmp_path):
    record = {"size_px": 640, "date": "2026-01-02", "version": "0.1", "device": "a machine", "rows": _good_rows()}
    record["checks"] = [{"line": "a line", "holds": False, "found": "1 against 2"}]
    (tmp_path / "sessions.json").write_text(json.dumps(record))
    (tmp_path / "largest-errors.md").write_text("## Largest errors\n\nNoses.\n")
    text = report.document(tmp_path)
    assert "| five | raw |" in text and "**missed**: a line: 1 against 2" in text and "2026-01-02" in text
    assert "Noses." in text and "## Scans" not in text
    assert report.document().count("\n## ") >= 5, "the committed results make a report"


def test_mean_face_is_skin(open_model):
    vertices, triangles, used = mean_face()
    assert triangles.max() == len(vertices) - 1 == len(used) - 1
    assert not open_model.regions["mouth_inside"].numpy()[used].any()


def test_surfaces_are_measured_where_they_can_be_seen(open_model):
    """Through a closed cheek, its inside is not far: a similarity once laid a third of a face on it."""
    configuration = load_configuration("session")
    coarse, dense = (triangles_of(level, configuration) for level in ("M1", "M2"))
    inside = (open_model.regions["mouth_inside"] | open_model.regions["tongue"]).numpy()
    assert inside.any() and not inside[coarse].all(1).any()
    assert open_model.regions["eyes"].numpy()[coarse].all(1).any()
    hidden = open_model.hidden.numpy()[open_model.triangles.numpy()].all(1)
    assert len(coarse) == (~hidden).sum() and len(dense) == 4 * len(coarse)
