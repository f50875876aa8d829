"""What a finished fit holds, on the way to files. Everything is numpy, in world millimetres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fitter.capture.types import Session
from fitter.model.morphable import MorphableModel


@dataclass(frozen=True)
class DenseMesh:
    """M2: a subdivided M1 that carries the displacement, with atlas UVs."""

    vertices: np.ndarray
    """[Vd, 3] float64, world mm."""
    normals: np.ndarray
    """[Vd, 3] unit normals of the displaced surface."""
    triangles: np.ndarray
    """[Fd, 3] int64."""
    uv: np.ndarray
    """[Vd, 2] atlas coordinates (one per vertex; the atlas has no seam)."""


@dataclass(frozen=True)
class ViewResult:
    """What the fit found for one photograph."""

    name: str
    intrinsics: np.ndarray
    """[3, 3] px, for the undistorted photograph at full size."""
    cam_from_world: np.ndarray
    """[4, 4] rigid, mm."""
    size: tuple[int, int]
    """(height, width) of the photograph."""
    expression: np.ndarray
    """[E] expression coefficients of this view (the same in every view of a rig)."""
    lighting: np.ndarray
    """[9, 3] spherical-harmonics coefficients, linear RGB, world frame."""
    landmarks_fitted: np.ndarray | None
    """[L, 2] px, the model's landmarks on M1 as this view sees them, or None without landmarks."""
    landmark_error: float | None
    """Mean distance of fitted to detected landmarks, as a fraction of the inter-ocular distance."""
    vertices_m0: np.ndarray
    """[V, 3] world mm, M0 with this view's expression."""
    vertices_m1: np.ndarray
    """[V, 3] world mm, M1 with this view's expression."""
    texture: np.ndarray | None = None
    """[S, S, 3] float32 linear RGB, T: the photograph through M0, what it does not show filled in; row 0 is v = 0."""
    texture_weight: np.ndarray | None = None
    """[S, S] float32 in [0, 1]: how well the photograph shows the texel, 0 where T was filled in."""
    realigned: np.ndarray | None = None
    """[S, S, 3] float32 linear RGB, T': T moved along with the deformation map (HRN §3.2)."""
    realigned_weight: np.ndarray | None = None
    """[S, S] float32 in [0, 1], of T'."""
    realigned_difference: float | None = None
    """Median absolute difference of T' and the photograph sampled through M1, sRGB-encoded, 0–1."""


@dataclass(frozen=True)
class StageRecord:
    """One stage as it ran: what was free, and what became of its energies."""

    name: str
    steps: int
    seconds: float
    energies: dict[str, tuple[float, float]]
    """name -> (weighted energy before, after)."""
    residuals: dict[str, float]
    """name -> a residual in its own unit, e.g. `landmark_px`, `consistency_grey`."""
    note: str = ""


@dataclass(frozen=True)
class LevelResiduals:
    """Distances of points of the scan to one level of the fit."""

    count: int
    """Points counted."""
    median_mm: float
    mean_mm: float
    p90_mm: float
    """90th percentile."""
    normal_median: float
    """Degrees between the scan's interpolated normal and the fit's at the closest point."""
    normal_mean: float


@dataclass(frozen=True)
class ScanOutcome:
    """What became of a session's scan."""

    alignment: dict[str, Any]
    """How the face was found in the scan: method, score, runner-up, whether that is certain."""
    residuals: dict[str, dict[str, LevelResiduals]]
    """Level (M0, M1, M2) -> `all` and `skin` (without eye apertures, nostrils, inside of the mouth)."""
    landmark_mm: dict[str, np.ndarray] | None
    """Level -> [L] distances of the scan's landmarks, or None where it has none."""
    as_marked: np.ndarray | None
    """[68, 3] world mm: iBUG-68 on M1 where whoever set the scan's landmarks would set them; None where it has none."""
    flipped_triangles: int
    """Triangles of the face that M1 turned around, lids, nostrils and mouth aside."""
    counted_triangles: int
    """Triangles looked at for that."""
    noise_mm: float
    """Estimated noise of the scan's vertices."""
    edge_mm: float
    """Median edge of the scan."""
    valid: np.ndarray
    """[S, S] bool: texels whose displacement was measured on the scan, row 0 is v = 0."""
    vertices: np.ndarray
    """[P, 3] world mm: the part of the scan that was fitted."""
    triangles: np.ndarray
    """[Q, 3]."""
    counted: np.ndarray
    """[P] bool: vertices near the nose tip that face forward, where the residuals' samples lie."""
    distances: dict[str, np.ndarray]
    """Level -> [P] mm from the scan's vertices to that level."""


@dataclass(frozen=True)
class FitResult:
    """A fitted session."""

    session: Session
    model: MorphableModel
    configuration: dict[str, Any]
    seed: int
    device: str
    metric: bool
    """Whether the world's unit is known; otherwise millimetres rest on a prior of head size."""
    mm_per_unit: float
    """World millimetres per session unit; exporters divide by it."""
    views: tuple[ViewResult, ...]
    reference_view: int
    """The view whose expression the exported meshes wear; 0 without views."""
    expression: np.ndarray
    """[E] expression coefficients that the exported meshes wear."""
    identity: np.ndarray
    """[I]."""
    albedo: np.ndarray
    """[A] albedo coefficients."""
    world_from_model: np.ndarray
    """[4, 4] similarity, model mm to world mm."""
    vertices_m0: np.ndarray
    """[V, 3] world mm, with the reference view's expression."""
    vertices_m1: np.ndarray
    """[V, 3] world mm."""
    dense: DenseMesh
    deformation_map: np.ndarray
    """[3, R, R] float32 mm, model axes, row 0 is v = 0."""
    displacement_map: np.ndarray
    """[S, S] float32 mm along M1's normal, row 0 is v = 0."""
    normal_map: np.ndarray
    """[S, S, 3] float32 tangent-space unit normals (x along u, y along v, z out), row 0 is v = 0."""
    texture: np.ndarray
    """[T, T, 3] float32 linear RGB, fused, holes filled, row 0 is v = 0."""
    albedo_map: np.ndarray
    """[T, T, 3] float32 linear RGB, de-retouched albedo A', row 0 is v = 0."""
    coverage: np.ndarray
    """[S, S] float32: number of views that see the texel (angle- and visibility-weighted count), row 0 is v = 0."""
    confidence: np.ndarray
    """[S, S] float32 in [0, 1]: how well scan and photographs determine the surface there, row 0 is v = 0."""
    map_valid: np.ndarray
    """[S, S] bool: texels covered by the atlas' triangles."""
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...] = field(default=())
    timings: dict[str, float] = field(default_factory=dict)
    patch_weight: np.ndarray | None = None
    """[T, T] float32 in [0, 1]: how far photographs decide texture and albedo of eyeballs and inside of the mouth."""
    scan: ScanOutcome | None = None
    """Where the session has a scan."""
