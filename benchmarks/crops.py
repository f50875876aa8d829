"""Which part of a scan a benchmark counts: balls around the nose tip or the middle of the face."""

from __future__ import annotations

import numpy as np

MICC_RADIUS_MM = 95.0
"""Around the nose tip (GANFit's micc_evaluation.py: 0.95 template units of 100 mm)."""
NOW_FACTOR, FG2018_FACTOR = 1.4, 1.2
"""Of the mean of eye and nose lengths (now_evaluation:scan2mesh_computations.py; fg2018-competition:
compute_vertices_to_mesh_distances.py)."""
RIGHT_OUTER, RIGHT_INNER, LEFT_INNER, LEFT_OUTER, NOSE_BOTTOM, MOUTH_RIGHT, MOUTH_LEFT = range(7)
"""Order of the seven landmarks of NoW and FG 2018; right and left are the subject's."""


def seven_point_ball(landmarks: np.ndarray, factor: float) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of the ball that NoW (`NOW_FACTOR`) and FG 2018 (`FG2018_FACTOR`) cut from a scan.

    The centre lies 0.3 of the way from the bottom of the nose to the bridge (the middle of the inner eye corners); the
    radius is the factor times the mean of the distance of the outer eye corners and of bridge and bottom of the nose.

    Args:
        landmarks: [7, 3] on the scan, in its unit.
        factor: See above.
    """
    bridge = 0.5 * (landmarks[RIGHT_INNER] + landmarks[LEFT_INNER])
    bottom = landmarks[NOSE_BOTTOM]
    eyes = np.linalg.norm(landmarks[LEFT_OUTER] - landmarks[RIGHT_OUTER])
    nose = np.linalg.norm(bridge - bottom)
    return bottom + 0.3 * (bridge - bottom), float(factor * 0.5 * (eyes + nose))


def inside_ball(vertices: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """[V] bool: vertices [V, 3] within `radius` of `centre`."""
    return np.linalg.norm(vertices - centre, axis=1) <= radius


def submesh(vertices: np.ndarray, triangles: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kept vertices [V] in their order, and the triangles whose three corners are all kept."""
    rank = np.cumsum(keep) - 1
    return vertices[keep], rank[triangles[keep[triangles].all(1)]]
