"""Landmark energy by hand, and the sliding jaw on a synthetic head whose silhouette is known."""

import math

import pytest
import torch

from fitter.energies.landmark import (
    contour_landmarks,
    ibug68_weights,
    interocular_distance,
    jaw_candidates,
    landmark_energy,
)
from fitter.model.morphable import LandmarkEmbedding, MorphableModel

RADII = torch.tensor([70.0, 100.0, 90.0], dtype=torch.float64)


def _ellipsoid_head() -> MorphableModel:
    """An ellipsoid of latitudes and longitudes, with jaw landmarks on its front from ear over chin to ear."""
    polar = torch.linspace(0.02, math.pi - 0.02, 61, dtype=torch.float64)
    around = torch.linspace(0, 2 * math.pi, 121, dtype=torch.float64)[:-1]
    theta, phi = torch.meshgrid(polar, around, indexing="ij")
    unit = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], -1).reshape(-1, 3)
    vertices = unit * RADII
    index = torch.arange(61 * 120).reshape(61, 120)
    right, down = index.roll(-1, 1), index[1:]
    triangles = torch.stack(
        [
            torch.stack([index[:-1], down, right[:-1]], -1),
            torch.stack([right[:-1], down, right[1:]], -1),
        ]
    ).reshape(-1, 3)
    # The jaw: angle from the subject's right ear (-x) down to the chin and up to the left ear, slightly on the front.
    angles = torch.linspace(math.pi, 2 * math.pi, 17, dtype=torch.float64)
    points = torch.stack([angles.cos() * 0.97, angles.sin() * 0.97, torch.full_like(angles, 0.24)], -1) * RADII
    points = torch.cat([points, RADII * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(51, 3)])
    nearest = torch.cdist(points, vertices).argmin(-1)
    weights = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(68, 3)
    count = len(vertices)
    return MorphableModel(
        name="ellipsoid",
        mean=vertices,
        identity_basis=vertices.new_zeros(count, 3, 1),
        expression_basis=vertices.new_zeros(count, 3, 1),
        expression_names=("expression_00",),
        expressions_are_named=False,
        albedo_mean=torch.full_like(vertices, 0.5),
        albedo_basis=vertices.new_zeros(count, 3, 1),
        triangles=triangles,
        uv=vertices[:, :2],
        uv_triangles=triangles,
        landmarks=LandmarkEmbedding(nearest[:, None].expand(68, 3), weights),
        mediapipe=None,
        mediapipe_indices=(),
        regions={},
        atlas_uv=vertices[:, :2],
        atlas_triangles=triangles,
    )


def _yaw(degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    turn = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]], dtype=torch.float64
    )
    to_camera_axes = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return to_camera_axes @ turn


def _view(model: MorphableModel, rotation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    normals = model.mean / RADII**2
    normals = normals / normals.norm(dim=-1, keepdim=True)
    return (model.mean @ rotation.T)[:, :2], normals @ rotation.T


def test_landmark_energy_by_hand():
    target = torch.zeros(1, 3, 2, dtype=torch.float64)
    predicted = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]]], dtype=torch.float64)
    confidence = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
    weights = torch.tensor([2.0, 4.0, 1.0], dtype=torch.float64)
    # (2·1·25 + 4·0.5·1) / 2 landmarks / 10² of scale
    energy = landmark_energy(predicted, target, confidence, weights, scale=10.0)
    assert float(energy) == pytest.approx(52.0 / 2 / 100)


def test_landmark_energy_ignores_resolution_and_dropped_nan():
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.rand(2, 2, 68, 2, generator=generator, dtype=torch.float64) * 100
    target[:, 5] = float("nan")
    confidence = torch.ones(2, 68, dtype=torch.float64)
    confidence[:, 5] = 0.0
    weights = ibug68_weights(predicted)
    predicted.requires_grad_()
    scale = interocular_distance(target)
    energy = landmark_energy(predicted, target, confidence, weights, scale=scale)
    energy.backward()
    assert torch.isfinite(predicted.grad).all() and float(predicted.grad[:, 5].abs().max()) == 0.0
    larger = landmark_energy(3 * predicted, 3 * target, confidence, weights, scale=3 * scale)
    assert float(larger.detach()) == pytest.approx(float(energy.detach()), rel=1e-12)


def test_landmark_gradient():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(2, 5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)
    confidence, weights = torch.rand(2, 5, generator=generator), torch.rand(5, generator=generator)
    assert torch.autograd.gradcheck(
        lambda item: landmark_energy(item, target, confidence, weights, scale=torch.tensor([2.0, 3.0])), (predicted,)
    )


def test_weights_are_those_of_the_paper():
    weights = ibug68_weights(torch.zeros(1), jaw=0.5)
    assert weights[8] == 0.5 and weights[30] == 20 and weights[62] == 20 and weights[40] == 1 and weights[50] == 1
    points = torch.zeros(68, 2)
    points[42:48] = torch.tensor([30.0, 40.0])
    assert float(interocular_distance(points)) == pytest.approx(50.0)


def test_candidates_lie_in_a_band_and_are_ordered_from_the_front():
    model = _ellipsoid_head()
    candidates = jaw_candidates(model)
    points = model.landmarks(model.mean)[:17]
    assert candidates.vertices.shape == candidates.valid.shape and candidates.vertices.shape[0] == 17
    for landmark in range(17):
        chosen = model.mean[candidates.vertices[landmark][candidates.valid[landmark]]]
        side = torch.stack([-candidates.outward[landmark, 1], candidates.outward[landmark, 0]])
        assert float(((chosen - points[landmark])[:, :2] @ side).abs().max()) < 4.0
        assert bool((chosen[1:, 2] <= chosen[:-1, 2]).all()) and len(chosen) >= 4
        assert (model.mean[candidates.base[landmark]] - points[landmark]).norm() < 1e-9
    # Beside the ears a section is horizontal, at the chin it is upright.
    assert candidates.outward[0, 0] < -0.98 and candidates.outward[8, 1] < -0.98 and candidates.outward[16, 0] > 0.98


@pytest.mark.parametrize("degrees", [-40.0, 0.0, 25.0])
def test_the_far_side_finds_the_analytic_silhouette(degrees):
    model = _ellipsoid_head()
    candidates = jaw_candidates(model)
    rotation = _yaw(degrees)
    image, normals = _view(model, rotation)
    chosen = contour_landmarks(image, normals, candidates, rotation)
    for landmark in range(17):
        allowed = candidates.vertices[landmark][candidates.valid[landmark]]
        assert chosen[landmark] in allowed
        direction = (candidates.outward[landmark] @ rotation.T)[:2]
        reach = image[allowed] @ (direction / direction.norm())
        visible = normals[allowed, 2] < 0.25
        assert float(image[chosen[landmark]] @ (direction / direction.norm())) >= float(reach[visible].max()) - 1e-9
    # The side that turns away shows the true silhouette: the normal stands across the line of sight there.
    far = [0, 1, 2] if degrees < 0 else [14, 15, 16]
    if degrees != 0.0:
        assert float(normals[chosen[far], 2].abs().max()) < 0.12


def test_batched_views_agree_with_single_ones():
    model = _ellipsoid_head()
    candidates = jaw_candidates(model)
    rotations = torch.stack([_yaw(-30.0), _yaw(15.0)])
    views = [_view(model, rotation) for rotation in rotations]
    images, normals = (torch.stack(items) for items in zip(*views, strict=True))
    together = contour_landmarks(images, normals, candidates, rotations)
    for number, (image, normal) in enumerate(views):
        assert torch.equal(together[number], contour_landmarks(image, normal, candidates, rotations[number]))


def test_a_section_that_faces_away_falls_back_to_its_own_vertex():
    model = _ellipsoid_head()
    candidates = jaw_candidates(model)
    image, normals = _view(model, _yaw(0.0))
    chosen = contour_landmarks(image, normals.abs() + 1.0, candidates, _yaw(0.0))
    assert torch.equal(chosen, candidates.base)
