"""What scanned people share: the shrunken mean by hand, maps to coefficients and back, and what a fit makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.fit import FitOptions, build_problem
from fitter.hierarchy.face import m1_vertices
from fitter.hierarchy.grid import sample_map
from fitter.hierarchy.people import identity_of_offset, people_of
from fitter.optimise.config import Stage, load_configuration
from fitter.optimise.gauss_newton import run_gauss_newton
from fitter.optimise.run import run_stages
from fitter.optimise.start import run_usual_deformation
from priors.people import main, on_atlas, people_from, shared_part, symmetric
from tests.recovery_scene import as_scanned, known_face


def test_the_shared_part_by_hand():
    """Three people at 3, 4 and 5: mean 4, its variance 1 / 3, so 1 - (1 / 3) / 16 of it is kept."""
    found, factor = shared_part(torch.tensor([[3.0], [4.0], [5.0]]))
    assert factor == pytest.approx(1.0 - 1.0 / 48.0)
    assert float(found) == pytest.approx(4.0 * factor)
    # People on both sides of the mean face share nothing.
    assert shared_part(torch.tensor([[-1.0], [0.1], [1.0]]))[1] == 0.0


def test_a_symmetric_map_is_its_own_mirror_image():
    grid = torch.arange(12.0).reshape(3, 1, 4)
    found = symmetric(grid)
    assert found[0, 0].tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert found[1, 0].tolist() == [5.5] * 4


def test_coefficients_come_back_from_the_map_of_their_offset(open_model):
    """A known identity as a map, read back: the face is the same to a tenth of a millimetre."""
    identity = torch.from_numpy(np.random.default_rng(3).normal(0.0, 0.7, open_model.identity_basis.shape[-1])).float()
    offset = open_model.identity_basis @ identity
    grid = on_atlas(open_model, offset)
    found = identity_of_offset(open_model, sample_map(grid, open_model.atlas_uv))
    face = open_model.regions["face"] & open_model.regions["skin"]
    distance = (open_model.identity_basis @ found - offset)[face].norm(dim=1)
    assert float(distance.median()) < 0.1 and float(offset[face].norm(dim=1).median()) > 1.0


def test_the_shipped_prior_is_symmetric_and_of_the_open_model_alone(open_model):
    people = people_of(open_model)
    assert 2.0 < float(people.identity.norm()) < 6.0
    assert torch.allclose(people.deformation, symmetric(people.deformation), atol=1e-3)
    assert 0.1 < float(people.deformation.square().sum(0).mean().sqrt()) < 1.0
    assert people_of(replace(open_model, name="bfm2009")) is None


def test_without_data_the_identity_is_that_of_people(open_model):
    """A Gauss-Newton stage with nothing but priors ends at their centre."""
    face = known_face(open_model, size=96, yaws=(0.0,))
    problem, state = build_problem(face.session, open_model, load_configuration("photo"), FitOptions())
    stage = Stage("prior", "gauss_newton", ("identity",), {"identity_prior": {"around": "people"}}, steps=2)
    found, _ = run_gauss_newton(problem, state, stage)
    assert torch.allclose(found.identity, people_of(open_model).identity, atol=1e-3)
    stage = replace(stage, energies={"identity_prior": {}})
    assert float(run_gauss_newton(problem, found, stage)[0].identity.norm()) < 1e-3


def test_adam_is_drawn_to_people_as_well_and_m1_begins_with_their_deformation(open_model):
    face = known_face(open_model, size=96, yaws=(0.0,))
    prior = Stage(
        "prior", "adam", ("identity",), {"identity_prior": {"weight": 1.0, "around_people": True}},
        image=64, steps=200, learning_rates={"identity": 0.1},
    )  # fmt: skip
    configuration = replace(load_configuration("photo"), stages=(prior,))
    problem, state = build_problem(face.session, open_model, configuration, FitOptions())
    people = people_of(open_model)
    found, _ = run_stages(problem, state)
    assert float((found.identity - people.identity).norm()) < 0.1 * float(people.identity.norm())
    begun, log = run_usual_deformation(problem, state, prior)
    assert log.note == "" and torch.allclose(begun.deformation, people.deformation)
    assert float((m1_vertices(open_model, begun) - m1_vertices(open_model, state)).norm(dim=1).max()) > 0.1
    # Nothing that the stage adds is asked for: what it began with is not smoothed away.
    smooth = replace(
        prior,
        free=("deformation",),
        energies={
            "bilaplacian": {"weight": 1000.0, "around_start": True},
            "deformation_magnitude": {"weight": 1.0, "around_start": True},
        },
        learning_rates={"deformation": 0.03},
        steps=20,
    )
    problem = replace(problem, configuration=replace(configuration, stages=(smooth,)))
    kept, _ = run_stages(problem, begun)
    assert torch.allclose(kept.deformation, begun.deformation, atol=1e-5)
    foreign = replace(problem, model=replace(open_model, name="bfm2009"))
    kept, log = run_usual_deformation(foreign, state, prior)
    assert torch.equal(kept.deformation, state.deformation) and "bfm2009" in log.note


def test_people_with_one_deformation_give_it_back(open_model, tmp_path):
    """Three scans of different persons with one deformation map: it, and no identity, is what they share."""
    scans = []
    for seed in (1, 2, 3):
        known = known_face(open_model, size=64, seed=seed, yaws=(0.0,))
        usual = people_of(open_model).deformation * 2.0
        state = replace(known.state, deformation=usual, world_from_model=torch.eye(4))
        vertices, triangles, _ = as_scanned(replace(known, vertices=m1_vertices(open_model, state)), open_model)
        path = tmp_path / f"{seed}.obj"
        rows = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices]
        path.write_text("\n".join(rows + [f"f {a} {b} {c}" for a, b, c in triangles + 1]) + "\n")
        scans.append(path)
    maps, about = people_from(scans, open_model, "mm")
    assert about["people"] == "3" and float(about["deformation_factor"]) > float(about["identity_factor"])
    found, wanted = maps["deformation"].float(), people_of(open_model).deformation * 2.0
    inner = slice(16, 48)
    agreement = torch.nn.functional.cosine_similarity(
        found[:, inner, inner].flatten(), wanted[:, inner, inner].flatten(), dim=0
    )
    assert float(agreement) > 0.5


def test_too_few_scans(tmp_path, capsys):
    assert main([str(tmp_path / "one.ply"), "--out", str(tmp_path / "people.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "at least 3" in error and not (tmp_path / "people.safetensors").exists()
