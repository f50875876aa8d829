"""The maps' own coordinates: a disc map of the skin with minimised stretch, half of it on the face, without a flip.

Tutte/Floater embedding with mean-value weights (Floater 2003), reweighted against stretch (Yoshizawa, Belyaev and Seidel
2004), with an importance per vertex that says where the map's area goes. All weights stay positive and the outline is
convex, so no triangle can flip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

OUTLINE_EXPONENT = 5.0
"""Superellipse exponent of the outline: nearly the full square, corners left free for the eyeballs."""
ROUNDS = 6
"""Rounds of reweighting; more than about six diverges (measured: the face's share falls again)."""
STEP = 0.6
"""Exponent of the reweighting."""


@dataclass(frozen=True)
class AtlasQuality:
    """What a finished atlas is worth."""

    flipped: int
    """Triangles with negative area."""
    face_share: float
    """Fraction of the unit square covered by the triangles counted as face."""


def boundary_loop(triangles: np.ndarray) -> np.ndarray:
    """The longest boundary loop of a manifold mesh, as vertex numbers in order (counter-clockwise around the hole's mesh)."""
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    count = int(triangles.max()) + 1
    keys = directed[:, 0] * count + directed[:, 1]
    reverse = directed[:, 1] * count + directed[:, 0]
    open_edges = directed[~np.isin(keys, reverse)]
    follow = {int(start): int(end) for start, end in open_edges}
    best: list[int] = []
    while follow:
        start = next(iter(follow))
        loop = [start]
        current = follow.pop(start)
        while current != start and current in follow:
            loop.append(current)
            current = follow.pop(current)
        if len(loop) > len(best):
            best = loop
    if len(best) < 3:
        raise ValueError("the skin has no boundary, so it cannot be flattened to a disc")
    return np.array(best)


def _outline(points: np.ndarray) -> np.ndarray:
    """Place the boundary on a superellipse by arc length; the loop's front (largest z) goes to the bottom centre."""
    closed = np.vstack([points, points[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    fraction = length[:-1] / length[-1]
    centre_x = points[:, 0].mean()
    front = np.argmax(points[:, 2] - 0.5 * np.abs(points[:, 0] - centre_x))
    fraction = (fraction - fraction[front]) % 1.0
    # Walk the outline itself by arc length, starting at its bottom centre, counter-clockwise.
    angle = np.linspace(-0.5 * np.pi, 1.5 * np.pi, 4097)
    cosine, sine = np.cos(angle), np.sin(angle)
    radius = (np.abs(cosine) ** OUTLINE_EXPONENT + np.abs(sine) ** OUTLINE_EXPONENT) ** (-1.0 / OUTLINE_EXPONENT)
    curve = np.stack([radius * cosine, radius * sine], 1)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    along /= along[-1]
    # Inside [0.004, 0.996]: the outermost texels keep a neighbour on either side.
    return np.stack([np.interp(fraction, along, curve[:, k]) for k in (0, 1)], 1) * 0.496 + 0.5


def _mean_value_weights(vertices: np.ndarray, triangles: np.ndarray) -> sp.csr_matrix:
    """Mean-value weights (Floater 2003, eq. 4) as a sparse matrix [V, V]; row i holds the weights of i's neighbours."""
    rows, columns, values = [], [], []
    for corner in range(3):
        i, j, k = (triangles[:, (corner + step) % 3] for step in range(3))
        to_j, to_k = vertices[j] - vertices[i], vertices[k] - vertices[i]
        length_j = np.maximum(np.linalg.norm(to_j, axis=1), 1e-9)
        length_k = np.maximum(np.linalg.norm(to_k, axis=1), 1e-9)
        cosine = np.clip((to_j * to_k).sum(1) / (length_j * length_k), -0.9999, 0.9999)
        tangent = np.sqrt((1 - cosine) / (1 + cosine))  # tan(angle / 2)
        rows += [i, i]
        columns += [j, k]
        values += [tangent / length_j, tangent / length_k]
    count = len(vertices)
    return sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )


def _embed(weights: sp.csr_matrix, boundary: np.ndarray, outline: np.ndarray) -> np.ndarray:
    count = weights.shape[0]
    inner = np.setdiff1d(np.arange(count), boundary)
    row_sum = np.asarray(weights.sum(1)).ravel()
    laplacian = (sp.diags(row_sum) - weights).tocsr()
    system = laplacian[inner][:, inner].tocsc()
    right = -laplacian[inner][:, boundary] @ outline
    uv = np.zeros((count, 2))
    uv[boundary] = outline
    uv[inner] = splu(system).solve(right)
    return uv


def _vertex_stretch(vertices: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Root-mean-square stretch of the map from the plane to the surface, per vertex (Yoshizawa 2004, eq. 3-4)."""
    q1, q2, q3 = (vertices[triangles[:, k]] for k in range(3))
    p1, p2, p3 = (uv[triangles[:, k]] for k in range(3))
    area2 = (p2[:, 0] - p1[:, 0]) * (p3[:, 1] - p1[:, 1]) - (p3[:, 0] - p1[:, 0]) * (p2[:, 1] - p1[:, 1])
    area2 = np.where(np.abs(area2) < 1e-14, 1e-14, area2)[:, None]
    ds = (q1 * (p2 - p3)[:, 1:2] + q2 * (p3 - p1)[:, 1:2] + q3 * (p1 - p2)[:, 1:2]) / area2
    dt = (q1 * (p3 - p2)[:, 0:1] + q2 * (p1 - p3)[:, 0:1] + q3 * (p2 - p1)[:, 0:1]) / area2
    stretch2 = 0.5 * ((ds * ds).sum(1) + (dt * dt).sum(1))
    surface = 0.5 * np.linalg.norm(np.cross(q2 - q1, q3 - q1), axis=1)
    count = len(vertices)
    weighted = np.bincount(triangles.ravel(), np.repeat(surface * stretch2, 3), minlength=count)
    total = np.bincount(triangles.ravel(), np.repeat(surface, 3), minlength=count)
    return np.sqrt(weighted / np.maximum(total, 1e-12))


def build_atlas(
    vertices: np.ndarray, triangles: np.ndarray, importance: np.ndarray, rounds: int = ROUNDS
) -> np.ndarray:
    """Flatten a topological disc into the unit square.

    Args:
        vertices: [V, 3] mm; every vertex is used by a triangle.
        triangles: [F, 3] manifold, one boundary loop at least (the longest becomes the outline).
        importance: [V] relative demand for map area, 1 = face.
        rounds: Rounds of reweighting.

    Returns:
        [V, 2] coordinates in (0, 1)², every triangle counter-clockwise.
    """
    boundary = boundary_loop(triangles)
    outline = _outline(vertices[boundary])
    weights = _mean_value_weights(vertices, triangles)
    uv = _embed(weights, boundary, outline)
    for _ in range(rounds):
        stretch = _vertex_stretch(vertices, triangles, uv) * importance
        factor = np.clip(stretch / np.median(stretch), 1e-3, 1e3) ** STEP
        weights = weights @ sp.diags(1.0 / factor)
        row_sum = np.asarray(weights.sum(1)).ravel()
        weights = (sp.diags(1.0 / row_sum) @ weights).tocsr()
        candidate = _embed(weights, boundary, outline)
        if signed_areas(candidate, triangles).min() <= 0:
            break  # Numbers ran out in a fold; the round before is a valid map.
        uv = candidate
    return uv


def signed_areas(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Signed areas [F] of the triangles in the map."""
    a, b, c = (uv[triangles[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (c - a)[:, 0] * (b - a)[:, 1])


def atlas_quality(uv: np.ndarray, triangles: np.ndarray, face_triangles: np.ndarray) -> AtlasQuality:
    """Count flips and measure the face's share; `face_triangles` is a boolean [F]."""
    areas = signed_areas(uv, triangles)
    return AtlasQuality(flipped=int((areas <= 0).sum()), face_share=float(areas[face_triangles].sum()))
