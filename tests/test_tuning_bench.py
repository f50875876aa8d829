"""The benchmark of weights: a change is what it says, and a figure is what it was made of."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tuning import AS_IT_IS, SETTINGS, Setting, changes, main, table, variants_of
from fitter.errors import InputError
from fitter.optimise.config import load_configuration


def _row(variant: str, person: str, distance: float, angle: float = 2.0) -> dict:
    measured = {"M2": {"mean_mm": distance, "normal_median": angle}}
    return {"variant": variant, "subject": person, "person": person, "views": "three", "raw": measured}


def test_every_setting_is_one_of_the_preset():
    found = variants_of(load_configuration("session"), SETTINGS)
    assert len(found) == 1 + sum(len(setting.factors) for setting in SETTINGS)
    assert all(one != found[AS_IT_IS] for name, one in found.items() if name != AS_IT_IS)


def test_a_setting_changes_its_number_and_no_other():
    preset = load_configuration("session")
    changed = Setting(("m1",), "smoothness", "bilaplacian").scaled(preset, 2.0)
    for before, after in zip(preset.stages, changed.stages, strict=True):
        if before.name != "m1":
            assert before == after
            continue
        assert after.energies["smoothness"]["bilaplacian"] == [
            2 * x for x in before.energies["smoothness"]["bilaplacian"]
        ]
        after.energies["smoothness"]["bilaplacian"] = before.energies["smoothness"]["bilaplacian"]
        assert before == after
    steps = Setting(("m1 fine",), "passes", "steps").scaled(preset, 0.5)
    (fine,) = (stage for stage in steps.stages if stage.name == "m1 fine")
    (usual,) = (stage for stage in preset.stages if stage.name == "m1 fine")
    assert [one.steps for one in fine.passes] == [one.steps // 2 for one in usual.passes]


@pytest.mark.parametrize(
    "setting", [Setting(("m3",), "smoothness", "bilaplacian"), Setting(("m1",), "smoothness", "weight")]
)
def test_a_setting_that_is_not_there_is_one_line(setting):
    with pytest.raises(InputError, match="no (stage m3|setting smoothness weight)"):
        setting.scaled(load_configuration("session"), 2.0)


def test_changes_are_ratios_on_the_same_person():
    """0.1 to 0.11 and 0.4 to 0.44 are 10 % each, though the means' difference lies with the second person."""
    rows = [_row(AS_IT_IS, "a", 0.1), _row(AS_IT_IS, "b", 0.4), _row("s = × 2", "b", 0.44), _row("s = × 2", "a", 0.11)]
    values, persons = changes(rows, "s = × 2", "mean_mm")
    np.testing.assert_allclose(np.expm1(values), [0.1, 0.1])
    assert persons.tolist() == ["b", "a"]
    rows += [_row("s = × 0.5", "a", 0.09), _row("s = × 0.5", "b", 0.44)]
    first, second = table(rows).splitlines()[2:]
    assert "+10.0 %" in first and first.endswith("| worse |")
    assert "| s | × 0.5 |" in second and second.endswith("|  |"), "one gains, one loses: no verdict"


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(InputError, match="no setting with nose"):
        main(["--only", "nose", "--out", str(tmp_path / "x.json")])
