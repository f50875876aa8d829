"""Where a fit starts: poses from landmarks in closed form, the focal length by a line search, people's usual deformation."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn.functional import interpolate

from fitter.hierarchy.face import FaceState
from fitter.hierarchy.people import people_of
from fitter.hierarchy.samples import surface_samples
from fitter.optimise.comparison import compared_channels
from fitter.optimise.config import Pass, Stage
from fitter.optimise.gauss_newton import run_gauss_newton
from fitter.optimise.initialise import pose_from_landmarks, procrustes, triangulate
from fitter.optimise.problem import Problem, StageLog, landmark_embedding

FOCAL_CANDIDATES = (1.2, 1.8, 2.7, 4.0, 6.0, 9.0)
"""Focal lengths tried, in units of the photograph's longer side: from a wide phone to a long portrait lens."""


def run_initialise(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Place the mean head (and the cameras, where they are unknown) by the scan, or by the landmarks."""
    log = StageLog(steps=1)
    if problem.scan is not None:
        state = replace(state, world_from_model=problem.scan.world_from_model.to(state.identity))
        if not problem.cameras_known:
            poses = _poses(problem, state)
            state = replace(state, cam_from_world=poses @ torch.linalg.inv(state.world_from_model))
    elif problem.cameras_known and state.view_count > 1:
        state = _place_by_triangulation(problem, state)
    elif problem.cameras_known:
        pose = _poses(problem, state)[0]
        state = replace(state, world_from_model=torch.linalg.inv(state.cam_from_world[0]) @ pose)
    else:
        state = replace(state, cam_from_world=_poses(problem, state))
    problem.on_step(stage.name, 1, 1, 0.0)
    return state, log


def run_usual_deformation(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Begin M1 with what scanned people's deformation maps have in common; where the model knows no people, as it is."""
    log = StageLog(steps=1)
    people = people_of(problem.model)
    if people is None:
        log.note = f"the model {problem.model.name} is the mean of people itself"
    else:
        size = state.deformation.shape[-2:]
        usual = interpolate(people.deformation[None], size, mode="bilinear", align_corners=False)[0]
        state = replace(state, deformation=usual.to(state.deformation))
    problem.on_step(stage.name, 1, 1, 0.0)
    return state, log


def _inner_confidence(problem: Problem):
    confidence = problem.observation.landmark_confidence.double().clone()
    if problem.observation.landmark_scheme == "ibug68":
        confidence[:, :17] = 0.0  # The jaw line slides with the pose.
    return confidence


def _poses(problem: Problem, state: FaceState) -> torch.Tensor:
    """cam_from_model [N, 4, 4] of every view."""
    model, observation = problem.model, problem.observation
    embedding = landmark_embedding(model, observation)
    points = embedding(model.shape(state.identity, state.expression[0])).double()
    confidence = _inner_confidence(problem)
    poses = [
        pose_from_landmarks(points, observation.landmarks[v].double(), confidence[v], state.intrinsics[v].double())
        for v in range(state.view_count)
    ]
    return torch.stack(poses).to(state.identity.dtype)


def _place_by_triangulation(problem: Problem, state: FaceState) -> FaceState:
    """Head pose from triangulated landmarks; where the unit is unknown, the cameras are brought to millimetres."""
    model, observation = problem.model, problem.observation
    embedding = landmark_embedding(model, observation)
    points = embedding(model.mean).double()
    confidence = _inner_confidence(problem)
    cameras = state.cam_from_world.double()
    found, weight = triangulate(observation.landmarks.double(), confidence, state.intrinsics.double(), cameras)
    if not problem.metric:
        # The head's size is the only yardstick: the mean head's landmarks give millimetres per unit.
        _, scale = procrustes(points, found, weight, with_scale=True)
        factor = 1.0 / scale
        cameras = cameras.clone()
        cameras[:, :3, 3] *= factor
        found = found * factor
    transform, _ = procrustes(points, found, weight, with_scale=False)
    dtype = state.identity.dtype
    return replace(state, cam_from_world=cameras.to(dtype), world_from_model=transform.to(dtype))


def with_focal(state: FaceState, focal_px: torch.Tensor) -> FaceState:
    """The state with every view's focal length set to `focal_px` [N] px."""
    intrinsics = state.intrinsics.clone()
    intrinsics[:, 0, 0] = focal_px
    intrinsics[:, 1, 1] = focal_px
    return replace(state, intrinsics=intrinsics)


def _longer_sides(problem: Problem, state: FaceState) -> torch.Tensor:
    sides = [float(max(pyramid[0].size)) for pyramid in problem.observation.pyramids]
    return state.identity.new_tensor(sides)


def run_focal_search(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Line search over one focal length for all views on the photo-consistency energy.

    Landmarks cannot tell the focal length (their energy falls monotonically to short lenses); photo-consistency can. Each
    candidate starts from landmarks, runs the stage's Gauss-Newton passes with the focal length held, and is judged by
    the consistency that it ends with. The best is refined by a parabola in log f.
    """
    log = StageLog()
    if problem.focal_known or state.view_count < 2:
        log.note = "skipped: the focal length is known" if problem.focal_known else "skipped: one view cannot tell it"
        return state, log
    quiet = replace(problem, on_step=lambda *_: None)
    if "consistency" in stage.energies:
        # The same channels for all candidates: energies of different mixtures cannot be compared.
        passes = stage.passes or (Pass(),)
        first, last = passes[0], passes[-1]
        samples = surface_samples(problem.model, first.samples)
        placed, _ = run_initialise(quiet, state, stage)
        channels, _ = compared_channels(quiet, placed, stage, samples, last.image)
        quiet = replace(quiet, channels=channels)
    sides = _longer_sides(problem, state)
    total = len(FOCAL_CANDIDATES) + 1

    def attempt(relative: float) -> tuple[float, FaceState]:
        tried, _ = run_initialise(quiet, with_focal(state, relative * sides), stage)
        landmark_stage = Stage(
            name=stage.name,
            solver="gauss_newton",
            free=stage.free,
            energies={key: value for key, value in stage.energies.items() if key != "consistency"}
            | {"landmark": {"sigma_mm": 2.0}, "identity_prior": {"sigma": 1.0}, "expression_prior": {"sigma": 0.3}},
            steps=10,
        )
        tried, _ = run_gauss_newton(quiet, tried, landmark_stage)
        tried, outcome = run_gauss_newton(quiet, tried, replace(stage, solver="gauss_newton"))
        return outcome.residuals["consistency"], tried

    results: list[tuple[float, float, FaceState]] = []
    for index, relative in enumerate(FOCAL_CANDIDATES):
        energy, tried = attempt(relative)
        results.append((relative, energy, tried))
        problem.on_step(stage.name, index + 1, total, energy)
    best = min(range(len(results)), key=lambda i: results[i][1])
    if 0 < best < len(results) - 1:
        relative = _parabola_minimum([(r, e) for r, e, _ in results[best - 1 : best + 2]])
        energy, tried = attempt(relative)
        results.append((relative, energy, tried))
    chosen = min(results, key=lambda result: result[1])
    problem.on_step(stage.name, total, total, chosen[1])
    log.steps = len(results)
    log.residuals = {f"energy_at_{relative:.2f}_sides": energy for relative, energy, _ in results}
    log.energies = {"consistency": (max(e for _, e, _ in results), chosen[1])}
    log.note = f"focal length {chosen[0]:.2f} times the longer side"
    return chosen[2], log


def _parabola_minimum(points: list[tuple[float, float]]) -> float:
    """Minimum of the parabola through three (f, energy) points in log f, kept between the outer two."""
    (x0, y0), (x1, y1), (x2, y2) = [(math.log(f), energy) for f, energy in points]
    numerator = (x1 - x0) ** 2 * (y1 - y2) - (x1 - x2) ** 2 * (y1 - y0)
    denominator = (x1 - x0) * (y1 - y2) - (x1 - x2) * (y1 - y0)
    x = x1 if abs(denominator) < 1e-12 else x1 - 0.5 * numerator / denominator
    return math.exp(min(max(x, x0), x2))
