"""Generated subjects: one seed one face, which the model cannot span, and whose truth is consistent."""

from __future__ import annotations

import igl
import numpy as np
import pytest
import trimesh

pytest.importorskip("anny")
from benchmarks.subjects import decimated, generate_subject, noisy, posed
from benchmarks.subjects.fields import lipschitz_bound, random_field, tamed
from benchmarks.subjects.head import model
from benchmarks.subjects.noise import cellular_noise, gradient_noise
from benchmarks.subjects.refine import refine, smooth_normals

EDGE = 2.0
"""mm: coarser than in the benchmarks, for speed."""


@pytest.fixture(scope="module")
def subject(open_model):
    """One face."""
    return generate_subject(3, edge_mm=EDGE)


def triangle_normals(vertices, triangles):
    corners = vertices[triangles]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return crossed / np.linalg.norm(crossed, axis=1, keepdims=True)


def test_refinement_of_a_coarse_sphere_lies_on_the_sphere():
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=50.0)
    vertices, triangles, heights = refine(
        sphere.vertices, sphere.faces, sphere.vertices[:, 2:], lambda rows: np.where(rows[:, 0] > 0, 2.0, 6.0)
    )
    edges = np.linalg.norm(vertices[triangles] - vertices[np.roll(triangles, 1, 1)], axis=-1)
    assert edges.max() <= 6.0 and edges[vertices[triangles][..., 2].min(1) > 3.0].max() <= 2.0
    assert trimesh.Trimesh(vertices, triangles, process=False).is_watertight
    # The chord of the first edges sags by 2.6 mm.
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 50.0, atol=0.02)
    np.testing.assert_allclose(heights[:, 0], vertices[:, 2], atol=2.6)


def test_noise_depends_on_position_and_seed_only():
    points = np.random.default_rng(0).uniform(-50, 50, (4000, 3))
    whole = gradient_noise(points, 2.0, 7)
    np.testing.assert_array_equal(gradient_noise(points[::-1], 2.0, 7)[::-1], whole)
    assert abs(np.corrcoef(whole, gradient_noise(points, 2.0, 8))[0, 1]) < 0.1
    assert abs(whole.mean()) < 0.02 and 0.1 < whole.std() < 0.4
    first, second, value = cellular_noise(points, 1.5, 7)
    assert (first <= second).all() and first.max() < 1.5 and 0.0 <= value.min() and value.max() < 1.0


def test_the_same_seed_gives_the_same_face_and_another_seed_another(subject):
    again = generate_subject(3, edge_mm=EDGE)
    np.testing.assert_array_equal(again.vertices, subject.vertices)
    np.testing.assert_array_equal(again.landmarks, subject.landmarks)
    other = generate_subject(4, edge_mm=4.0)
    assert np.abs(other.landmarks - subject.landmarks).max() > 2.0


def test_the_person_does_not_depend_on_the_density(subject):
    coarser = generate_subject(3, edge_mm=4.0)
    np.testing.assert_allclose(coarser.rest_landmarks, subject.rest_landmarks, atol=0.05)
    assert [furrow.name for furrow in coarser.furrows] == [furrow.name for furrow in subject.furrows]


def test_an_expression_changes_the_face_and_not_the_person(subject):
    smiling = generate_subject(3, edge_mm=EDGE, expression="smile")
    np.testing.assert_allclose(smiling.rest, subject.rest, atol=1e-9)
    np.testing.assert_allclose(smiling.detail, subject.detail, atol=1e-9)
    assert smiling.landmarks[[48, 54], 1].mean() > subject.landmarks[[48, 54], 1].mean() + 1.0


def test_edges_are_as_short_as_asked(subject):
    mesh, used = subject.scan(88.0)
    edges = np.linalg.norm(mesh.vertices[mesh.triangles] - mesh.vertices[np.roll(mesh.triangles, 1, 1)], axis=-1)
    counted = ~subject.left_out[used][mesh.triangles].any(1)
    assert np.percentile(edges[counted], 99) <= 1.05 * EDGE


def test_layers_add_up(subject):
    moved = subject.deformed + subject.detail[:, None] * subject.deformed_normals
    np.testing.assert_allclose(moved, subject.vertices, atol=1e-9)


def test_no_layer_flips_a_triangle(subject):
    base, deformed, final = (
        triangle_normals(layer, subject.triangles) for layer in (subject.base, subject.deformed, subject.vertices)
    )
    assert ((base * deformed).sum(1) > 0.0).all()
    assert ((deformed * final).sum(1) > 0.2).all()


def test_the_deformation_cannot_fold_space(open_model):
    vertices, triangles = open_model.mean.double().numpy(), open_model.triangles.numpy()
    marks = open_model.landmarks(open_model.mean).double().numpy()
    field = random_field(marks, vertices, smooth_normals(vertices, triangles), np.random.default_rng(5))
    strong = type(field)(field.centres, field.widths, 3.0 * field.amplitudes, field.warp_mm, field.warp_seed)
    near = vertices[np.linalg.norm(vertices - marks[30], axis=1) < 90.0]
    assert lipschitz_bound(strong, near) > 0.6 >= lipschitz_bound(tamed(strong, near), near) - 1e-9


def test_amplitudes_are_those_of_skin(subject):
    counted = ~subject.left_out
    fine = (subject.detail - subject.furrow_detail)[counted]
    assert 0.01 < fine.std() < 0.04
    assert np.percentile(np.abs(fine), 99) < 0.3
    furrows = subject.furrow_detail[counted]
    assert -1.2 < furrows.min() < -0.2 and furrows.max() < 0.7
    assert np.abs(subject.detail[subject.mask("eyes")]).max() == 0.0


def test_landmarks_lie_on_the_surface(subject):
    mesh, _ = subject.scan()
    squared = igl.point_mesh_squared_distance(subject.landmarks, mesh.vertices, mesh.triangles)[0]
    assert squared.max() < 1e-12
    # And they are where the model has them, but for deformation and detail.
    embedding = model().landmarks
    base = (subject.base[embedding.vertices.numpy()] * embedding.weights.numpy()[..., None]).sum(1)
    assert np.median(np.linalg.norm(subject.landmarks - base, axis=1)) < 6.0


def test_the_model_does_not_span_the_face(subject):
    known = model()
    chosen = np.flatnonzero(known.regions["face"].numpy())
    chosen = chosen[np.linalg.norm(subject.deformed[chosen] - subject.landmarks[30], axis=1) < 90.0]
    place = known.mean.double().numpy()[chosen]
    rigid = np.zeros((len(chosen), 3, 6))
    rigid[:, :, :3] = np.eye(3)
    rigid[:, :, 3:] = np.cross(np.eye(3)[None], place[:, None]).transpose(0, 2, 1)
    basis = np.concatenate([known.identity_basis.double().numpy()[chosen], rigid], 2).reshape(3 * len(chosen), -1)

    def residual(vertices):
        target = (vertices[chosen] - place).ravel()
        rest = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
        return np.sqrt((rest**2).sum() / len(chosen))

    assert residual(subject.base) < 0.15
    assert residual(subject.deformed) > 0.5


def test_decimated_scans_have_the_edges_asked_for_and_stay_on_the_surface(subject):
    truth, _ = subject.scan(80.0)
    scan = decimated(subject, 4.0, radius_mm=80.0)
    edges = np.linalg.norm(scan.vertices[scan.triangles] - scan.vertices[np.roll(scan.triangles, 1, 1)], axis=-1)
    assert 3.3 < np.median(edges) < 4.5
    squared = igl.point_mesh_squared_distance(scan.vertices, truth.vertices, truth.triangles)[0]
    assert np.median(squared) < 0.15**2


def test_noise_and_pose(subject):
    scan = decimated(subject, 4.0, radius_mm=80.0)
    moved, pose = posed(noisy(scan, 0.3, seed=1), seed=2)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    back = (moved.vertices - pose[:3, 3]) @ pose[:3, :3]
    assert 0.25 < np.sqrt(((back - scan.vertices) ** 2).sum(1).mean()) < 0.35
    there = subject.moved(pose)
    np.testing.assert_allclose(there.landmarks, subject.landmarks @ pose[:3, :3].T + pose[:3, 3], atol=1e-9)
