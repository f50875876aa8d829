"""Energies as normal equations: gradients against autograd, priors by hand, bounded steps against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from fitter.camera import project, transform_points
from fitter.energies.consistency import ConsistencyTerms
from fitter.optimise.dense_terms import (
    NormalEquations,
    consistency_equations,
    landmark_equations,
    prior_equations,
    solve_step,
)
from fitter.optimise.parameters import (
    DENSE,
    Layout,
    build_layout,
    parameter_jacobian,
    take_step,
    world_points,
)
from tests.test_solver_parameters import MODEL, sampled_views, some_points, toy_state


def _expression_problem(seed: int, size: int = 9):
    """A least-squares problem in expressions alone whose free minimum lies outside [0, 1] in several places."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(30, size))
    target = random.normal(size=30) * 3
    value = random.uniform(0.05, 0.95, size)
    matrix, gradient = rows.T @ rows, rows.T @ (rows @ value - target)
    equations = NormalEquations(torch.from_numpy(matrix), torch.from_numpy(gradient))
    layout = Layout({"expression": slice(0, size)}, size, 1, 1)
    state = replace(toy_state(1), expression=torch.from_numpy(value)[None])
    best = lsq_linear(rows, target, bounds=(0.0, 1.0), method="bvls", tol=1e-12).x
    return equations, layout, state, value, best


def _cost(equations: NormalEquations, step: np.ndarray) -> float:
    return float(2 * equations.gradient.numpy() @ step + step @ equations.matrix.numpy() @ step)


@pytest.mark.parametrize("seed", range(8))
def test_bounded_step_against_scipy(seed):
    equations, layout, state, value, best = _expression_problem(seed)
    step = solve_step(equations, layout, state, True).numpy()
    np.testing.assert_allclose(value + step, best, atol=1e-4)
    assert 0 < ((best < 1e-9) | (best > 1 - 1e-9)).sum() < len(best), "the case must meet bounds, and not in all"
    assert _cost(equations, step) < 0


def test_step_is_the_minimum_where_no_bound_is_met():
    random = np.random.default_rng(0)
    rows = random.normal(size=(20, 3))
    value = np.array([0.4, 0.5, 0.6])
    target = rows @ (value + np.array([0.1, -0.2, 0.1]))
    equations = NormalEquations(torch.from_numpy(rows.T @ rows), torch.from_numpy(rows.T @ (rows @ value - target)))
    state = replace(toy_state(1), expression=torch.from_numpy(value)[None])
    step = solve_step(equations, Layout({"expression": slice(0, 3)}, 3, 1, 1), state, True)
    np.testing.assert_allclose(step.numpy(), [0.1, -0.2, 0.1], atol=1e-5)


def test_unnamed_expressions_are_not_bounded():
    equations, layout, state, value, _ = _expression_problem(0)
    step = solve_step(equations, layout, state, False).numpy()
    free = -np.linalg.solve(equations.matrix.numpy(), equations.gradient.numpy())
    np.testing.assert_allclose(step, free, rtol=1e-4, atol=1e-4)
    assert (value + free).max() > 1.0 or (value + free).min() < 0.0


def test_a_held_expression_pulls_the_others_along():
    """Two coupled unknowns, by hand: with the first held at its bound, the second is the minimum given the first."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    equations = NormalEquations(matrix, torch.tensor([4.0, 0.0], dtype=torch.float64))
    state = replace(toy_state(1), expression=torch.tensor([[0.3, 0.2]], dtype=torch.float64))
    step = solve_step(equations, Layout({"expression": slice(0, 2)}, 2, 1, 1), state, True)
    np.testing.assert_allclose(step.numpy(), [-0.3, 0.15], atol=1e-5)


def test_parameters_that_nothing_depends_on_do_not_move():
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0, 0] = 2.0
    equations = NormalEquations(matrix, torch.tensor([-2.0, 0, 0, 0], dtype=torch.float64))
    step = solve_step(equations, Layout({"identity": slice(0, 4)}, 4, 1, 1), toy_state(1), True)
    np.testing.assert_allclose(step.numpy(), [1.0, 0, 0, 0], atol=1e-5)


def _landmark_energy(state, points, layout, step, targets, weight, sigmas, robust):
    """Cauchy energy along a step, written for autograd with everything that the Jacobian linearises."""
    total = 0.0
    for view in range(state.view_count):
        world = world_points(state, points, state.expression_row(view))
        cam = transform_points(state.cam_from_world[view], world)
        directions = torch.eye(3, dtype=torch.float64).expand(len(cam), 3, 3).contiguous()
        moved = cam + parameter_jacobian(state, layout, points, view, directions) @ step
        intrinsics = state.intrinsics[view].clone()
        pixels = project(moved, intrinsics)
        if "focal" in layout:
            centre = intrinsics[:2, 2]
            pixels = centre + (pixels - centre) * step[layout.slices["focal"]].exp()
        squared = ((pixels - targets[view]) / sigmas[view]).square().sum(-1)
        total = total + (weight[view] * robust**2 * torch.log1p(squared / robust**2)).sum()
    return total


def _projected(state, points) -> torch.Tensor:
    """[2, K, 2] px."""
    seen = [transform_points(state.cam_from_world[v], world_points(state, points, v)) for v in range(2)]
    return torch.stack([project(cam, intrinsics) for cam, intrinsics in zip(seen, state.intrinsics, strict=True)])


def _landmark_case(free: tuple[str, ...]):
    state = toy_state()
    points = some_points(state)
    layout = build_layout(free, MODEL, state)
    random = torch.Generator().manual_seed(7)
    sigmas = []
    for view in range(2):
        depth = transform_points(state.cam_from_world[view], world_points(state, points, view))[:, 2]
        sigmas.append(2.0 * state.intrinsics[view, 0, 0] / depth.mean())
    targets = _projected(state, points)
    targets = targets + 3.0 * torch.randn(targets.shape, generator=random, dtype=torch.float64)
    weight = torch.rand(2, 68, generator=random, dtype=torch.float64)
    weight[0, :5] = 0.0
    return state, points, layout, targets, weight, sigmas


@pytest.mark.parametrize("free", [DENSE, ("focal",), ("head_pose", "identity")])
def test_landmark_gradient_is_that_of_autograd(free):
    state, points, layout, targets, weight, sigmas = _landmark_case(free)
    equations, distance = landmark_equations(state, layout, points, targets, weight, 2.0)
    step = torch.zeros(layout.size, dtype=torch.float64, requires_grad=True)
    energy = _landmark_energy(state, points, layout, step, targets, weight, sigmas, 2.0)
    (gradient,) = torch.autograd.grad(energy, step)
    assert torch.allclose(2.0 * equations.gradient, gradient, rtol=1e-6, atol=1e-6)
    pixels = _projected(state, points)
    assert torch.allclose(distance, (pixels - targets).norm(dim=-1))


def test_a_dropped_landmark_does_not_matter():
    state, points, layout, targets, weight, _ = _landmark_case(("head_pose",))
    first, _ = landmark_equations(state, layout, points, targets, weight, 2.0)
    targets[0, :5] += 500.0
    second, _ = landmark_equations(state, layout, points, targets, weight, 2.0)
    assert torch.equal(first.matrix, second.matrix) and torch.equal(first.gradient, second.gradient)


def test_landmark_steps_find_exact_landmarks():
    """From a disturbed state, Gauss-Newton reaches landmarks that the model can reach."""
    truth = toy_state()
    points = some_points(truth)
    targets = _projected(truth, points)
    layout = build_layout(("head_pose", "identity", "expression"), MODEL, truth)
    random = torch.Generator().manual_seed(2)
    start = take_step(truth, layout, 0.05 * torch.randn(layout.size, generator=random, dtype=torch.float64), True)
    state = start
    for _ in range(12):
        equations, distance = landmark_equations(
            state, layout, some_points(state), targets, torch.ones(2, 68, dtype=torch.float64), 2.0
        )
        state = take_step(state, layout, solve_step(equations, layout, state, True), True)
    assert float(distance.max()) < 1e-4
    assert torch.allclose(state.identity, truth.identity, atol=1e-3)


@pytest.mark.parametrize("free", [DENSE, ("head_pose", "scale", "identity", "expression")])
def test_consistency_equations_are_the_sum_over_samples(free):
    """Against a loop over channels and samples: the weighted mean of the views' rows is taken out, then rows are squared.

    With cameras of their own the views' rows are kept apart; else they meet in a matrix per point, with the same sum.
    """
    state = toy_state() if free == DENSE else replace(toy_state(), expression=toy_state().expression[:1])
    points = some_points(state)
    layout = build_layout(free, MODEL, state)
    random = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    count, size = 68, 10
    texels = torch.randperm(size * size, generator=random)[:count]
    pixels, gradient = draw(2, count, 2) * 50, draw(2, count, 2)
    channels, energies = [], []
    for _ in range(2):
        channels.append(sampled_views(direction_cam=draw(2, count, 3), pixel_gradient=gradient, pixels=pixels))
        weight = draw(2, size, size).abs() * (draw(2, size, size) > -0.5)
        energies.append(ConsistencyTerms(draw(2, size, size), draw(2, size, size), weight, *torch.zeros(3)))
    found = consistency_equations(state, layout, points, channels, energies, texels, 0.3)
    matrix, vector, energy = torch.zeros(layout.size, layout.size).double(), torch.zeros(layout.size).double(), 0.0
    for sampled, terms in zip(channels, energies, strict=True):
        rows = []
        for view in range(2):
            row = parameter_jacobian(state, layout, points, view, sampled.direction_cam[view])
            if "focal" in layout:
                offset = pixels[view] - state.intrinsics[view, :2, 2]
                row[:, layout.slices["focal"]] = (gradient[view] * offset).sum(1, keepdim=True)
            rows.append(row)
        for k, texel in enumerate(texels.tolist()):
            i, j = divmod(texel, size)
            weight, slope, residual = terms.weight[:, i, j], terms.slope[:, i, j], terms.residual[:, i, j]
            scaled = torch.stack([rows[v][k] * slope[v] for v in range(2)])
            mean = (weight[:, None] * scaled).sum(0) / weight.sum().clamp_min(1e-6)
            for view in range(2):
                row = scaled[view] - mean
                matrix += 0.3 * weight[view] * torch.outer(row, row)
                vector += 0.3 * weight[view] * residual[view] * row
                energy += 0.3 * float(weight[view] * residual[view] ** 2)
    assert torch.allclose(found.matrix, matrix, rtol=1e-8, atol=1e-8)
    assert torch.allclose(found.gradient, vector, rtol=1e-8, atol=1e-8)
    assert found.energy == pytest.approx(energy)


def test_prior_by_hand():
    state = toy_state(1)
    layout = build_layout(("scale", "expression"), MODEL, state)
    centre = torch.full((1, 3), 0.5, dtype=torch.float64)
    found = prior_equations(layout, "expression", state.expression, centre, 0.25)
    expected = 16.0 * (state.expression[0] - 0.5)
    assert torch.allclose(found.gradient, torch.cat([torch.zeros(1, dtype=torch.float64), expected]))
    assert torch.allclose(found.matrix, torch.diag(torch.tensor([0.0, 16, 16, 16], dtype=torch.float64)))
    assert found.energy == pytest.approx(float(16 * (state.expression - 0.5).square().sum()))
    absent = prior_equations(layout, "identity", state.identity, state.identity, 1.0)
    assert float(absent.matrix.abs().max()) == 0.0
