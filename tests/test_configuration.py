"""Configurations: presets, defaults, and one clear line for everything that is not one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

from fitter.errors import InputError
from fitter.optimise.config import (
    PRESETS,
    Maps,
    Pass,
    Stage,
    configuration_from,
    configuration_to_dict,
    load_configuration,
)
from fitter.optimise.run import SOLVERS, applies, check_configuration

MINIMAL = {"name": "x", "stages": [{"name": "start", "solver": "initialise"}]}


def _present() -> list[str]:
    from importlib import resources

    return [name for name in PRESETS if resources.files("configs").joinpath(f"{name}.yaml").is_file()]


@pytest.mark.parametrize("name", _present())
def test_presets_load_and_survive_a_round_trip(name, tmp_path):
    preset = load_configuration(name)
    assert preset.name == name and preset.stages
    assert all(stage.solver in SOLVERS for stage in preset.stages)
    check_configuration(preset)
    path = tmp_path / "same.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(configuration_to_dict(preset)))))
    assert load_configuration(str(path)) == preset


def test_the_session_preset_is_there():
    assert "session" in _present()
    names = [stage.name for stage in load_configuration("session").stages]
    assert names.index("start") < names.index("m0") < names.index("m1") < names.index("m2")


def test_defaults():
    configuration = configuration_from(MINIMAL, "here")
    assert configuration.maps == Maps(deformation=64, displacement=256, texture=1024, dense_levels=1)
    stage = configuration.stages[0]
    assert stage.views == "any" and stage.cameras == "any" and stage.free == () and stage.energies == {}
    assert Pass() == Pass(samples=192, image=512, steps=4)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"mapz": {}}, "mapz"),
        ({"maps": {"deformaton": 64}}, "maps.deformaton"),
        ({"stages": [{"name": "a", "solver": "initialise", "step": 3}]}, "stages.0.step"),
        ({"stages": [{"name": "a", "solver": "gauss_newton", "passes": [{"sample": 3}]}]}, "stages.0.passes.0.sample"),
        ({"stages": [{"name": "a", "solver": "newton"}]}, "stages.0.solver"),
        ({"stages": [{"name": "a", "solver": "gauss_newton", "free": ["pose"]}]}, "stages.0.free.0"),
        ({"stages": [{"name": "a", "solver": "gauss_newton", "steps": 0}]}, "stages.0.steps"),
        ({"stages": [{"name": "a", "solver": "gauss_newton", "steps": "many"}]}, "stages.0.steps"),
        ({"stages": [{"solver": "gauss_newton"}]}, "stages.0.name"),
        ({"maps": {"displacement": 100_000}}, "maps.displacement"),
        ({"expression_per_view": "sometimes"}, "expression_per_view"),
        ({"stages": 3}, "stages"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change, place):
    with pytest.raises(InputError) as caught:
        configuration_from(MINIMAL | change, "fit.yaml")
    line = str(caught.value)
    assert line.startswith("fit.yaml: ") and f"'{place}'" in line and "\n" not in line


@pytest.mark.parametrize("data", [None, [], "session", 3])
def test_what_is_no_mapping_is_refused(data):
    with pytest.raises(InputError):
        configuration_from(data, "fit.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [("name: [unclosed", "not YAML"), ("", "top level"), ("stages: []\n", "'name'"), ("name: x\n", "'stages'")],
)
def test_files_that_are_no_configuration(tmp_path, text, words):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_configuration(str(path))
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "picture.yaml"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        load_configuration(str(path))


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match="session"):
        load_configuration("sesion")


@pytest.mark.parametrize(
    ("views", "cameras", "expected"),
    [
        (1, True, {"any", "one", "known", "one known"}),
        (1, False, {"any", "one", "unknown"}),
        (3, True, {"any", "several", "known"}),
        (3, False, {"any", "several", "unknown", "several unknown"}),
    ],
)
def test_stages_apply_by_views_and_cameras(views, cameras, expected):
    stages = [
        Stage("any", "initialise"),
        Stage("one", "initialise", views="one"),
        Stage("several", "initialise", views="several"),
        Stage("known", "initialise", cameras="known"),
        Stage("unknown", "initialise", cameras="unknown"),
        Stage("one known", "initialise", views="one", cameras="known"),
        Stage("several unknown", "initialise", views="several", cameras="unknown"),
    ]
    problem = SimpleNamespace(cameras_known=cameras, observation=SimpleNamespace(view_count=views))
    assert {stage.name for stage in stages if applies(stage, problem)} == expected


@pytest.mark.parametrize(
    ("solver", "energies", "words"),
    [
        ("gauss_newton", {"landmrk": {"weight": 1.0}}, ("landmrk", "landmark")),
        ("gauss_newton", {"landmark": {"wieght": 1.0}}, ("wieght", "weight")),
        ("focal_search", {"consistency": {"low_pass": 1.0}}, ("low_pass", "lowpass")),
        ("adam", {"photometrc": {"weight": 1.0}}, ("photometrc", "photometric")),
        ("initialise", {"landmark": {"weight": 1.0}}, ("landmark", "initialise")),
        ("gauss_newton", {"landmark": {"weight": "heavy"}}, ("'heavy'", "weight", "a number")),
        ("gauss_newton", {"landmark": {"weight": -1.0}}, ("-1.0", "weight")),
        ("gauss_newton", {"landmark": {"sigma_mm": 0}}, ("sigma_mm", "above 0")),
        ("gauss_newton", {"consistency": {"sigma": float("nan")}}, ("nan", "sigma")),
        ("gauss_newton", {"consistency": {"lowpass": 0}}, ("lowpass", "above 0")),
        ("depth_sweep", {"consistency": {"mixture_width": 0}}, ("mixture_width", "above 0")),
        ("depth_sweep", {"depth": {"step_mm": [0.5, 0]}}, ("step_mm", "above 0")),
        ("depth_sweep", {"depth": {"reach": 4.0}}, ("'reach'", "reach_mm")),
        ("gauss_newton", {"consistency": {"mode": "lcm"}}, ("'lcm'", "gain or lcn")),
        ("gauss_newton", {"expression_prior": {"around": "begin"}}, ("'begin'", "zero or start")),
    ],
)
def test_energies_and_settings_that_a_solver_does_not_have(solver, energies, words):
    """A misspelt energy must not silently be left out of the fit."""
    free = ["deformation"] if solver == "depth_sweep" else []
    assert all(word in _refusal({"solver": solver, "free": free, "energies": energies}) for word in words)


@pytest.mark.parametrize(
    ("solver", "free", "words"),
    [
        ("depth_sweep", ["deformation", "camera_pose"], ("camera_pose", "deformation or displacement")),
        ("depth_sweep", [], ("nothing", "deformation or displacement")),
        ("ray_cast", ["deformation"], ("deformation", "displacement for ray_cast")),
    ],
)
def test_free_parameters_that_a_solver_does_not_move(solver, free, words):
    """What stays as it was must not look as if it had been fitted."""
    line = _refusal({"solver": solver, "free": free})
    assert "free" in line and all(word in line for word in words)


def _refusal(stage: dict) -> str:
    """The line with which a configuration of this one stage is refused."""
    configuration = configuration_from(MINIMAL | {"stages": [{"name": "second look", **stage}]}, "fit.yaml")
    with pytest.raises(InputError) as caught:
        check_configuration(configuration)
    line = str(caught.value)
    assert "second look" in line and "\n" not in line
    return line


@pytest.mark.parametrize("views", [1, 2, 3, 5])
@pytest.mark.parametrize("known", [True, False])
def test_each_number_of_views_has_one_way_to_its_maps(views, known):
    """One M0 and one first search, whichever stages the preset has for so many views."""
    problem = SimpleNamespace(
        observation=SimpleNamespace(view_count=views), cameras_known=known, scan=None, configuration=None
    )
    stages = [stage for stage in load_configuration("session").stages if applies(stage, problem)]
    first = [stage.name for stage in stages if stage.solver == "depth_sweep" and stage.passes[0].samples == 192]
    m0 = [
        stage.name
        for stage in stages
        if {"identity", "expression"} <= set(stage.free) and "consistency" in stage.energies
    ]
    if views == 1:
        assert not first and not m0
    else:
        assert len(first) == 1 and [name for name in m0 if name != "focal"] == m0[-1:]
        assert ("two views" in first[0]) == (views == 2 and known)
