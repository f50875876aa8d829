"""Generated faces that the model cannot span: model shape, deformation of space, furrows, pores."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from benchmarks.subjects.curves import SurfaceDrawer
from benchmarks.subjects.fields import random_field, tamed
from benchmarks.subjects.furrows import Furrow, random_furrows
from benchmarks.subjects.head import EXPRESSIONS, Head, build_head
from benchmarks.subjects.refine import smooth_normals
from benchmarks.subjects.relief import Relief, random_relief
from benchmarks.subjects.subject import Subject, SurfacePoints

FADE = (0.2, 0.6)
"""mm: fine relief fades out where edges are so much longer than in the face, because the mesh could not show it."""


def generate_subject(
    seed: int,
    *,
    edge_mm: float = 0.4,
    expression: str | dict[str, float] = "neutral",
    spread: float = 0.7,
    age: float | None = None,
    deformation: float = 1.0,
    detail: float = 1.0,
) -> Subject:
    """A face with known truth. The same arguments give the same arrays; another expression, the same person.

    Args:
        seed: Number of the person.
        edge_mm: Longest edge within 90 mm of the nose tip.
        expression: A name of `EXPRESSIONS` or weights of the model's actions.
        spread: Standard deviation of the identity's coefficients.
        age: In [0, 1], how deep the furrows are; None draws it.
        deformation: Factor on the smooth deformation outside the model's span.
        detail: Factor on furrows and pores.
    """
    shape_random, field_random, detail_random, age_random = (np.random.default_rng([seed, part]) for part in range(4))
    weights = EXPRESSIONS[expression] if isinstance(expression, str) else expression
    head = build_head(shape_random, edge_mm, weights, spread)
    age = float(age_random.uniform(0.1, 1.0)) if age is None else float(age)

    anchors = nearest_points(head, head.landmarks)
    on_face = np.flatnonzero((head.regions["face"] > 0.5) & (head.wanted_edge < edge_mm + 0.5))
    # The coarse mesh decides where things are, so that the person does not depend on the density.
    coarse_count = int(head.coarse_triangles.max()) + 1
    places = _even_subset(head.rest, on_face[on_face < coarse_count])
    places_normals = smooth_normals(head.rest[:coarse_count], head.coarse_triangles)[places]
    field = random_field(head.landmarks, head.rest[places], places_normals, field_random)
    rest = head.rest + deformation * tamed(field, head.rest[places])(head.rest)

    marks = anchors(rest)
    normals = smooth_normals(rest, head.triangles)
    drawer = SurfaceDrawer(rest[on_face], normals[on_face])
    furrows = random_furrows(marks, drawer, age, detail_random)
    relief = random_relief(marks, rest[places], age, detail_random)
    grooves, fine = _details(head, rest, furrows, relief, edge_mm)
    grooves, fine = detail * grooves, detail * fine

    deformed = rest + head.expression_offset
    deformed_normals = smooth_normals(deformed, head.triangles)
    vertices = deformed + (grooves + fine)[:, None] * deformed_normals
    return Subject(
        name=f"subject_{seed:03d}",
        seed=seed,
        age=age,
        vertices=vertices,
        triangles=head.triangles,
        normals=smooth_normals(vertices, head.triangles),
        rest=rest,
        base=head.rest + head.expression_offset,
        deformed=deformed,
        deformed_normals=deformed_normals,
        detail=grooves + fine,
        furrow_detail=grooves,
        landmark_points=anchors,
        rest_landmarks=marks,
        regions=head.regions,
        hidden_depth=head.hidden_depth,
        wanted_edge=head.wanted_edge,
        furrows=tuple(furrows),
        relief=relief,
        expression=expression if isinstance(expression, str) else "custom",
        world_from_model=np.eye(4),
    )


def _even_subset(points: np.ndarray, candidates: np.ndarray, cell: float = 3.0) -> np.ndarray:
    """One of the candidates in each occupied cell of a grid, so that no part of the face has more of them."""
    cells = np.floor(points[candidates] / cell).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return candidates[first]


def _details(
    head: Head, rest: np.ndarray, furrows: list[Furrow], relief: Relief, edge_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Displacement along the normal [V] of the furrows and of the fine relief, mm."""
    grooves, fine = np.zeros(len(rest)), np.zeros(len(rest))
    # Relief goes to zero at the lids' and lips' edges and in the nostrils, where there is no room for it.
    outside = (1.0 - head.hidden_depth / 0.8).clip(0.0, 1.0) * (1.0 - head.regions["nostrils"])
    outside *= head.regions["skin"] * (1.0 - head.regions["mouth_inside"]) * (1.0 - head.regions["sockets"])
    outside *= ((edge_mm + FADE[1] - head.wanted_edge) / (FADE[1] - FADE[0])).clip(0.0, 1.0)
    visible = np.flatnonzero(outside > 0)
    points, lips = rest[visible], head.regions["lips"][visible]
    strength = outside[visible]
    total = np.zeros(len(visible))
    for furrow in furrows:
        chosen, amount = furrow.displacement(points)
        total[chosen] += amount
    grooves[visible] = total * strength * (1.0 - lips)
    fine[visible] = relief(points, lips) * strength
    return grooves, fine


def nearest_points(head: Head, targets: np.ndarray) -> SurfacePoints:
    """The points of the outer skin closest to targets [L, 3] mm, as barycentric points."""
    outer = (head.regions["skin"] > 0.5) & (head.hidden_depth < 2.0)
    triangles = head.triangles[outer[head.triangles].all(1)]
    _, nearest = cKDTree(head.rest[triangles].mean(1)).query(targets, k=24)
    chosen, weights = [], []
    for target, rows in zip(targets, nearest, strict=True):
        corners = head.rest[triangles[rows]]
        closest = trimesh.triangles.closest_point(corners, np.tile(target, (len(rows), 1)))
        best = np.linalg.norm(closest - target, axis=1).argmin()
        chosen.append(triangles[rows[best]])
        weights.append(trimesh.triangles.points_to_barycentric(corners[[best]], closest[[best]])[0])
    weights = np.array(weights).clip(0.0, 1.0)
    return SurfacePoints(np.array(chosen), weights / weights.sum(1, keepdims=True))
