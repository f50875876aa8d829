"""Where a fit starts: poses, triangulation and alignment on exact data, and the line search over the focal length."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fitter.camera import project, transform_points
from fitter.hierarchy.face import FaceState
from fitter.kernels.topology import MeshTopology
from fitter.optimise import start as start_module
from fitter.optimise.config import Configuration, Pass, Stage
from fitter.optimise.gauss_newton import landmark_points
from fitter.optimise.initialise import pose_from_landmarks, procrustes, triangulate
from fitter.optimise.observation import Observation, build_pyramid
from fitter.optimise.parameters import world_points
from fitter.optimise.problem import Problem, StageLog
from fitter.optimise.start import FOCAL_CANDIDATES, _parabola_minimum, run_focal_search, run_initialise
from tests.test_solver_parameters import MODEL, toy_state, turned

FACE = MODEL.landmarks(MODEL.mean)


def _angle(one: torch.Tensor, other: torch.Tensor) -> float:
    """Degrees between two rotations."""
    cosine = (torch.trace(one.T @ other) - 1) / 2
    return math.degrees(math.acos(min(1.0, float(cosine))))


@pytest.mark.parametrize("angles", [(3.1, 0.0, 0.0), (2.9, 0.4, 0.1), (3.0, -0.7, -0.2)])
@pytest.mark.parametrize("distance", [350.0, 700.0, 2000.0])
def test_pose_from_exact_landmarks(angles, distance):
    truth = turned(angles, (15.0, -20.0, distance))
    intrinsics = torch.tensor([[900.0, 0, 310], [0, 900.0, 250], [0, 0, 1]], dtype=torch.float64)
    points = FACE[17:]
    pixels = project(transform_points(truth, points), intrinsics)
    found = pose_from_landmarks(points, pixels, torch.ones(51, dtype=torch.float64), intrinsics)
    assert _angle(found[:3, :3], truth[:3, :3]) < 0.1
    assert float((found[:3, 3] - truth[:3, 3]).norm()) < 1.0
    assert torch.allclose(found[:3, :3] @ found[:3, :3].T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert float(torch.linalg.det(found[:3, :3])) > 0


def test_pose_ignores_points_without_weight():
    truth = turned((3.0, 0.3, 0.0), (0.0, 0.0, 800.0))
    intrinsics = torch.tensor([[900.0, 0, 310], [0, 900.0, 250], [0, 0, 1]], dtype=torch.float64)
    pixels = project(transform_points(truth, FACE), intrinsics)
    pixels[:17] += 80.0
    weight = torch.ones(68, dtype=torch.float64)
    weight[:17] = 0.0
    assert _angle(pose_from_landmarks(FACE, pixels, weight, intrinsics)[:3, :3], truth[:3, :3]) < 0.1


def test_triangulation_of_exact_images():
    state = toy_state()
    points = world_points(state, landmark_points(_problem(state), state), 0)
    pixels = torch.stack(
        [
            project(transform_points(pose, points), k)
            for pose, k in zip(state.cam_from_world, state.intrinsics, strict=True)
        ]
    )
    confidence = torch.ones(2, 68, dtype=torch.float64)
    confidence[1, :4] = 0.0
    found, weight = triangulate(pixels, confidence, state.intrinsics, state.cam_from_world)
    assert float((found - points)[4:].norm(dim=1).max()) < 1e-6
    assert torch.equal(weight[:4], torch.zeros(4, dtype=torch.float64)) and float(weight[4:].min()) == 2.0
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("with_scale", [True, False])
def test_procrustes_finds_a_known_similarity(with_scale):
    truth = turned((0.4, -1.2, 2.0), (30.0, -5.0, 12.0))
    scale = 1.7 if with_scale else 1.0
    target = transform_points(truth, FACE * scale)
    target[3] += 400.0
    weight = torch.ones(68, dtype=torch.float64)
    weight[3] = 0.0
    found, factor = procrustes(FACE, target, weight, with_scale)
    assert float(factor) == pytest.approx(scale)
    assert torch.allclose(found, truth, atol=1e-8)


def test_procrustes_never_mirrors():
    mirrored = FACE * torch.tensor([-1.0, 1.0, 1.0])
    found, _ = procrustes(FACE, mirrored, torch.ones(68, dtype=torch.float64), True)
    assert float(torch.linalg.det(found[:3, :3])) == pytest.approx(1.0)


def _problem(state: FaceState, **known: bool) -> Problem:
    """A problem on the toy model with exact landmarks of `state` and blank photographs."""
    observation = Observation(
        pyramids=tuple(build_pyramid(torch.full((160, 128, 3), 0.5, dtype=torch.float64), None) for _ in range(2)),
        landmarks=None,
        landmark_confidence=torch.ones(2, 68, dtype=torch.float64),
        landmark_scheme="ibug68",
        masks=(None, None),
    )
    settings = {"rig": True, "cameras_known": True, "focal_known": True, "metric": True} | known
    problem = Problem(
        model=MODEL,
        observation=observation,
        topology=MeshTopology.from_triangles(MODEL.triangles, MODEL.vertex_count),
        configuration=Configuration("test", ()),
        **settings,
    )
    points = landmark_points(problem, state)
    seen = [transform_points(state.cam_from_world[v], world_points(state, points, 0)) for v in range(2)]
    pixels = torch.stack([project(cam, k) for cam, k in zip(seen, state.intrinsics, strict=True)])
    return replace(problem, observation=replace(observation, landmarks=pixels))


def _neutral() -> FaceState:
    """The mean face in a general position."""
    state = toy_state(1)
    return replace(
        state,
        identity=0 * state.identity,
        expression=0 * state.expression,
        log_scale=0 * state.log_scale,
        deformation=0 * state.deformation,
    )


def test_initialise_places_the_head_between_known_cameras():
    truth = _neutral()
    began = replace(truth, world_from_model=torch.eye(4, dtype=torch.float64))
    found, log = run_initialise(_problem(truth), began, Stage("start", "initialise"))
    assert torch.allclose(found.world_from_model, truth.world_from_model, atol=1e-6)
    assert torch.equal(found.cam_from_world, truth.cam_from_world) and log.steps == 1


def test_initialise_brings_cameras_of_unknown_unit_to_millimetres():
    truth = _neutral()
    problem = replace(_problem(truth), metric=False)
    in_metres = truth.cam_from_world.clone()
    in_metres[:, :3, 3] /= 1000.0
    began = replace(truth, cam_from_world=in_metres, world_from_model=torch.eye(4, dtype=torch.float64))
    found, _ = run_initialise(problem, began, Stage("start", "initialise"))
    assert torch.allclose(found.cam_from_world, truth.cam_from_world, atol=1e-4)
    assert torch.allclose(found.world_from_model, truth.world_from_model, atol=1e-4)


def test_initialise_places_unknown_cameras_around_the_head():
    truth = _neutral()
    problem = replace(_problem(truth), cameras_known=False)
    eye = torch.eye(4, dtype=torch.float64)
    began = replace(truth, world_from_model=eye, cam_from_world=eye.expand(2, 4, 4))
    found, _ = run_initialise(problem, began, Stage("start", "initialise"))
    expected = truth.cam_from_world @ truth.world_from_model
    for view in range(2):
        assert _angle(found.cam_from_world[view, :3, :3], expected[view, :3, :3]) < 0.1
        assert float((found.cam_from_world[view] - expected[view])[:3, 3].norm()) < 1.0


def test_parabola_in_the_logarithm():
    lowest = math.log(3.3)

    def energy(focal: float) -> float:
        return 2.0 + 0.7 * (math.log(focal) - lowest) ** 2

    assert _parabola_minimum([(f, energy(f)) for f in (1.8, 2.7, 4.0)]) == pytest.approx(3.3)
    # Kept between the outer two; a straight line keeps the middle.
    assert _parabola_minimum([(f, energy(f)) for f in (4.0, 6.0, 9.0)]) == pytest.approx(4.0)
    assert _parabola_minimum([(math.e**k, float(k)) for k in (1, 2, 3)]) == pytest.approx(math.e**2)


def _search(monkeypatch, lowest: float, **known: bool):
    """The focal search with a consistency energy that is a known function of the focal length."""
    state = _neutral()
    problem = replace(_problem(state), **({"cameras_known": False, "focal_known": False} | known))
    tried = []

    def stage(problem, state, stage):
        relative = float(state.intrinsics[0, 0, 0]) / 160.0
        if "consistency" in stage.energies:
            tried.append(relative)
        return state, StageLog(residuals={"consistency": 1.0 + (math.log(relative) - math.log(lowest)) ** 2})

    monkeypatch.setattr(start_module, "run_gauss_newton", stage)
    monkeypatch.setattr(start_module, "compared_channels", lambda *_: (torch.ones(1, 3) / 3.0, None))
    passes = (Pass(samples=16, image=96, steps=1),)
    wanted = Stage("focal", "focal_search", free=("camera_pose",), energies={"consistency": {}}, passes=passes)
    found, log = run_focal_search(problem, state, wanted)
    return found, log, tried


def test_focal_search_tries_all_and_refines_the_best(monkeypatch):
    found, log, tried = _search(monkeypatch, 3.1)
    assert tried[:-1] == pytest.approx(FOCAL_CANDIDATES) and tried[-1] == pytest.approx(3.1)
    assert torch.allclose(found.intrinsics[:, 0, 0] / 160.0, torch.tensor(3.1, dtype=torch.float64))
    assert torch.equal(found.intrinsics[:, 0, 0], found.intrinsics[:, 1, 1])
    assert log.steps == len(FOCAL_CANDIDATES) + 1 and "3.10" in log.note


def test_focal_search_at_its_end_takes_the_last_candidate(monkeypatch):
    found, _, tried = _search(monkeypatch, 30.0)
    assert len(tried) == len(FOCAL_CANDIDATES)
    assert float(found.intrinsics[0, 0, 0]) == pytest.approx(160.0 * FOCAL_CANDIDATES[-1])


def test_a_known_focal_length_is_not_sought(monkeypatch):
    found, log, tried = _search(monkeypatch, 3.1, focal_known=True)
    assert not tried and log.note.startswith("skipped")
    assert torch.equal(found.intrinsics, _neutral().intrinsics)
