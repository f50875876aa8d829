"""Normals of triangles and vertices in numpy, for scans, files and measurements (the fit has its own on tensors)."""

from __future__ import annotations

import numpy as np
from numba import njit


def crossed_edges(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[F, 3] float64 cross products of two edges: the triangles' normals, as long as twice their areas.

    Args:
        vertices: [V, 3] positions.
        triangles: [F, 3], counter-clockwise seen from outside.
    """
    return _crossed(*_of_one_type(vertices, triangles))


def triangle_areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[F] areas of triangles [F, 3] over vertices [V, 3]."""
    return 0.5 * lengths(crossed_edges(vertices, triangles))


def lengths(vectors: np.ndarray) -> np.ndarray:
    """[N] lengths of vectors [N, 3]; numpy's norm along short rows takes several times as long."""
    return np.sqrt(np.einsum("nk,nk->n", vectors, vectors))


def vertex_normals(
    vertices: np.ndarray, triangles: np.ndarray, unreferenced: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Unit normals [V, 3]: the sum of the adjacent triangles' normals, each weighted by its area.

    Args:
        vertices: [V, 3] positions.
        triangles: [F, 3], counter-clockwise seen from outside.
        unreferenced: Normal of vertices that no triangle, or only empty ones, use.
    """
    points, corners = _of_one_type(vertices, triangles)
    normals = _summed(_crossed(points, corners), corners, len(points))
    length = lengths(normals)[:, None]
    return np.where(length > 0, normals / np.where(length > 0, length, 1.0), unreferenced)


def _of_one_type(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So that the functions below are compiled once."""
    return np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(triangles, np.int64)


@njit(cache=True, nogil=True)
def _crossed(points, corners):
    """Cross products [F, 3]."""
    cross = np.empty((corners.shape[0], 3))
    for triangle in range(corners.shape[0]):
        a, b, c = points[corners[triangle, 0]], points[corners[triangle, 1]], points[corners[triangle, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        cross[triangle, 0] = uy * vz - uz * vy
        cross[triangle, 1] = uz * vx - ux * vz
        cross[triangle, 2] = ux * vy - uy * vx
    return cross


@njit(cache=True, nogil=True)
def _summed(cross, corners, count):
    """[V, 3] sums of the triangles around each vertex."""
    normals = np.zeros((count, 3))
    for triangle in range(corners.shape[0]):
        for corner in range(3):
            for axis in range(3):
                normals[corners[triangle, corner], axis] += cross[triangle, axis]
    return normals
