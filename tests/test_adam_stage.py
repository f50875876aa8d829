"""Adam stages: recovery of what is known, skin tone, several views, interruption, determinism."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fitter.errors import InputError
from fitter.hierarchy.face import m1_vertices
from fitter.optimise.adam import StageContext, run_adam_stage
from fitter.optimise.config import Stage
from fitter.optimise.mean_of_views import mean_of_views
from tests.adam_scenes import known_state, photograph, small_model


def stage(free, energies, **changes) -> Stage:
    """An Adam stage at 96 px."""
    weighted = {name: {"weight": 1.0} | settings for name, settings in energies.items()}
    values = {"image": 96, "steps": 60} | changes
    return Stage(name="test", solver="adam", free=free, energies=weighted, **values)


def face_error(model, found, truth) -> float:
    """Mean distance of corresponding face vertices, mm."""
    face = model.regions["face"]
    return float((m1_vertices(model, found) - m1_vertices(model, truth))[face].norm(dim=-1).mean())


def test_identity_and_expression_come_back_from_colours_and_landmarks():
    model = small_model()
    identity, expression = torch.tensor([0.6, -0.4, 1.0]), torch.tensor([[0.5, 0.0, 0.3]])
    truth = known_state(model, (0.25,), identity=identity, expression=expression)
    start = known_state(model, (0.25,))
    free = ("identity", "expression")
    rates = {"identity": 0.05, "expression": 0.03}
    plan = stage(free, {"photometric": {}, "landmark": {"weight": 20.0}}, learning_rates=rates)
    found, log = run_adam_stage(model, start, photograph(model, truth), plan, StageContext())
    assert face_error(model, start, truth) > 1.4
    assert face_error(model, found, truth) < 0.3
    assert log.steps == 60
    assert all(after < 0.3 * before for before, after in log.energies.values())
    assert log.residuals["landmark_px"] < 0.3


def test_pose_and_deformation_come_back():
    model = small_model()
    truth = known_state(model, (-0.3, 0.3))
    axis = torch.linspace(-1, 1, 16)
    bump = 3.0 * torch.exp(-((axis[:, None] - 0.1) ** 2 + axis[None] ** 2) / 0.15)
    truth = replace(truth, deformation=torch.stack([0 * bump, 0 * bump, bump]))
    turned = truth.world_from_model.clone()
    turned[:3, 3] = torch.tensor([1.5, -1.0, 0.0])
    start = replace(known_state(model, (-0.3, 0.3)), world_from_model=turned)
    energies = {"photometric": {}, "landmark": {"weight": 20.0}, "bilaplacian": {"weight": 10.0}}
    rates = {"deformation": 0.1, "head_pose": 0.1}
    plan = stage(("head_pose", "deformation"), energies, learning_rates=rates, steps=80)
    found, _ = run_adam_stage(model, start, photograph(model, truth), plan, StageContext())
    assert face_error(model, found, truth) < 0.45 * face_error(model, start, truth)


def test_dark_skin_gives_the_same_geometry():
    model = small_model()
    errors, found = [], []
    for tone in (1.0, 1 / 3):
        toned = replace(model, albedo_mean=model.albedo_mean * tone, albedo_basis=model.albedo_basis * tone)
        truth = known_state(toned, (0.25,), identity=torch.tensor([0.6, -0.4, 1.0]))
        # The fit knows light skin only: the light has to take the difference.
        start = known_state(model, (0.25,))
        start = replace(start, lighting=start.lighting * tone)
        plan = stage(("identity",), {"robust_photometric": {}}, learning_rates={"identity": 0.05}, steps=50)
        fit, _ = run_adam_stage(model, start, photograph(toned, truth), plan, StageContext())
        errors.append(face_error(model, fit, truth))
        found.append(fit)
    assert face_error(model, found[0], found[1]) < 0.15 * errors[0] + 0.02


def test_displacements_are_per_view_and_fused_where_seen():
    model = small_model()
    state = known_state(model, (-0.5, 0.5))
    ripple = 0.3 * torch.sin(torch.arange(32) * 1.3).expand(32, 32)
    truth = replace(state, displacement=ripple)
    plan = stage(("displacement",), {"photometric": {"levels": ["m2"]}, "displacement_l1": {"weight": 0.01}}, steps=5)
    found, _ = run_adam_stage(model, state, photograph(model, truth), plan, StageContext())
    assert found.displacement.shape == (32, 32)
    assert bool(torch.isfinite(found.displacement).all())
    assert float(found.displacement[:2].abs().max()) < 1e-3  # the map's rim belongs to the neck


def test_runs_repeat_to_the_bit_and_report_every_step():
    model = small_model()
    truth = known_state(model, (0.2,), identity=torch.tensor([0.5, 0.0, 0.5]))
    start = known_state(model, (0.2,))
    seen: list[tuple[int, int]] = []
    context = StageContext(on_step=lambda name, step, steps, energies: seen.append((step, steps)))
    plan = stage(("identity", "lighting"), {"photometric": {}, "landmark": {}}, steps=6)
    runs = [run_adam_stage(model, start, photograph(model, truth), plan, context)[0] for _ in range(2)]
    assert seen[:6] == [(k, 6) for k in range(1, 7)]
    for name, value in runs[0].tensors().items():
        assert torch.equal(value, runs[1].tensors()[name]), name


def test_an_interrupt_leaves_the_state_as_it_was():
    model = small_model()
    state = known_state(model, (0.2,), identity=torch.tensor([0.5, 0.0, 0.5]))
    before = {name: value.clone() for name, value in state.tensors().items()}

    def interrupt(name, step, steps, energies):
        raise KeyboardInterrupt

    plan = stage(("identity", "head_pose", "deformation"), {"landmark": {}, "identity_prior": {}}, steps=3)
    with pytest.raises(KeyboardInterrupt):
        run_adam_stage(model, state, photograph(model, state), plan, StageContext(on_step=interrupt))
    for name, value in state.tensors().items():
        assert torch.equal(value, before[name]), name


def test_named_expressions_stay_in_their_interval():
    model = small_model()
    truth = known_state(model, (0.0,))
    plan = stage(("expression",), {"landmark": {}}, learning_rates={"expression": 0.3}, steps=4)
    shut = replace(truth, expression=torch.full((1, 3), 0.9))
    found, _ = run_adam_stage(model, shut, photograph(model, truth), plan, StageContext())
    assert float(found.expression.min()) >= 0.0 and float(found.expression.max()) <= 1.0


def test_an_energy_that_is_not_finite_ends_in_one_line():
    model = small_model()
    state = known_state(model, (0.0,))
    observation = photograph(model, state)
    observation = replace(observation, landmarks=observation.landmarks * float("nan"))
    plan = stage(("identity",), {"landmark": {}}, steps=2)
    with pytest.raises(InputError, match="not finite: landmark"):
        run_adam_stage(model, state, observation, plan, StageContext())


def test_the_mean_of_views_shares_identity_and_keeps_expressions():
    model = small_model()
    state = replace(known_state(model, (-0.3, 0.3)), expression=torch.zeros(2, 3))
    observation = photograph(model, known_state(model, (-0.3, 0.3)))
    count = 0

    def run(alone, seen, stages):
        nonlocal count
        count += 1
        assert alone.view_count == seen.view_count == 1
        return replace(alone, identity=alone.identity + count, expression=alone.expression + 0.1 * count)

    mean = mean_of_views(state, observation, (), run, cameras_known=True)
    assert torch.allclose(mean.identity, torch.full((3,), 1.5))
    assert torch.allclose(mean.expression[:, 0], torch.tensor([0.1, 0.2]))
    assert torch.equal(mean.cam_from_world, state.cam_from_world)


def test_a_learning_rate_of_nothing_is_refused():
    model = small_model()
    state = known_state(model, (0.0,))
    plan = stage(("identity",), {"identity_prior": {}}, learning_rates={"identiy": 0.1})
    with pytest.raises(InputError, match="no parameter 'identiy'"):
        run_adam_stage(model, state, photograph(model, state), plan, StageContext())
