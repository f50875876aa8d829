"""Gauss-Newton on maps: the matrix-free step against the assembled normal equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.energies.consistency import ConsistencyTerms
from fitter.hierarchy.grid import GridSampling, laplacian
from fitter.optimise.config import Stage
from fitter.optimise.conjugate_gradient import solve
from fitter.optimise.map_settings import map_weights, softened_weights
from fitter.optimise.map_solver import (
    BlockField,
    MapWeights,
    clamp_step,
    deformation_blocks,
    displacement_blocks,
    fade_border,
    map_step,
    roughness,
    softened,
    world_directions,
)
from fitter.optimise.problem import StageLog
from tests.test_solver_parameters import sampled_views, toy_state

R, S = 8, 20
CPU = torch.device("cpu")


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _columns(function, channels: int) -> np.ndarray:
    """The matrix of a linear function of maps [C, R, R], column by column."""
    units = torch.eye(channels * R * R, dtype=torch.float64).view(-1, channels, R, R)
    return np.stack([function(unit).flatten().numpy() for unit in units], 1)


def _case(channels: int, seed: int = 0):
    root = _random(channels, channels, S, S, seed=seed)
    matrix = torch.einsum("ikab,jkab->ijab", root, root)
    matrix[..., : S // 3, :] = 0.0  # a part that no data reaches
    gradient = _random(channels, S, S, seed=seed + 1)
    gradient[..., : S // 3, :] = 0.0
    return _random(channels, R, R, seed=seed + 2), BlockField(matrix, gradient)


def _dense_solution(current, blocks, sampling, weights, tangential=None) -> np.ndarray:
    """argmin over the step of data + regularisation of (current + step), by numpy."""
    channels = current.shape[0]
    interpolation = _columns(sampling.apply, channels)
    size = S * S
    data = np.zeros((channels * size, channels * size))
    for i in range(channels):
        for j in range(channels):
            block = blocks.matrix[i, j].flatten().numpy()
            data[i * size + np.arange(size), j * size + np.arange(size)] = block
    smooth = weights.magnitude * np.eye(channels * R * R)
    smooth -= weights.laplacian * _columns(laplacian, channels)
    smooth += weights.bilaplacian * _columns(lambda grid: laplacian(laplacian(grid)), channels)
    if tangential is not None:
        texels = R * R
        for i in range(channels):
            for j in range(channels):
                part = weights.tangential * tangential[i, j].flatten().numpy()
                smooth[i * texels + np.arange(texels), j * texels + np.arange(texels)] += part
    normal = interpolation.T @ data @ interpolation + smooth
    right = -interpolation.T @ blocks.gradient.flatten().numpy() - smooth @ current.flatten().numpy()
    return np.linalg.solve(normal, right).reshape(channels, R, R)


@pytest.mark.parametrize("channels", [1, 3])
def test_map_step_is_the_solution_of_the_normal_equations(channels):
    current, blocks = _case(channels)
    sampling = GridSampling.build(R, S, CPU, torch.float64)
    weights = MapWeights(bilaplacian=0.3, laplacian=0.1, magnitude=0.05)
    found = map_step(current, [(blocks, sampling)], weights, tolerance=1e-10, iterations=500)
    np.testing.assert_allclose(found.numpy(), _dense_solution(current, blocks, sampling, weights), atol=1e-7)


def test_map_step_with_a_tangential_weight():
    current, blocks = _case(3, seed=5)
    normals = torch.nn.functional.normalize(_random(3, R, R, seed=9), dim=0)
    projector = torch.eye(3, dtype=torch.float64)[:, :, None, None] - normals[:, None] * normals[None]
    sampling = GridSampling.build(R, S, CPU, torch.float64)
    weights = MapWeights(bilaplacian=0.1, laplacian=0.0, magnitude=0.02, tangential=0.7)
    found = map_step(current, [(blocks, sampling)], weights, projector, tolerance=1e-10, iterations=500)
    expected = _dense_solution(current, blocks, sampling, weights, projector)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)


def test_a_few_iterations_do_most_of_the_work():
    """With the settings that a fit uses, the step is within 15 % of the exact one, and the next step goes on from there."""
    current, blocks = _case(3, seed=3)
    sampling = GridSampling.build(R, S, CPU, torch.float64)
    weights = MapWeights(bilaplacian=0.01, laplacian=0.01, magnitude=0.01)
    found = map_step(current, [(blocks, sampling)], weights).numpy()
    exact = _dense_solution(current, blocks, sampling, weights)
    assert np.linalg.norm(found - exact) < 0.15 * np.linalg.norm(exact)


def test_without_data_the_map_relaxes_to_zero():
    current, blocks = _case(1)
    empty = BlockField(0 * blocks.matrix, 0 * blocks.gradient)
    sampling = GridSampling.build(R, S, CPU, torch.float64)
    step = map_step(current, [(empty, sampling)], MapWeights(0.01, 0.01, 0.1), tolerance=1e-10, iterations=500)
    assert torch.allclose(step, -current, atol=1e-6)


def test_conjugate_gradients_on_a_dense_system():
    root = _random(12, 12)
    matrix = root @ root.T + 0.1 * torch.eye(12, dtype=torch.float64)
    right = _random(12, seed=1)
    found = solve(lambda x: matrix @ x, right, lambda r: r / matrix.diagonal(), tolerance=1e-12, iterations=100)
    assert torch.allclose(found, torch.linalg.solve(matrix, right), atol=1e-8)
    zero = solve(lambda x: matrix @ x, 0 * right, lambda r: r, iterations=8)
    assert torch.equal(zero, torch.zeros_like(right))


def test_roughness_is_the_laplacian_where_the_face_is_seen():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    grid = torch.stack([1.5 * x**2, y**2])  # Laplacians 3 and 2 away from the border
    seen = torch.zeros(32, 32)
    seen[4:28, 4:28] = 0.7
    assert roughness(grid, seen) == pytest.approx(13.0**0.5, rel=1e-5)
    # At the border the free ends count for a slope; a weight there changes the answer.
    assert roughness(grid, torch.ones(32, 32)) > 4.0


@pytest.mark.parametrize(("found", "share"), [(0.1, 1.0), (0.5, 1.0), (1.0, 0.25), (50.0, 0.1)])
def test_rough_maps_are_smoothed_less_and_smooth_ones_as_before(found, share):
    weights = MapWeights(bilaplacian=8.0, laplacian=0.3, magnitude=0.2, tangential=0.1)
    expected = replace(weights, bilaplacian=8.0 * share)
    assert softened(weights, found, 0.5) == expected


def test_clamp_step_shortens_and_keeps_directions():
    step = torch.tensor([[[3.0, 0.1]], [[4.0, 0.0]], [[0.0, 0.2]]])
    clamped = clamp_step(step, 2.0)
    assert torch.allclose(clamped[:, 0, 0], torch.tensor([1.2, 1.6, 0.0]))
    assert torch.equal(clamped[:, 0, 1], step[:, 0, 1])


def test_fade_border():
    fade = fade_border(50, 0.1, torch.zeros((), dtype=torch.float64))
    assert torch.equal(fade[5:45, 5:45], torch.ones(40, 40, dtype=torch.float64))
    assert torch.allclose(fade, fade.flip(0)) and torch.equal(fade, fade.T)
    # Smoothstep at the middle of the third texel: t = 0.05 / 0.1.
    assert float(fade[2, 25]) == pytest.approx(0.5)
    assert float(fade[0, 0]) < 0.03 and bool((fade[:5, 25].diff() > 0).all())


def _sampled(count: int = 30, size: int = 7):
    terms = ConsistencyTerms(
        _random(2, size, size, seed=1),
        _random(2, size, size, seed=2),
        _random(2, size, size, seed=3).abs() + 0.1,
        torch.tensor(0.0),
        torch.tensor(0.0),
        torch.tensor(0.0),
    )
    texels = torch.randperm(size * size, generator=torch.Generator().manual_seed(0))[:count]
    return terms, texels, sampled_views(direction_cam=_random(2, count, 3, seed=4))


def test_deformation_blocks_against_a_loop():
    state, (terms, texels, sampled) = toy_state(), _sampled()
    blocks = deformation_blocks(state, sampled, terms, texels, 0.7)
    matrix, gradient = torch.zeros_like(blocks.matrix), torch.zeros_like(blocks.gradient)
    head = state.world_from_model[:3, :3]
    for k, texel in enumerate(texels.tolist()):
        i, j = divmod(texel, 7)
        weight, slope, residual = terms.weight[:, i, j], terms.slope[:, i, j], terms.residual[:, i, j]
        rows = torch.stack(
            [slope[v] * (head.T @ state.cam_from_world[v, :3, :3].T @ sampled.direction_cam[v, k]) for v in range(2)]
        )
        rows = rows - (weight[:, None] * rows).sum(0) / weight.sum()
        for v in range(2):
            matrix[:, :, i, j] += 0.7 * weight[v] * torch.outer(rows[v], rows[v])
            gradient[:, i, j] += 0.7 * weight[v] * residual[v] * rows[v]
    assert torch.allclose(blocks.matrix, matrix, atol=1e-10) and torch.allclose(blocks.gradient, gradient, atol=1e-10)


def test_displacement_is_the_deformation_along_the_normal():
    state, (terms, texels, sampled) = toy_state(), _sampled()
    state = replace(state, world_from_model=torch.eye(4, dtype=torch.float64))
    normals = torch.nn.functional.normalize(_random(len(texels), 3, seed=6), dim=-1)
    along = displacement_blocks(state, sampled, normals, terms, texels, 0.7)
    whole = deformation_blocks(state, sampled, terms, texels, 0.7)
    at = [grid.flatten(-2)[..., texels] for grid in (whole.matrix, whole.gradient, along.matrix, along.gradient)]
    assert torch.allclose(at[2][0, 0], torch.einsum("ki,ijk,kj->k", normals, at[0], normals), atol=1e-10)
    assert torch.allclose(at[3][0], torch.einsum("ki,ik->k", normals, at[1]), atol=1e-10)


def test_world_directions_turn_with_the_camera():
    state, (_, _, sampled) = toy_state(), _sampled()
    found = world_directions(state, sampled)
    # A world step d moves the camera-frame point by R d: both say the same change of grey.
    step = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    for view in range(2):
        moved = state.cam_from_world[view, :3, :3] @ step
        assert torch.allclose(found[view] @ step, sampled.direction_cam[view] @ moved)


def test_a_stage_goes_by_the_roughness_that_it_finds_from_its_first_step_on():
    """A flat map keeps the weights; one twice as rough as usual has a quarter of the stiffness at once."""
    stage = Stage("m1", "depth_sweep", energies={"smoothness": {"bilaplacian": 1.0, "roughness": 0.5}})
    grid, seen = torch.zeros(3, 64, 64), torch.ones(2, 64, 64)
    weights = map_weights(stage, 64, 64)
    assert softened_weights(weights, stage, grid, seen, 64, StageLog()) == weights
    grid[0] = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    grid *= 1.0 / roughness(grid, seen.sum(0))
    found = softened_weights(weights, stage, grid, seen, 64, StageLog())
    assert found.bilaplacian == pytest.approx(0.25 * weights.bilaplacian, rel=1e-4)
