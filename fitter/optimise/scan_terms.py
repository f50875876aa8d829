"""The scan as normal equations: pairs of closest points in both directions, and landmarks on the scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fitter.energies.scan_distance import pair_weight, plane_residual
from fitter.hierarchy.face import FaceState, deformation_offsets
from fitter.model.morphable import MorphableModel
from fitter.optimise.dense_terms import NormalEquations, from_rows
from fitter.optimise.map_solver import BlockField
from fitter.optimise.parameters import Layout, surface_points, world_jacobian
from fitter.optimise.scan_target import ScanTarget
from fitter.optimise.views import SurfaceGeometry

LANDMARK_GATE_MM = 15.0
"""Landmarks further than this from where the face has them do not count."""


@dataclass(frozen=True)
class PairGates:
    """Which pairs count, at one step."""

    gate: float
    """mm."""
    least_cosine: float
    sigma: float
    """mm."""
    points: int
    """Scan samples that look for a partner on the face."""


@dataclass(frozen=True)
class SurfacePairs:
    """Points of the face and their partners on the scan (K)."""

    vertices: Tensor
    """[K, 3] corner vertices of the face's points."""
    weights: Tensor
    """[K, 3] their barycentric weights."""
    offset: Tensor
    """[K, 3] world mm, from the scan's point to the face's."""
    normal: Tensor
    """[K, 3] unit normals of the scan."""
    weight: Tensor
    """[K] belief times the area (mm²) that the pair stands for."""


def usable_vertices(model: MorphableModel) -> Tensor:
    """[V] bool: the face's skin; no sockets, no inside of the mouth, no back of the head."""
    return model.regions["face"] & ~model.hidden


@lru_cache(maxsize=4)
def vertex_areas(model: MorphableModel) -> Tensor:
    """[V] mm²: a third of the triangles around each vertex of the mean face."""
    a, b, c = (model.mean[model.triangles[:, k]] for k in range(3))
    third = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 6.0
    areas = model.mean.new_zeros(model.vertex_count)
    return areas.index_add(0, model.triangles.flatten(), third.repeat_interleave(3))


def closest_pairs(
    model: MorphableModel, geometry: SurfaceGeometry, target: ScanTarget, gates: PairGates, *, first: bool = True
) -> SurfacePairs:
    """Pairs from every usable vertex of the face to the scan, and from samples of the scan to the face.

    Both directions look at the same area and weigh the same. A pair is dropped where the scan ends, where the face's
    point is not usable, and where `gates` say so. `first` says that the face is another than at the last call, or
    lies elsewhere.
    """
    usable = usable_vertices(model)
    chosen = torch.nonzero(usable).flatten()
    points, normals = geometry.vertices[chosen], geometry.normals[chosen]
    at = target.queries.closest(points, gates.gate)
    scan_normals = target.normals_at(at)
    offset = points - target.queries.interpolate(target.vertices, at)
    cosine = (normals * scan_normals).sum(-1)
    weight = _weight(at.distance, cosine, gates) * ~target.ends_at(at)
    areas = vertex_areas(model)[chosen]
    corners = chosen[:, None].expand(-1, 3)
    first_only = torch.zeros_like(points)
    first_only[:, 0] = 1.0

    count = min(gates.points, target.points.shape[0])
    sampled, sampled_normals = target.points[:count], target.point_normals[:count]
    face = target.face_at(geometry.vertices, model.triangles, afresh=first)
    back = face.closest(sampled, gates.gate)
    back_normals = torch.nn.functional.normalize(face.interpolate(geometry.normals, back), dim=-1)
    back_corners = face.triangles[back.triangle]
    back_weight = _weight(back.distance, (back_normals * sampled_normals).sum(-1), gates) * usable[back_corners].all(-1)
    area = areas.sum() / max(count, 1)
    return SurfacePairs(
        torch.cat([corners, back_corners]),
        torch.cat([first_only, back.weights]),
        torch.cat([offset, face.interpolate(geometry.vertices, back) - sampled]),
        torch.cat([scan_normals, sampled_normals]),
        torch.cat([weight * areas, back_weight * area]),
    )


def _weight(distance: Tensor, cosine: Tensor, gates: PairGates) -> Tensor:
    return pair_weight(distance, cosine, gate=gates.gate, least_cosine=gates.least_cosine, sigma=gates.sigma)


def median_distance(pairs: SurfacePairs) -> float:
    """Weighted median distance (mm) of the pairs from the scan's tangent planes."""
    residual = plane_residual(pairs.offset, pairs.normal).abs()
    order = residual.argsort()
    total = pairs.weight[order].cumsum(0)
    if float(total[-1]) <= 0:
        return float("nan")
    return float(residual[order][torch.searchsorted(total, 0.5 * total[-1])])


def scan_equations(
    model: MorphableModel, state: FaceState, layout: Layout, pairs: SurfacePairs, point_share: float
) -> NormalEquations:
    """Weighted mean of the squared distances (mm²) as normal equations of the dense parameters.

    Args:
        model: The face model.
        state: Where to linearise.
        layout: Free parameters.
        pairs: Closest points.
        point_share: Share of the squared point-to-point distance beside the squared point-to-plane distance.
    """
    keep = pairs.weight > 1e-6 * pairs.weight.amax().clamp_min(1e-12)
    vertices, weights = pairs.vertices[keep], pairs.weights[keep]
    offset, normal = pairs.offset[keep], pairs.normal[keep]
    offsets = (deformation_offsets(model, state)[vertices] * weights[..., None]).sum(1)
    points = surface_points(model, state, vertices, weights, offsets)
    per_pair = pairs.weight[keep] / pairs.weight[keep].sum().clamp_min(1e-12)
    rows = world_jacobian(state, layout, points, 0, normal)
    equations = from_rows(rows, plane_residual(offset, normal), per_pair)
    if point_share > 0:
        axes = torch.eye(3, device=offset.device, dtype=offset.dtype)
        for axis in range(3):
            rows = world_jacobian(state, layout, points, 0, axes[axis].expand_as(normal))
            equations.add(from_rows(rows, offset[:, axis], per_pair), point_share)
    return equations


def scan_blocks(model: MorphableModel, state: FaceState, pairs: SurfacePairs, point_share: float) -> BlockField:
    """The same energy, summed over the surface (mm² times mm²), as blocks for offsets of the vertices in model axes.

    A pair's point moves with the mean of its three corners. Its energy is bounded by the mean of the corners' energies
    (Jensen), so blocks without cross terms majorise it, and the gradient is exact: steps are a little short where
    neighbours would move apart, and where they end is the same.
    """
    rotation = state.world_from_model[:3, :3]
    normal, offset = pairs.normal @ rotation, pairs.offset @ rotation
    identity = torch.eye(3, device=normal.device, dtype=normal.dtype)
    matrix = (normal[:, :, None] * normal[:, None, :] + point_share * identity) * pairs.weight[:, None, None]
    gradient = (matrix @ offset[..., None])[..., 0]
    return _at_vertices(model.vertex_count, pairs.vertices, pairs.weights, matrix, gradient)


def _at_vertices(count: int, vertices: Tensor, weights: Tensor, matrix: Tensor, gradient: Tensor) -> BlockField:
    """Spread blocks [K, 3, 3] and gradients [K, 3] of barycentric points over their corners."""
    packed = torch.cat([matrix.flatten(1), gradient], -1)
    total = packed.new_zeros(count, 12)
    for corner in range(3):
        total.index_add_(0, vertices[:, corner], packed * weights[:, corner, None])
    return BlockField(
        total[:, :9].T.reshape(3, 3, count, 1).contiguous(), total[:, 9:].T.reshape(3, count, 1).contiguous()
    )


@dataclass(frozen=True)
class ScanLandmarkPairs:
    """Landmarks of the face and where the scan has them (L)."""

    vertices: Tensor
    """[L, 3]."""
    weights: Tensor
    """[L, 3]."""
    offset: Tensor
    """[L, 3] world mm, from the scan's landmark to the face's."""
    weight: Tensor
    """[L] Cauchy weight, 1 / (1 + (e / (robust sigma))²)."""


def landmark_pairs(
    geometry: SurfaceGeometry, target: ScanTarget, sigma_mm: float, robust: float = 2.0
) -> ScanLandmarkPairs:
    """Landmarks on the scan; the jaw line's are left out, it has no fixed place on the skin."""
    inner = target.landmark_indices >= 17
    embedding = target.landmark_embedding.rows(inner)
    offset = embedding(geometry.vertices) - target.landmarks[inner]
    distance = offset.norm(dim=-1)
    # A point that lies far off belongs to another part of the face: a nostril's rim, a hidden lid.
    weight = (distance < LANDMARK_GATE_MM) / (1.0 + (distance / (robust * sigma_mm)) ** 2)
    return ScanLandmarkPairs(embedding.vertices, embedding.weights, offset, weight)


def scan_landmark_equations(
    model: MorphableModel, state: FaceState, layout: Layout, pairs: ScanLandmarkPairs, sigma_mm: float
) -> NormalEquations:
    """Sum of robust squared landmark distances over sigma² as normal equations of the dense parameters."""
    offsets = (deformation_offsets(model, state)[pairs.vertices] * pairs.weights[..., None]).sum(1)
    points = surface_points(model, state, pairs.vertices, pairs.weights, offsets)
    axes = torch.eye(3, device=offsets.device, dtype=offsets.dtype)
    total = NormalEquations.zeros(layout.size, state.identity)
    for axis in range(3):
        rows = world_jacobian(state, layout, points, 0, axes[axis].expand_as(offsets).contiguous())
        total.add(from_rows(rows / sigma_mm, pairs.offset[:, axis] / sigma_mm, pairs.weight), 1.0)
    return total


def scan_landmark_blocks(
    model: MorphableModel, state: FaceState, pairs: ScanLandmarkPairs, per_landmark: float
) -> BlockField:
    """Landmarks as blocks for offsets of the vertices in model axes; `per_landmark` is the weight of 1 mm²."""
    offset = pairs.offset @ state.world_from_model[:3, :3]
    identity = torch.eye(3, device=offset.device, dtype=offset.dtype)
    weight = per_landmark * pairs.weight
    matrix = identity * weight[:, None, None]
    return _at_vertices(model.vertex_count, pairs.vertices, pairs.weights, matrix, offset * weight[:, None])
