"""How good a scan is: the noise on its vertices and the length of its edges."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammaincinv

from fitter.mesh_normals import lengths

SAMPLES = 4000
EDGE_SAMPLES = 50_000
NEAR, FAR = 16, 40
"""Points of the two neighbourhoods that are compared."""
TERMS = 6
"""Coefficients of a quadric over a plane."""
COARSEST_MM = 3.0
"""Median edge up to which noise can be told from shape: further apart, sixteen vertices span a nostril."""


def median_edge(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Median length of the edges, in the vertices' unit; an edge counts once per triangle. Large meshes are sampled."""
    if len(triangles) == 0:
        return 0.0
    triangles = triangles[:: max(1, len(triangles) // EDGE_SAMPLES)]
    starts, ends = vertices[triangles.ravel()], vertices[np.roll(triangles, -1, axis=1).ravel()]
    return float(np.median(lengths(ends - starts)))


def estimate_noise(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Standard deviation of the vertices along the surface's normal, told apart from the surface's shape.

    Around some thousand vertices, quadrics are fitted to the 16 and to the 40 nearest ones. Noise leaves the same
    residual in both; shape that a quadric cannot follow leaves one that grows with the third power of the radius. The
    two equations are solved for the noise. Medians over the surface keep eyes, hair and rims from counting.

    Noise that is alike over several vertices, as of a scanner's filter, is shape to this estimate.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3].

    Returns:
        mm; 0 for meshes whose median edge is longer than 3 mm, where noise cannot be told from shape.
    """
    if len(vertices) < 4 * FAR or median_edge(vertices, triangles) > COARSEST_MM:
        return 0.0
    tree = cKDTree(vertices, balanced_tree=False, compact_nodes=False)
    chosen = np.unique(np.linspace(0, len(vertices) - 1, SAMPLES).astype(np.int64))
    distance, neighbour = tree.query(vertices[chosen], k=FAR)
    near, far = (_residual_variance(vertices[neighbour[:, :count]]) for count in (NEAR, FAR))
    growth = float(np.median(distance[:, FAR - 1] / np.maximum(distance[:, NEAR - 1], 1e-12))) ** 6
    # Medians of variances with so few degrees of freedom lie below the mean.
    near, far = (
        float(np.median(variance)) * freedom / _chi_square_median(freedom)
        for variance, freedom in ((near, NEAR - TERMS), (far, FAR - TERMS))
    )
    return float(np.sqrt(max(0.0, (growth * near - far) / max(growth - 1.0, 1e-12))))


def _chi_square_median(freedom: int) -> float:
    """Median of the chi-square distribution; scipy.stats has it too, and takes a second to import."""
    return 2.0 * float(gammaincinv(0.5 * freedom, 0.5))


def _residual_variance(points: np.ndarray) -> np.ndarray:
    """[S] variance that a quadric over the mean plane leaves of point sets [S, K, 3]."""
    centred = points - points.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("ski,skj->sij", centred, centred))
    local = np.einsum("ski,sij->skj", centred, axes)
    height, across, along = local[..., 0], local[..., 1], local[..., 2]
    scale = np.maximum(np.abs(local).max((1, 2)), 1e-12)[:, None]
    x, y = across / scale, along / scale
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)
    # Normal equations, which take a third of the time of QR: the terms are of one size. Points on a line need the ridge.
    equations = basis @ basis.transpose(0, 2, 1) + 1e-12 * points.shape[1] * np.eye(TERMS)
    known = np.einsum("stk,sk->st", basis, height)
    coefficients = np.linalg.solve(equations, known[..., None])[..., 0]
    left = np.einsum("sk,sk->s", height, height) - np.einsum("st,st->s", coefficients, known)
    return np.maximum(left, 0.0) / (points.shape[1] - TERMS)
