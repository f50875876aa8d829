"""The maps' own coordinates: a disc map of the skin with little distortion, half of it on the face, without a flip.

The start is Tutte's embedding with mean-value weights (Floater 2003): its weights are positive and its outline convex, so
no triangle flips. It is then relaxed against the symmetric Dirichlet energy (Smith and Schaefer 2015), whose barrier keeps
every triangle unflipped, by scalable locally injective mappings (Rabinovich et al. 2017). Every triangle's rest shape is
its 3D shape, scaled by an importance that says where the map's area goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

OUTLINE_EXPONENT = 5.0
"""Superellipse exponent of the outline: nearly the full square, corners left free for the eyeballs."""
ITERATIONS = 60
"""Steps of the relaxation at most; it stops earlier when the energy has settled."""


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


@dataclass(frozen=True)
class _RestShapes:
    """Triangles laid flat at their wanted size."""

    inverse: np.ndarray
    """[F, 2, 2] inverse of the matrix of the two edge vectors."""
    weight: np.ndarray
    """[F] share of each triangle in the energy."""


def _rest_shapes(vertices: np.ndarray, triangles: np.ndarray, importance: np.ndarray, map_area: float) -> _RestShapes:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    edge, other = b - a, c - a
    length = np.maximum(np.linalg.norm(edge, axis=1), 1e-6)
    along = (other * edge).sum(1) / length
    height = np.maximum(np.linalg.norm(np.cross(edge, other), axis=1) / length, 1e-3 * length)
    scale = importance[triangles].mean(1)
    area = 0.5 * length * height * scale**2
    scale = scale * np.sqrt(map_area / area.sum())
    rest = np.zeros((len(triangles), 2, 2))
    rest[:, 0, 0], rest[:, 0, 1], rest[:, 1, 1] = length * scale, along * scale, height * scale
    area = area * (map_area / area.sum())
    # Unimportant triangles also count for less per area: they take the distortion.
    return _RestShapes(np.linalg.inv(rest), area * importance[triangles].mean(1) / area.sum())


def _jacobians(uv: np.ndarray, triangles: np.ndarray, rest: _RestShapes) -> np.ndarray:
    """[F, 2, 2] from each rest shape to the map."""
    a, b, c = (uv[triangles[:, k]] for k in range(3))
    return np.stack([b - a, c - a], -1) @ rest.inverse


def _distortion(uv: np.ndarray, triangles: np.ndarray, rest: _RestShapes) -> tuple[float, np.ndarray]:
    """Symmetric Dirichlet energy sum w (|J|² + |J^-1|²) and its gradient [V, 2]; infinite where a triangle is flipped."""
    jacobian = _jacobians(uv, triangles, rest)
    determinant = np.linalg.det(jacobian)
    if determinant.min() <= 0:
        return np.inf, np.zeros_like(uv)
    square = (jacobian**2).sum((1, 2))
    energy = float((rest.weight * (square + square / determinant**2)).sum())
    cofactor = np.empty_like(jacobian)
    cofactor[:, 0, 0], cofactor[:, 1, 1] = jacobian[:, 1, 1], jacobian[:, 0, 0]
    cofactor[:, 0, 1], cofactor[:, 1, 0] = -jacobian[:, 1, 0], -jacobian[:, 0, 1]
    slope = 2 * jacobian * (1 + determinant**-2)[:, None, None]
    slope = slope - (2 * square * determinant**-3)[:, None, None] * cofactor
    edges = (slope * rest.weight[:, None, None]) @ rest.inverse.transpose(0, 2, 1)
    gradient = np.zeros_like(uv)
    for axis in range(2):
        corner = np.stack([-edges[:, axis].sum(1), edges[:, axis, 0], edges[:, axis, 1]], 1)
        gradient[:, axis] = np.bincount(triangles.ravel(), corner.ravel(), minlength=len(uv))
    return energy, gradient


def _largest_step(uv: np.ndarray, direction: np.ndarray, triangles: np.ndarray) -> float:
    """The step at which the first triangle would lose its area (Smith and Schaefer 2015, section 3.3)."""
    (a, b, c), (da, db, dc) = ([array[triangles[:, k]] for k in range(3)] for array in (uv, direction))
    e, f, de, df = b - a, c - a, db - da, dc - da
    quadratic = de[:, 0] * df[:, 1] - de[:, 1] * df[:, 0]
    linear = e[:, 0] * df[:, 1] - e[:, 1] * df[:, 0] + de[:, 0] * f[:, 1] - de[:, 1] * f[:, 0]
    constant = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    discriminant = np.sqrt(np.maximum(linear**2 - 4 * quadratic * constant, 0.0))
    real = linear**2 >= 4 * quadratic * constant
    # The stable form of the smallest positive root.
    half = -0.5 * (linear + np.where(linear >= 0, discriminant, -discriminant))
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([half / quadratic, constant / half])
    roots = np.where(np.isfinite(roots) & (roots > 0) & real, roots, np.inf)
    return float(roots.min())


def _proxy_step(uv: np.ndarray, triangles: np.ndarray, rest: _RestShapes, inner: np.ndarray) -> np.ndarray:
    """Direction to the minimum of the reweighted proxy energy (Rabinovich et al. 2017, eq. 14-18)."""
    u, sigma, vt = np.linalg.svd(_jacobians(uv, triangles, rest))
    near_one = np.abs(sigma - 1.0) < 1e-4
    safe = np.where(near_one, 2.0, sigma)
    stiffness = np.where(near_one, 4.0, (safe - safe**-3) / (safe - 1.0))
    metric = (u * stiffness[:, None, :]) @ u.transpose(0, 2, 1) * rest.weight[:, None, None]
    shape_gradient = np.concatenate([-rest.inverse.sum(1, keepdims=True), rest.inverse], 1)  # [F, 3, 2]
    blocks = np.einsum("fik,fjk,fab->fiajb", shape_gradient, shape_gradient, metric, optimize=True)
    right = np.einsum("fik,fak->fia", shape_gradient, metric @ (u @ vt))
    size = 2 * len(uv)
    index = (2 * triangles[:, :, None] + np.arange(2)).reshape(len(triangles), 6)
    rows, columns = np.repeat(index, 6, axis=1).ravel(), np.tile(index, (1, 6)).ravel()
    matrix = sp.csr_matrix((blocks.reshape(len(triangles), 36).ravel(), (rows, columns)), shape=(size, size))
    residual = np.bincount(index.ravel(), right.reshape(-1), minlength=size) - matrix @ uv.ravel()
    free = (2 * inner[:, None] + np.arange(2)).ravel()
    step = np.zeros(size)
    step[free] = splu(
        matrix[free][:, free].tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,  # symmetric positive definite: pivoting would spoil the ordering, and the time
        options={"SymmetricMode": True},
    ).solve(residual[free])
    return step.reshape(-1, 2)


def _relax(
    uv: np.ndarray, triangles: np.ndarray, rest: _RestShapes, boundary: np.ndarray, iterations: int
) -> np.ndarray:
    inner = np.setdiff1d(np.arange(len(uv)), boundary)
    energy, gradient = _distortion(uv, triangles, rest)
    for _ in range(iterations):
        direction = _proxy_step(uv, triangles, rest, inner)
        step = min(1.0, 0.8 * _largest_step(uv, direction, triangles))
        slope = float((gradient * direction)[inner].sum())
        while True:
            candidate = uv + step * direction
            new_energy, new_gradient = _distortion(candidate, triangles, rest)
            if new_energy <= energy + 1e-4 * step * slope or step < 1e-12:
                break
            step *= 0.5
        if not new_energy < energy:
            break
        settled = energy - new_energy < 1e-5 * energy
        uv, energy, gradient = candidate, new_energy, new_gradient
        if settled:
            break
    return uv


def build_atlas(
    vertices: np.ndarray, triangles: np.ndarray, importance: np.ndarray, iterations: int = ITERATIONS
) -> np.ndarray:
    """Flatten a topological disc into the unit square.

    Args:
        vertices: [V, 3] mm; every vertex is used by a triangle.
        triangles: [F, 3] manifold, one boundary loop at least (the longest becomes the outline).
        importance: [V] wanted size of a millimetre in the map, relative to the face's 1.
        iterations: Steps of the relaxation.

    Returns:
        [V, 2] coordinates in (0, 1)², every triangle counter-clockwise.
    """
    boundary = boundary_loop(triangles)
    outline = _outline(vertices[boundary])
    uv = _embed(_mean_value_weights(vertices, triangles), boundary, outline)
    x, y = outline.T
    map_area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    rest = _rest_shapes(vertices, triangles, importance, map_area)
    return _relax(uv, triangles, rest, boundary, iterations)


def signed_areas(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Signed areas [F] of the triangles in the map."""
    a, b, c = (uv[triangles[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (c - a)[:, 0] * (b - a)[:, 1])


def atlas_quality(uv: np.ndarray, triangles: np.ndarray, face_triangles: np.ndarray) -> AtlasQuality:
    """Count flips and measure the face's share; `face_triangles` is a boolean [F]."""
    areas = signed_areas(uv, triangles)
    return AtlasQuality(flipped=int((areas <= 0).sum()), face_share=float(areas[face_triangles].sum()))
