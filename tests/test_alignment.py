"""Rigid alignment of scans: generated faces in any pose, landmarks, things that are no face."""

from __future__ import annotations

import igl
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from fitter.alignment import align_scan
from fitter.alignment.template import NOSE_TIP
from fitter.errors import InputError


def _kept(vertices, triangles, keep):
    triangles = triangles[keep[triangles].all(1)]
    used, inverse = np.unique(triangles, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


@pytest.fixture(scope="module")
def face(open_model):
    """A person the model's first modes do not know exactly: identity, a smooth bend, and the skin of a whole head."""
    random = np.random.default_rng(4)
    identity = torch.from_numpy(random.normal(0, 0.8, open_model.identity_basis.shape[2])).float()
    vertices = open_model.mean + open_model.identity_basis @ identity
    vertices = vertices.double().numpy()
    waves = np.sin(vertices @ random.normal(0, 1 / 40, (3, 6)) + random.uniform(0, 6, 6))
    vertices = vertices + waves @ random.normal(0, 0.5, (6, 3))
    skin = (open_model.regions["skin"] & ~open_model.regions["mouth_inside"]).numpy()
    landmarks = open_model.landmarks(torch.from_numpy(vertices).float()).double().numpy()
    # The frame of the person, as the mean would best lie in it: what an alignment of the mean can find.
    near = skin & (np.linalg.norm(vertices - landmarks[NOSE_TIP], axis=1) < 80)
    mean = open_model.mean.double().numpy()
    source, target = mean[near] - mean[near].mean(0), vertices[near] - vertices[near].mean(0)
    u, _, vt = np.linalg.svd(target.T @ source)
    truth = np.eye(4)
    truth[:3, :3] = u @ vt
    truth[:3, 3] = vertices[near].mean(0) - truth[:3, :3] @ mean[near].mean(0)
    mesh = _kept(vertices, open_model.triangles.numpy(), skin)
    return mesh, landmarks, truth


def _pose(seed):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    pose[:3, 3] = np.random.default_rng(seed).uniform(-500, 500, 3)
    return pose


def _moved(pose, points):
    return points @ pose[:3, :3].T + pose[:3, 3]


def _off(found, truth, model):
    nose = np.append(model.landmarks(model.mean)[NOSE_TIP].double().numpy(), 1.0)
    degrees = np.degrees(Rotation.from_matrix(found[:3, :3] @ truth[:3, :3].T).magnitude())
    return degrees, np.linalg.norm((found - truth) @ nose)


def _damaged(kind, mesh, landmarks):
    vertices, triangles = mesh
    random = np.random.default_rng(2)
    front = np.linalg.norm(vertices - landmarks[NOSE_TIP], axis=1)
    if kind == "cropped":
        return _kept(vertices, triangles, front < 95)
    if kind == "noisy":
        return vertices + random.normal(0, 0.7, vertices.shape), triangles
    if kind == "thinned":
        thin = igl.qslim(np.asfortranarray(vertices), np.asfortranarray(triangles.astype(np.int32)), 3000)
        return np.ascontiguousarray(thin[0]), np.ascontiguousarray(thin[1]).astype(np.int64)
    return vertices, triangles


@pytest.mark.parametrize(("kind", "seed"), [("whole", 0), ("cropped", 1), ("noisy", 2), ("thinned", 3)])
def test_a_face_is_found_in_any_pose(face, open_model, kind, seed):
    mesh, landmarks, truth = face
    vertices, triangles = _damaged(kind, mesh, landmarks)
    pose = _pose(seed)
    result = align_scan(_moved(pose, vertices), triangles, open_model)
    degrees, millimetres = _off(result.scan_from_model, pose @ truth, open_model)
    assert degrees < 3 and millimetres < 3
    assert result.certain and result.method == "search" and not result.warnings
    assert result.score < 0.3 < result.runner_up


def test_half_a_face_is_found(face, open_model):
    (vertices, triangles), _, truth = face
    pose = _pose(7)
    half = _kept(vertices, triangles, vertices[:, 0] > 0)
    result = align_scan(_moved(pose, half[0]), half[1], open_model)
    degrees, millimetres = _off(result.scan_from_model, pose @ truth, open_model)
    assert degrees < 5 and millimetres < 6


def test_the_result_is_the_same_every_time_and_says_where_it_lies(face, open_model):
    (vertices, triangles), landmarks, _ = face
    mesh = _kept(vertices, triangles, np.linalg.norm(vertices - landmarks[NOSE_TIP], axis=1) < 95)
    first, second = align_scan(*mesh, open_model), align_scan(*mesh, open_model)
    assert np.array_equal(first.scan_from_model, second.scan_from_model)
    assert (first.score, first.runner_up) == (second.score, second.runner_up)
    assert first.method == "in place"
    assert np.allclose(first.scan_from_model[:3, :3] @ first.scan_from_model[:3, :3].T, np.eye(3))


def test_a_scan_that_is_inside_out_is_said_to_be(face, open_model):
    (vertices, triangles), landmarks, truth = face
    mesh = _kept(vertices, triangles, np.linalg.norm(vertices - landmarks[NOSE_TIP], axis=1) < 95)
    pose = _pose(5)
    result = align_scan(_moved(pose, mesh[0]), mesh[1][:, ::-1], open_model)
    degrees, millimetres = _off(result.scan_from_model, pose @ truth, open_model)
    assert degrees < 3 and millimetres < 3
    assert any("inside out" in warning for warning in result.warnings)


@pytest.mark.parametrize("body", ["sphere", "cube", "speck"])
def test_what_is_no_face_is_refused_or_flagged(open_model, body):
    make = trimesh.creation
    solid = {
        "sphere": lambda: make.icosphere(4, 80),
        "cube": lambda: make.box([150] * 3),
        "speck": lambda: make.box([0.5] * 3),
    }[body]()
    try:
        result = align_scan(np.asarray(solid.vertices), np.asarray(solid.faces), open_model)
    except InputError as error:
        assert "resembles a face" in str(error)
    else:
        assert body == "sphere"
        assert not result.certain and "not certain" in result.warnings[0]


def test_a_scan_without_a_surface_is_refused(open_model):
    with pytest.raises(InputError, match="no triangle with an area"):
        align_scan(np.zeros((3, 3)), np.array([[0, 1, 2]]), open_model)
    with pytest.raises(InputError, match="no triangle with an area"):
        align_scan(np.full((3, 3), np.nan), np.array([[0, 1, 2]]), open_model)
