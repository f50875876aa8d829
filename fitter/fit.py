"""Fit a session: photographs, a scan or both in, fused result out. The Python entry of the engine."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitter import __version__
from fitter.capture.types import Session
from fitter.errors import InputError
from fitter.face_masks import face_masks_for
from fitter.hierarchy.dense import dense_surface
from fitter.hierarchy.face import FaceState, initial_state, m0_vertices, m1_vertices, rescaled
from fitter.hierarchy.grid import sample_map
from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.optimise.config import Configuration, configuration_to_dict
from fitter.optimise.initialise import procrustes
from fitter.optimise.observation import Observation, build_pyramid
from fitter.optimise.problem import Problem, setting
from fitter.optimise.ray_displacement import EDGES_PER_WAVE
from fitter.optimise.run import FinishedStage, check_configuration, run_stages
from fitter.optimise.scan_target import ScanTarget
from fitter.result.build import dense_mesh, fuse_maps, reference_view, view_results
from fitter.result.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from fitter.result.confidence import surface_confidence
from fitter.result.scan_outcome import scan_outcome
from fitter.result.scan_warnings import scan_warnings
from fitter.result.types import FitResult, StageRecord, ViewResult
from fitter.scan_target import observe_scan

LEAST_LANDMARKS = 6
"""Points inside the face from which a head can be placed."""
PORTRAIT_FOCAL = 2.7
"""Focal length of one uncalibrated photograph without EXIF, in units of its longer side: a portrait lens."""


@dataclass
class FitOptions:
    """How to run a fit; none of it changes what is sought."""

    device: str = "cpu"
    seed: int = 0
    checkpoint: Path | None = None
    """Folder for the resumable state, or None to keep none."""
    on_step: Callable[[str, int, int, float], None] = field(default=lambda stage, step, steps, energy: None)
    on_phase: Callable[[str], None] = field(default=lambda name: None)


def session_landmarks(session: Session, model: MorphableModel) -> tuple[np.ndarray, np.ndarray, str]:
    """Points [N, L, 2], confidence [N, L] and scheme of a session's landmarks, as the model has them.

    Raises:
        InputError: A view has no landmarks, too few are trusted, or the views' schemes differ.
    """
    missing = [view.name for view in session.views if view.landmarks is None]
    if missing:
        raise InputError(
            session.name,
            f"no landmarks for {', '.join(missing)}",
            "68 landmarks beside each photograph",
            "Make them with: hrn landmarks, or leave these photographs out.",
        )
    schemes = {view.landmarks.scheme for view in session.views}
    if len(schemes) > 1:
        raise InputError(
            session.name, "landmarks of two schemes", "one scheme in a session", "Make all landmarks with one provider."
        )
    points = np.stack([view.landmarks.points for view in session.views])
    confidence = np.stack([view.landmarks.confidence for view in session.views])
    scheme = "ibug68"
    if schemes == {"mediapipe478"}:
        if model.mediapipe is None:
            raise InputError(
                session.name,
                "MediaPipe landmarks",
                f"68 iBUG landmarks: the model {model.name} has no MediaPipe embedding",
                "Make landmarks with: hrn landmarks --provider face-alignment, or use the open model.",
            )
        chosen = list(model.mediapipe_indices)
        points, confidence, scheme = points[:, chosen], confidence[:, chosen], "mediapipe"
    _check_enough(session, confidence[:, 17:] if scheme == "ibug68" else confidence)
    return points, confidence, scheme


def observe(session: Session, model: MorphableModel, device: str) -> Observation:
    """Bring a session's photographs and landmarks to the device; raises as `session_landmarks` does."""
    if not session.views:
        return Observation((), None, None, "ibug68", ())
    points, confidence, scheme = session_landmarks(session, model)
    masks = tuple(None if view.mask is None else torch.from_numpy(view.mask).to(device) for view in session.views)
    pyramids = tuple(
        build_pyramid(torch.from_numpy(view.image).to(device), mask)
        for view, mask in zip(session.views, masks, strict=True)
    )
    return Observation(
        pyramids=pyramids,
        landmarks=torch.from_numpy(points).float().to(device),
        landmark_confidence=torch.from_numpy(confidence).float().to(device),
        landmark_scheme=scheme,
        masks=masks,
    )


def _check_enough(session: Session, confidence: np.ndarray) -> None:
    """Refuse landmarks [N, L] (without the jaw line) that cannot place a head."""
    trusted = confidence > 0
    if session.calibrated and len(session.views) > 1:
        found, where = int((trusted.sum(0) > 1).sum()), "points in two views"
    else:
        found, where = int(trusted.sum(1).min()), "points in every view"
    if found < LEAST_LANDMARKS:
        raise InputError(
            session.name,
            f"{found} landmarks inside the face with a confidence above 0",
            f"at least {LEAST_LANDMARKS} {where}",
            "Look at them with: hrn landmarks, or leave the photograph out.",
        )


def _cameras(session: Session, device: str) -> tuple[Tensor, Tensor]:
    """Intrinsics [N, 3, 3] and poses [N, 4, 4]; guesses where the session brings none."""
    intrinsics, poses = [], []
    for view in session.views:
        if view.camera is not None:
            intrinsics.append(view.camera.intrinsics)
            poses.append(view.camera.cam_from_world)
            continue
        height, width = view.image.shape[:2]
        focal = view.focal_guess or PORTRAIT_FOCAL * max(height, width)
        matrix = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
        intrinsics.append(matrix.double())
        poses.append(torch.eye(4, dtype=torch.float64))
    if not intrinsics:
        return torch.zeros(0, 3, 3, device=device), torch.zeros(0, 4, 4, device=device)
    return torch.stack(intrinsics).float().to(device), torch.stack(poses).float().to(device)


def build_problem(
    session: Session, model: MorphableModel, configuration: Configuration, options: FitOptions
) -> tuple[Problem, FaceState]:
    """The problem and the state it starts from."""
    model = model.to(options.device)
    observation = observe(session, model, options.device)
    target = None
    if session.scan is not None:
        options.on_phase("finding the face in the scan")
        target = observe_scan(session, model, device=options.device, seed=options.seed)
        configuration = as_fine_as(target, configuration)
    intrinsics, poses = _cameras(session, options.device)
    known = session.calibrated
    rig = session.kind == "rig"
    wanted = configuration.expression_per_view
    per_view = not rig if wanted == "auto" else wanted == "always"
    rows = len(session.views) if per_view and len(session.views) > 1 else 1
    problem = Problem(
        model=model,
        observation=observation,
        topology=MeshTopology.from_triangles(model.triangles, model.vertex_count),
        configuration=configuration,
        rig=rig,
        cameras_known=known,
        focal_known=known or all(view.focal_guess is not None for view in session.views),
        metric=(known and session.mm_per_unit is not None) or target is not None,
        scan=target,
        face_masks=face_masks_for,
        on_step=options.on_step,
    )
    maps = configuration.maps
    state = initial_state(model, intrinsics, poses, rows, (maps.deformation, maps.displacement))
    return problem, state


def as_fine_as(target: ScanTarget, configuration: Configuration) -> Configuration:
    """The configuration without a finer mesh for M2 than the scan has detail that one could carry."""
    smoothed = all(
        setting(stage, "smoothness", "edge", EDGES_PER_WAVE) > 0
        for stage in configuration.stages
        if stage.solver == "ray_cast"
    )
    if not smoothed:
        return configuration
    levels = target.subdivisions(configuration.maps.dense_levels)
    return replace(configuration, maps=replace(configuration.maps, dense_levels=levels))


def _checksum(*arrays: np.ndarray) -> int:
    """Of the arrays' contents, to tell them from others by accident, not by intent."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return value


def fit_fingerprint(session: Session, model: MorphableModel, configuration: Configuration, seed: int) -> str:
    """What a fit depends on, as one checksum."""
    views = []
    for view in session.views:
        camera = None
        if view.camera is not None:
            camera = [view.camera.intrinsics.tolist(), view.camera.cam_from_world.tolist()]
        landmarks = view.landmarks
        marks = None if landmarks is None else [landmarks.scheme, _checksum(landmarks.points, landmarks.confidence)]
        mask = None if view.mask is None else _checksum(view.mask)
        views.append([view.name, view.image.shape, _checksum(view.image), marks, mask, camera, view.focal_guess])
    content = [__version__, model.name, model.source, configuration_to_dict(configuration), session.kind, views]
    return fingerprint([*content, session.mm_per_unit, seed, _scan_content(session)])


def _scan_content(session: Session) -> list | None:
    scan = session.scan
    if scan is None:
        return None
    marks = None if scan.landmarks is None else _checksum(scan.landmarks.points, scan.landmarks.indices)
    return [scan.name, _checksum(scan.vertices, scan.triangles), marks, scan.mm_per_unit]


def fit_session(
    session: Session, model: MorphableModel, configuration: Configuration, options: FitOptions | None = None
) -> FitResult:
    """Fit one session.

    Args:
        session: Photographs with landmarks.
        model: The face model.
        configuration: Stages and map sizes.
        options: Device, seed, checkpoint folder, progress.

    Returns:
        The fused result.

    Raises:
        InputError: The session cannot be fitted.
    """
    options = options or FitOptions()
    began = time.perf_counter()
    problem, state, finished = solve_session(session, model, configuration, options)
    fitted = time.perf_counter()
    options.on_phase("fusing textures and maps")
    with torch.no_grad():
        result = assemble(session, problem, state, finished, options)
    result.timings.update(fit=fitted - began, fuse=time.perf_counter() - fitted)
    return result


def solve_session(
    session: Session, model: MorphableModel, configuration: Configuration, options: FitOptions | None = None
) -> tuple[Problem, FaceState, list[FinishedStage]]:
    """The optimisation of `fit_session` alone: geometry, cameras and light without textures and maps for the eye.

    Arguments and errors are those of `fit_session`.
    """
    options = options or FitOptions()
    check_configuration(configuration)
    torch.manual_seed(options.seed)
    problem, state = build_problem(session, model, configuration, options)
    key = fit_fingerprint(session, model, configuration, options.seed)
    finished: list[FinishedStage] = []
    if options.checkpoint is not None:
        kept = load_checkpoint(options.checkpoint, key)
        if kept is not None:
            state, finished = kept[0].to(options.device), kept[1]

    def keep(stage, state: FaceState, done: FinishedStage) -> None:
        records.append(done)
        if options.checkpoint is not None:
            save_checkpoint(options.checkpoint, state, records, key)

    records = list(finished)
    state, finished = run_stages(problem, state, finished=finished, on_stage=keep)
    check_fit(session, problem, state)
    if not problem.metric:
        state = average_size(problem, state)
    return problem, state, finished


def check_fit(session: Session, problem: Problem, state: FaceState) -> None:
    """Refuse a result that is not a number.

    Raises:
        InputError: The optimisation diverged.
    """
    for name, tensor in state.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                session.name,
                f"a fit that diverged ({name} is not finite)",
                "landmarks and cameras that belong to the photographs",
                "Look at the landmarks with: hrn landmarks --draw, and check the cameras.",
            )


def average_size(problem: Problem, state: FaceState) -> FaceState:
    """Give the world the size at which the head is as large as the model's mean.

    Photographs of an unknown scale show no size. Left alone, the identity's first component (children have small heads
    *and* other proportions) would choose one.
    """
    model = problem.model
    mean = model.landmarks(model.mean)[17:].double()
    fitted = model.landmarks(m0_vertices(model, state))[17:].double()
    _, factor = procrustes(fitted, mean, torch.ones_like(mean[:, 0]), with_scale=True)
    return rescaled(state, factor.to(state.identity.dtype))


def _mm_per_unit(session: Session, state: FaceState) -> float:
    """World millimetres per session unit: given, or as the fit scaled the cameras."""
    if session.mm_per_unit is not None:
        return float(session.mm_per_unit)
    if session.scan is not None:
        return float(session.scan.mm_per_unit)
    if not session.calibrated:
        return 1.0
    before = np.array([np.linalg.norm(view.camera.cam_from_world[:3, 3].numpy()) for view in session.views])
    after = state.cam_from_world[:, :3, 3].norm(dim=-1).double().cpu().numpy()
    return float(np.median(after / np.maximum(before, 1e-12)))


def assemble(
    session: Session, problem: Problem, state: FaceState, finished: list[FinishedStage], options: FitOptions
) -> FitResult:
    """Everything a result holds, from a fitted state."""
    model, maps = problem.model, problem.configuration.maps
    reference = reference_view(state)
    row = state.expression_row(reference)
    fused = fuse_maps(problem, state)
    outcome = None
    if problem.scan is not None:
        outcome = scan_outcome(problem, state, problem.scan.alignment, options.seed)

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy()

    similarity = state.world_from_model.clone()
    similarity[:3, :3] *= state.log_scale.exp()
    views = view_results(problem, tuple(view.name for view in session.views), state)
    face = sample_map(fused.confidence[None], model.atlas_uv[model.regions["face"]])
    face_confidence = float(face.mean())
    stages = tuple(
        StageRecord(s.name, s.log.steps, s.seconds, s.log.energies, s.log.residuals, s.log.note) for s in finished
    )
    return FitResult(
        session=session,
        model=model.to("cpu"),
        configuration=configuration_to_dict(problem.configuration),
        seed=options.seed,
        device=options.device,
        metric=problem.metric,
        mm_per_unit=_mm_per_unit(session, state),
        views=views,
        reference_view=reference,
        expression=array(state.expression[row]),
        identity=array(state.identity),
        albedo=array(state.albedo),
        world_from_model=array(similarity.double()),
        vertices_m0=array(m0_vertices(model, state, row).double()),
        vertices_m1=array(m1_vertices(model, state, row).double()),
        dense=dense_mesh(model, state, dense_surface(model, maps.dense_levels), row),
        deformation_map=array(state.deformation),
        displacement_map=array(state.displacement),
        normal_map=array(fused.normal),
        texture=array(fused.texture),
        albedo_map=array(fused.albedo),
        coverage=array(fused.coverage),
        confidence=surface_confidence(problem, array(fused.confidence), outcome),
        map_valid=array(fused.valid),
        patch_weight=None if fused.patch_weight is None else array(fused.patch_weight),
        stages=stages,
        warnings=session.warnings
        + plain_warnings(session, problem, state, views, face_confidence)
        + (() if outcome is None else scan_warnings(session.scan, outcome)),
        scan=outcome,
        timings={s.name: s.seconds for s in finished},
    )


LANDMARK_DOUBT = 0.09
"""Mean distance of landmarks, in eye distances, from which on a view is worth a look."""
OVERLAP_DOUBT = 0.35
"""Mean confidence of the face's texels below which several views hardly overlap."""


def plain_warnings(
    session: Session, problem: Problem, state: FaceState, views: tuple[ViewResult, ...], face_confidence: float
) -> tuple[str, ...]:
    """What a user should know about this fit, in plain sentences."""
    found = []
    for view in views:
        if view.landmark_error is not None and view.landmark_error > LANDMARK_DOUBT:
            found.append(
                f"The landmarks of {view.name} lie {100 * view.landmark_error:.0f} % of the eye distance from the fit: "
                "look whether they belong to this face and are in the usual order."
            )
    if len(session.views) > 1 and session.scan is None and face_confidence < OVERLAP_DOUBT:
        found.append(
            "Hardly any of the face is seen well by two photographs (dark, clipped, masked out or too far apart): the "
            "shape is mostly the model's guess."
        )
    if not problem.metric:
        found.append(
            "The unit of the cameras is not known: the result's millimetres rest on the average size of a head, so "
            "its absolute size may be wrong by several per cent."
        )
    if len(session.views) == 1 and session.scan is None:
        found.append(
            "One photograph was given: depth comes from the model, outlines and shading, not from parallax. Expect "
            "about a millimetre of error after alignment, more at the sides."
        )
    if not problem.focal_known and len(session.views) == 1:
        found.append("The focal length is not known and was assumed to be that of a portrait lens.")
    if float(state.identity.abs().max()) > 4.0:
        found.append("The head lies far from the model's average (a coefficient above 4 standard deviations).")
    if len(session.views) == 2:
        angle = _angle_between(state)
        if angle > 90.0:
            found.append(f"The two views are {angle:.0f} degrees apart: hardly any surface is seen by both.")
    return tuple(found)


def _angle_between(state: FaceState) -> float:
    axes = state.cam_from_world[:2, 2, :3]
    return float(torch.rad2deg(torch.arccos((axes[0] * axes[1]).sum().clamp(-1.0, 1.0))))
