"""The energies `scan` and `scan_landmark` of a Gauss-Newton stage."""

from __future__ import annotations

import torch
from torch import Tensor

from fitter.energies.scan_distance import plane_residual
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.vertex_sampling import VertexSampling
from fitter.optimise.config import Stage
from fitter.optimise.dense_terms import NormalEquations
from fitter.optimise.map_solver import BlockField
from fitter.optimise.parameters import Layout
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.scan_terms import (
    PairGates,
    closest_pairs,
    landmark_pairs,
    median_distance,
    scan_blocks,
    scan_equations,
    scan_landmark_blocks,
    scan_landmark_equations,
    usable_vertices,
)
from fitter.optimise.views import SurfaceGeometry

SCAN_SETTINGS: dict[str, frozenset[str]] = {
    "scan": frozenset({"weight", "map_weight", "gate", "least_cosine", "sigma", "points", "point_share"}),
    "scan_landmark": frozenset({"weight", "map_weight", "sigma_mm"}),
}
"""Energies of a scan that Gauss-Newton can minimise, with their settings."""
LANDMARK_AREA = 100.0
"""mm² of surface that a landmark with a map weight of 1 outweighs."""


def stage_gates(stage: Stage, progress: float) -> PairGates:
    """The stage's gates after the fraction `progress` of its steps."""
    return PairGates(
        gate=setting(stage, "scan", "gate", [15.0, 5.0], progress),
        least_cosine=setting(stage, "scan", "least_cosine", [0.5, 0.75], progress),
        sigma=setting(stage, "scan", "sigma", [4.0, 1.0], progress),
        points=int(setting(stage, "scan", "points", 4000, progress)),
    )


def add_scan_equations(
    equations: NormalEquations,
    problem: Problem,
    state: FaceState,
    layout: Layout,
    stage: Stage,
    geometry: SurfaceGeometry,
    progress: float,
    log: StageLog,
) -> None:
    """Add what the stage asks of the scan to the dense parameters' equations."""
    model, target = problem.model, problem.scan
    if target is None:
        return
    if "scan" in stage.energies:
        pairs = closest_pairs(model, geometry, target, stage_gates(stage, progress), first=log.steps == 0)
        share = setting(stage, "scan", "point_share", 0.0, progress)
        data = scan_equations(model, state, layout, pairs, share)
        weight = setting(stage, "scan", "weight", 1.0, progress)
        equations.add(data, weight)
        log.energy("scan", weight * data.energy)
        log.residuals["scan_median_mm"] = median_distance(pairs)
    if "scan_landmark" in stage.energies and has_landmarks(problem):
        sigma = setting(stage, "scan_landmark", "sigma_mm", 2.0, progress)
        found = landmark_pairs(geometry, target, sigma)
        data = scan_landmark_equations(model, state, layout, found, sigma)
        weight = setting(stage, "scan_landmark", "weight", 1.0, progress)
        equations.add(data, weight)
        log.energy("scan_landmark", weight * data.energy)
        log.residuals["scan_landmark_mm"] = float(found.offset.norm(dim=-1).median())


def deformation_data(
    problem: Problem, state: FaceState, stage: Stage, geometry: SurfaceGeometry, progress: float, log: StageLog
) -> list[tuple[BlockField, VertexSampling]]:
    """What the stage asks of the scan as blocks for the deformation map, per texel of a 64 × 64 map."""
    model, target = problem.model, problem.scan
    if target is None:
        return []
    # Only vertices that pairs can speak of: a third of the head, and small enough to stay on one core.
    active = usable_vertices(model)
    active[target.landmark_embedding.vertices.flatten()] = True
    chosen = torch.nonzero(active).flatten()
    sampling = VertexSampling.build(model.atlas_uv[chosen], state.deformation.shape[-1])
    data = []
    if "scan" in stage.energies:
        pairs = closest_pairs(model, geometry, target, stage_gates(stage, progress), first=log.steps == 0)
        share = setting(stage, "scan", "point_share", 0.05, progress)
        weight = setting(stage, "scan", "map_weight", 1.0, progress)
        data.append((_selected(scan_blocks(model, state, pairs, share), chosen, weight), sampling))
        log.residuals["scan_median_mm"] = median_distance(pairs)
        squared = plane_residual(pairs.offset, pairs.normal).square()
        log.energy("scan", float((pairs.weight * squared).sum() / pairs.weight.sum().clamp_min(1e-12)))
    if "scan_landmark" in stage.energies and has_landmarks(problem):
        found = landmark_pairs(geometry, target, setting(stage, "scan_landmark", "sigma_mm", 2.0, progress))
        weight = setting(stage, "scan_landmark", "map_weight", 1.0, progress) * LANDMARK_AREA
        data.append((_selected(scan_landmark_blocks(model, state, found, weight), chosen, 1.0), sampling))
        log.residuals["scan_landmark_mm"] = float(found.offset.norm(dim=-1).median())
    return data


def has_landmarks(problem: Problem) -> bool:
    """Whether the scan brought landmarks that have a fixed place on the skin."""
    return problem.scan is not None and bool((problem.scan.landmark_indices >= 17).any())


def _selected(blocks: BlockField, vertices: Tensor, weight: float) -> BlockField:
    """The blocks of some of the vertices, times a weight."""
    return BlockField(weight * blocks.matrix[:, :, vertices], weight * blocks.gradient[:, vertices])
