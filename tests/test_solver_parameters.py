"""The dense parameters: every block of the Jacobian against finite differences through `take_step`."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from fitter.camera import project, transform_points
from fitter.hierarchy.face import FaceState, initial_state, m0_vertices, m1_vertices
from fitter.optimise.parameters import (
    DENSE,
    build_layout,
    parameter_jacobian,
    pixel_jacobian,
    rotation_from_vector,
    surface_points,
    take_step,
    world_points,
)
from fitter.optimise.views import SampledViews
from tests.factories import toy_camera, toy_model

MODEL = toy_model()


def turned(angles: tuple[float, float, float], translation: tuple[float, float, float]) -> torch.Tensor:
    """A rigid [4, 4] by Euler angles, composed by hand."""
    matrix = torch.eye(4, dtype=torch.float64)
    for axis, angle in enumerate(angles):
        one = torch.eye(3, dtype=torch.float64)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        cosine, sine = math.cos(angle), math.sin(angle)
        one[i, i] = one[j, j] = cosine
        one[i, j], one[j, i] = -sine, sine
        matrix[:3, :3] = one @ matrix[:3, :3]
    matrix[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return matrix


def toy_state(rows: int = 2) -> FaceState:
    """Two views of the toy face in a general position, everything away from zero and inside all bounds."""
    cameras = [toy_camera(-0.3), toy_camera(0.25)]
    state = initial_state(
        MODEL,
        torch.stack([c.intrinsics for c in cameras]),
        torch.stack([c.cam_from_world for c in cameras]),
        rows,
        (8, 32),
    )
    random = torch.Generator().manual_seed(4)
    return replace(
        state,
        identity=torch.randn(3, generator=random, dtype=torch.float64),
        expression=torch.rand(rows, 3, generator=random, dtype=torch.float64) * 0.6 + 0.2,
        log_scale=torch.tensor(0.07, dtype=torch.float64),
        world_from_model=turned((0.2, -0.1, 0.3), (12.0, -7.0, -40.0)),
        deformation=torch.randn(3, 8, 8, generator=random, dtype=torch.float64),
    )


def sampled_views(**given: torch.Tensor) -> SampledViews:
    """What views see, with ones for what a test does not care about."""
    return SampledViews(**{f.name: given.get(f.name, torch.ones(())) for f in fields(SampledViews)})


def test_shapes_that_are_kept_follow_their_coefficients():
    """Another tensor, another row, a change in place: each gives its own M0; the same ones give the same."""
    state = toy_state()

    def expected(now: FaceState, row: int) -> torch.Tensor:
        shape = MODEL.shape(now.identity, now.expression[row])
        return transform_points(now.world_from_model, shape * now.log_scale.exp())

    for row in (0, 1, 0):
        torch.testing.assert_close(m0_vertices(MODEL, state, row), expected(state, row))
    moved = replace(state, identity=state.identity + 1.0)
    torch.testing.assert_close(m0_vertices(MODEL, moved), expected(moved, 0))
    before = m0_vertices(MODEL, state)
    state.identity[0] += 2.0
    state.expression[0, 1] += 0.2
    torch.testing.assert_close(m0_vertices(MODEL, state), expected(state, 0))
    assert not torch.allclose(before, m0_vertices(MODEL, state))
    wanted = replace(state, identity=state.identity.clone().requires_grad_())
    assert m0_vertices(MODEL, wanted).requires_grad and not m0_vertices(MODEL, state).requires_grad
    with torch.inference_mode():
        inferred = replace(state, identity=state.identity * 1.0)
        torch.testing.assert_close(m0_vertices(MODEL, inferred), expected(inferred, 0))
        inferred.identity[1] -= 3.0
        torch.testing.assert_close(m0_vertices(MODEL, inferred), expected(inferred, 0))


def some_points(state: FaceState):
    """Landmarks of the toy model, riding on M1."""
    offsets = MODEL.landmarks(m1_vertices(MODEL, state) - m0_vertices(MODEL, state))
    return surface_points(MODEL, state, MODEL.landmarks.vertices, MODEL.landmarks.weights, offsets)


def camera_points(state: FaceState, view: int) -> torch.Tensor:
    """[K, 3] camera-frame landmarks, from the whole mesh."""
    world = MODEL.landmarks(m1_vertices(MODEL, state, state.expression_row(view)))
    return transform_points(state.cam_from_world[view], world)


def test_surface_points_lie_on_m1():
    state = toy_state()
    points = some_points(state)
    for row in range(2):
        expected = MODEL.landmarks(m1_vertices(MODEL, state, row))
        assert torch.allclose(world_points(state, points, row), expected, atol=1e-9)


def test_pixel_jacobian_is_that_of_the_projection():
    intrinsics = torch.tensor([[430.0, 1.5, 60.0], [0.0, 410.0, 80.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    points = torch.tensor([[10.0, -20.0, 600.0], [-60.0, 35.0, 750.0]], dtype=torch.float64)
    pixels, jacobian = pixel_jacobian(intrinsics, points)
    assert torch.allclose(pixels, project(points, intrinsics))
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-4
        numeric = (project(points + step, intrinsics) - project(points - step, intrinsics)) / 2e-4
        assert torch.allclose(jacobian[:, :, axis], numeric, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", ["head_pose", "scale", "camera_pose", "identity", "expression"])
def test_each_block_is_that_of_finite_differences(name, rows):
    state = toy_state(rows)
    points = some_points(state)
    layout = build_layout((name,), MODEL, state)
    directions = torch.eye(3, dtype=torch.float64).expand(len(points.offsets), 3, 3)
    for view in range(2):
        analytic = parameter_jacobian(state, layout, points, view, directions)
        for column in range(layout.size):
            step = torch.zeros(layout.size, dtype=torch.float64)
            step[column] = 1e-5
            up, down = (camera_points(take_step(state, layout, sign * step, True), view) for sign in (1, -1))
            numeric = (up - down) / 2e-5
            assert torch.allclose(analytic[..., column], numeric, rtol=1e-6, atol=1e-5), (view, column)


def test_one_direction_per_point_is_a_row_of_the_whole():
    state = toy_state()
    points = some_points(state)
    layout = build_layout(("head_pose", "scale", "camera_pose", "identity", "expression"), MODEL, state)
    direction = torch.randn(len(points.offsets), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = parameter_jacobian(
        state, layout, points, 1, torch.eye(3, dtype=torch.float64).expand(len(direction), 3, 3).contiguous()
    )
    alone = parameter_jacobian(state, layout, points, 1, direction)
    assert torch.allclose(alone, torch.einsum("kc,kcp->kp", direction, whole), atol=1e-9)


def test_layout_has_a_place_for_each_free_parameter():
    state = toy_state()
    layout = build_layout(DENSE, MODEL, state)
    assert layout.size == 6 + 1 + 12 + 1 + 3 + 6
    taken = torch.zeros(layout.size)
    for part in layout.slices.values():
        taken[part] += 1
    assert torch.equal(taken, torch.ones(layout.size))
    assert "deformation" not in build_layout(("deformation", "identity"), MODEL, state)
    assert layout.rows("camera_pose", 6, 1).stop == layout.slices["camera_pose"].stop


def test_rotation_from_vector():
    """A quarter turn about z takes x to y."""
    quarter = rotation_from_vector(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(quarter, expected, atol=1e-12)
    some = rotation_from_vector(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64))
    assert torch.allclose(some @ some.T, torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_a_step_keeps_poses_rigid_and_expressions_in_bounds():
    state = toy_state()
    layout = build_layout(DENSE, MODEL, state)
    step = torch.randn(layout.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = take_step(state, layout, step, True)
    for matrix in (moved.world_from_model, *moved.cam_from_world):
        assert torch.allclose(matrix[:3, :3] @ matrix[:3, :3].T, torch.eye(3, dtype=torch.float64), atol=1e-10)
    assert float(moved.expression.min()) >= 0.0 and float(moved.expression.max()) <= 1.0
    free = take_step(state, layout, step, False)
    part = layout.slices["expression"]
    assert torch.allclose(free.expression.flatten(), state.expression.flatten() + step[part])
    factor = step[layout.slices["focal"]].exp()
    assert torch.allclose(moved.intrinsics[:, 0, 0], state.intrinsics[:, 0, 0] * factor)
    assert torch.allclose(moved.intrinsics[:, 1, 1], state.intrinsics[:, 1, 1] * factor)
    assert torch.equal(moved.intrinsics[:, :2, 2], state.intrinsics[:, :2, 2])
    assert torch.equal(take_step(state, layout, 0 * step, True).identity, state.identity)


def test_turning_the_head_leaves_its_centre():
    state = toy_state()
    layout = build_layout(("head_pose", "camera_pose"), MODEL, state)
    step = torch.zeros(layout.size, dtype=torch.float64)
    step[:3] = torch.tensor([0.3, -0.2, 0.5])
    step[layout.rows("camera_pose", 6, 0)] = torch.tensor([0.1, 0.2, -0.1, 0, 0, 0], dtype=torch.float64)
    moved = take_step(state, layout, step, True)
    centre = state.world_from_model[:3, 3]
    assert torch.allclose(moved.world_from_model[:3, 3], centre)
    for before, after in zip(state.cam_from_world, moved.cam_from_world, strict=True):
        seen = [transform_points(matrix, centre[None]) for matrix in (before, after)]
        assert torch.allclose(*seen, atol=1e-9)
