"""Area-weighted vertex normals in numpy, for files and measurements (the fit has its own on tensors)."""

from __future__ import annotations

import numpy as np


def vertex_normals(
    vertices: np.ndarray, triangles: np.ndarray, unreferenced: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Unit normals [V, 3]: the sum of the adjacent triangles' normals, each weighted by its area.

    Args:
        vertices: [V, 3] positions.
        triangles: [F, 3], counter-clockwise seen from outside.
        unreferenced: Normal of vertices that no triangle, or only empty ones, use.
    """
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    crossed = np.cross(b - a, c - a)
    flat = triangles.ravel()
    normals = np.stack([np.bincount(flat, np.repeat(crossed[:, k], 3), len(vertices)) for k in range(3)], -1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.where(length > 0, length, 1.0), unreferenced)
