"""Landmarks moved along the skin."""

from __future__ import annotations

import igl
import numpy as np
import torch

from fitter.model.morphable import LandmarkEmbedding


def shifted_landmarks(
    landmarks: LandmarkEmbedding, offsets: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, skin: np.ndarray
) -> LandmarkEmbedding:
    """The embedding with each landmark at the skin's point closest to where its offset leads.

    Args:
        landmarks: L of them; those with offset 0 stay as they are.
        offsets: [L, 3] mm.
        vertices: [V, 3] mm, the head on which the offsets are stated.
        triangles: [F, 3].
        skin: [V] bool: the skin's component.
    """
    chosen = np.flatnonzero(np.abs(offsets).max(1) > 0)
    wanted = landmarks(torch.from_numpy(vertices).double()).numpy()[chosen] + offsets[chosen]
    surface = np.ascontiguousarray(triangles[skin[triangles].all(1)], np.int64)
    vertices = np.ascontiguousarray(vertices, np.float64)
    _, triangle, closest = igl.point_mesh_squared_distance(np.ascontiguousarray(wanted), vertices, surface)
    corners = surface[triangle.ravel()]
    weights = igl.barycentric_coordinates(
        np.ascontiguousarray(closest), *(np.ascontiguousarray(vertices[corners[:, k]]) for k in range(3))
    )
    moved_vertices, moved_weights = landmarks.vertices.clone(), landmarks.weights.clone()
    moved_vertices[chosen] = torch.from_numpy(corners)
    moved_weights[chosen] = torch.from_numpy(np.asarray(weights)).to(moved_weights.dtype)
    return LandmarkEmbedding(moved_vertices, moved_weights)
