"""How well each level of the hierarchy follows the scan, and where the scan says something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fitter.hierarchy.dense import dense_surface
from fitter.hierarchy.face import FaceState, m0_vertices, m1_vertices
from fitter.kernels.mesh_queries import MeshPoints, MeshQueries
from fitter.kernels.surface import vertex_normals
from fitter.kernels.surface_sampling import equal_area_samples
from fitter.model.morphable import MorphableModel
from fitter.optimise.problem import Problem
from fitter.optimise.ray_displacement import MeasuredDisplacement, measure_stage
from fitter.optimise.scan_energies import has_landmarks
from fitter.optimise.scan_terms import usable_vertices
from fitter.result.marking_habit import FIRST_INNER, points_as_marked
from fitter.result.types import LevelResiduals, ScanOutcome

RADIUS_MM = 80.0
"""Around the fitted nose tip."""
FACING = 0.2
"""Least component of the scan's normal along the face's forward axis."""
SAMPLES = 20_000
EYES = (tuple(range(36, 42)), tuple(range(42, 48)))
EYE_ELLIPSE_MM = (17.0, 10.0)
"""Half width and height of the eye's aperture: where a scan shows an eyeball or nothing, the model has a socket."""
NOSTRILS = ((31, 32), (34, 35))
NOSTRIL_MM = 7.0
NOSE_TIP = 30


def skin_vertices(model: MorphableModel) -> Tensor:
    """[V] bool: the face without eye apertures, nostrils and the inside of the mouth."""
    landmarks = model.landmarks(model.mean)
    keep = usable_vertices(model).clone()
    for eye in EYES:
        offset = model.mean - landmarks[list(eye)].mean(0)
        width, height = EYE_ELLIPSE_MM
        keep &= ~(((offset[:, 0] / width) ** 2 + (offset[:, 1] / height) ** 2 < 1) & (offset[:, 2].abs() < 25.0))
    for pair in NOSTRILS:
        keep &= (model.mean - landmarks[list(pair)].mean(0)).norm(dim=-1) >= NOSTRIL_MM
    return keep


@dataclass(frozen=True)
class _Level:
    """One level's surface."""

    vertices: Tensor
    normals: Tensor
    triangles: Tensor
    skin: Tensor


def _levels(problem: Problem, state: FaceState) -> dict[str, _Level]:
    model = problem.model
    skin = skin_vertices(model)
    m0, m1 = m0_vertices(model, state), m1_vertices(model, state)
    dense = dense_surface(model, problem.configuration.maps.dense_levels)
    m2, m2_normals = dense.displace(m1, state.displacement)
    fine_skin = dense.positions(skin.to(m1.dtype)[:, None])[:, 0] > 0.99
    return {
        "M0": _Level(m0, vertex_normals(m0[None], problem.topology)[0], model.triangles, skin),
        "M1": _Level(m1, vertex_normals(m1[None], problem.topology)[0], model.triangles, skin),
        "M2": _Level(m2, m2_normals, dense.triangles, fine_skin),
    }


def scan_outcome(problem: Problem, state: FaceState, alignment: dict, seed: int) -> ScanOutcome:
    """Measure a fit to a scan.

    Args:
        problem: With the scan.
        state: The fit.
        alignment: How the scan was found, for the record.
        seed: Of the fit; the samples measured here are others than those the fit drew.
    """
    target, model = problem.scan, problem.model
    levels = _levels(problem, state)
    points, normals = equal_area_samples(target.vertices, target.triangles, target.normals, SAMPLES, seed + 7919)
    forward = state.world_from_model[:3, 2]
    residuals, distances = {}, {}
    for name, level in levels.items():
        anchor = level if name != "M2" else levels["M1"]
        tip = model.landmarks(anchor.vertices)[NOSE_TIP]
        queries = MeshQueries(level.vertices, level.triangles)
        near = _counted(points, normals, tip, forward)
        residuals[name] = _residuals(level, queries, points[near], normals[near])
        distances[name] = queries.closest(target.vertices).distance.double().cpu().numpy()
        judged = _counted(target.vertices, target.normals, tip, forward)
    flipped, counted = flipped_triangles(model, levels["M0"].vertices, levels["M1"].vertices)
    measured = _measured(problem, state)
    return ScanOutcome(
        alignment=alignment,
        residuals=residuals,
        landmark_mm=_landmark_errors(problem, levels) if has_landmarks(problem) else None,
        as_marked=_as_marked(problem, state, levels["M1"]) if has_landmarks(problem) else None,
        flipped_triangles=flipped,
        counted_triangles=counted,
        noise_mm=target.noise_mm,
        edge_mm=target.edge_mm,
        valid=measured.valid.cpu().numpy(),
        vertices=target.vertices.double().cpu().numpy(),
        triangles=target.triangles.cpu().numpy(),
        counted=judged.cpu().numpy(),
        distances=distances,
    )


def _measured(problem: Problem, state: FaceState) -> MeasuredDisplacement:
    """One ray per texel, as the configuration's last ray stage casts them, or with its defaults."""
    from fitter.optimise.config import Stage

    stages = [stage for stage in problem.configuration.stages if stage.solver == "ray_cast"]
    stage = stages[-1] if stages else Stage(name="rays", solver="ray_cast")
    return measure_stage(problem, state, stage, rays=1)


def _counted(points: Tensor, normals: Tensor, nose_tip: Tensor, forward: Tensor) -> Tensor:
    """[K] bool: points of the scan that belong to the face and not to hair, ears or neck."""
    return ((points - nose_tip).norm(dim=-1) <= RADIUS_MM) & (normals @ forward > FACING)


def _residuals(level: _Level, queries: MeshQueries, points: Tensor, normals: Tensor) -> dict[str, LevelResiduals]:
    at = queries.closest(points)
    skin = level.skin[level.triangles[at.triangle]].all(-1)
    angle = _angles(queries, level, at, normals)
    return {"all": _summary(at.distance, angle), "skin": _summary(at.distance[skin], angle[skin])}


def _angles(queries: MeshQueries, level: _Level, at: MeshPoints, normals: Tensor) -> Tensor:
    fitted = torch.nn.functional.normalize(queries.interpolate(level.normals, at), dim=-1)
    return torch.rad2deg(torch.arccos((fitted * normals).sum(-1).clamp(-1.0, 1.0)))


def _summary(distance: Tensor, angle: Tensor) -> LevelResiduals:
    if len(distance) == 0:
        nan = float("nan")
        return LevelResiduals(0, nan, nan, nan, nan, nan)
    return LevelResiduals(
        count=len(distance),
        median_mm=float(distance.median()),
        mean_mm=float(distance.mean()),
        p90_mm=float(distance.quantile(0.9)),
        normal_median=float(angle.median()),
        normal_mean=float(angle.mean()),
    )


def _landmark_errors(problem: Problem, levels: dict[str, _Level]) -> dict[str, np.ndarray]:
    """Distance [L] of the face's landmarks from the scan's, mm, for M0 and M1.

    Without the jaw line, which has no fixed place on the skin.
    """
    target = problem.scan
    inner = target.landmark_indices >= FIRST_INNER
    found = {}
    for name in ("M0", "M1"):
        at = target.landmark_embedding(levels[name].vertices)[inner]
        found[name] = (at - target.landmarks[inner]).norm(dim=-1).double().cpu().numpy()
    return found


def _as_marked(problem: Problem, state: FaceState, level: _Level) -> np.ndarray:
    """[68, 3] world mm: landmarks of M1 where whoever set the scan's would set them."""
    target, model = problem.scan, problem.model
    inner = target.landmark_indices >= FIRST_INNER
    skin = model.triangles[model.regions["skin"][model.triangles].all(-1)]
    embedding = model.landmarks_as_set_by(people=target.marked)
    numbers, points = target.landmark_indices[inner], target.landmarks[inner]
    found = points_as_marked(embedding, level.vertices, skin, state.world_from_model, points, numbers)
    return found.double().cpu().numpy()


def flipped_triangles(model: MorphableModel, before: Tensor, after: Tensor) -> tuple[int, int]:
    """Triangles of the face that M1 turned around, and how many were looked at; without lids, nostrils and mouth."""
    triangles = model.triangles[skin_vertices(model)[model.triangles].all(-1)]

    def normals(vertices: Tensor) -> Tensor:
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        return torch.linalg.cross(b - a, c - a)

    return int(((normals(before) * normals(after)).sum(-1) < 0).sum()), len(triangles)
