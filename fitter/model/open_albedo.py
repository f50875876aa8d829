"""A small albedo basis for the open model, drawn from what colours skin: melanin and blood.

Not measured data: the directions follow the absorption of melanin (falling steadily from blue to red) and of haemoglobin
(strong in green and blue, weak in red), after Anderson and Parrish 1981 and Jimenez et al. 2010; the places (lips, brows,
beard, cheeks, nose) come from the mesh. Linear RGB.
"""

from __future__ import annotations

import numpy as np

from fitter.model.surface_regions import distance_to_polyline

SKIN = np.array([0.42, 0.255, 0.185])
LIPS = np.array([0.36, 0.155, 0.13])
BROWS = np.array([0.13, 0.085, 0.06])
SCLERA = np.array([0.58, 0.55, 0.52])
IRIS = np.array([0.10, 0.075, 0.055])
PUPIL = np.array([0.012, 0.012, 0.012])
MOUTH_INSIDE = np.array([0.16, 0.05, 0.045])
MELANIN = np.array([0.40, 0.47, 0.52])
HAEMOGLOBIN = np.array([0.03, 0.15, 0.13])


def _soft(distance: np.ndarray, radius: float) -> np.ndarray:
    return np.exp(-((distance / radius) ** 2))


def open_albedo(
    vertices: np.ndarray, landmarks: np.ndarray, regions: dict[str, np.ndarray], eye_components: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [V, 3] and basis [V, 3, 10] of the open model's albedo.

    Args:
        vertices: [V, 3] mm mean shape.
        landmarks: [68, 3] mm.
        regions: Masks of `find_regions`.
        eye_components: Vertex numbers of each eyeball.
    """
    count = len(vertices)
    brow_distance = np.minimum(
        distance_to_polyline(vertices, landmarks[17:22]), distance_to_polyline(vertices, landmarks[22:27])
    )
    brow = _soft(brow_distance, 3.5) * regions["skin"]
    lips = regions["lips"].astype(float)
    inside = regions["mouth_inside"].astype(float)
    skin = (1.0 - brow) * (1.0 - lips) * (1.0 - inside) * regions["skin"]
    mean = np.tile(MOUTH_INSIDE, (count, 1))
    mean = mean * (1 - skin[:, None]) + SKIN * skin[:, None]
    mean = np.where(lips[:, None] > 0, LIPS, mean)
    mean = mean * (1 - brow[:, None]) + BROWS * brow[:, None]

    basis = np.zeros((10, count, 3))
    is_skin = regions["skin"].astype(float)[:, None]
    basis[0] = -mean * MELANIN * is_skin
    basis[1] = -mean * HAEMOGLOBIN * 2.0 * is_skin
    basis[2] = mean * 0.25 * is_skin
    basis[3] = -mean * HAEMOGLOBIN * 2.5 * lips[:, None]
    basis[4] = -mean * 0.45 * lips[:, None]
    basis[5] = -mean * 0.7 * brow[:, None] + 0.0
    tip, cheeks = landmarks[30], landmarks[[2, 14]] * 0.55 + landmarks[[31, 35]] * 0.45
    flush = _soft(np.linalg.norm(vertices - tip, axis=1), 16.0)
    for cheek in cheeks:
        flush = np.maximum(flush, _soft(np.linalg.norm(vertices - cheek, axis=1), 22.0))
    basis[6] = -mean * HAEMOGLOBIN * 1.8 * (flush * skin)[:, None]
    jaw = landmarks[3:14]
    beard = np.maximum(
        _soft(distance_to_polyline(vertices, jaw), 26.0),
        _soft(distance_to_polyline(vertices, landmarks[48:55] + [0, 5, 0]), 9.0),
    )
    basis[7] = -mean * np.array([0.30, 0.27, 0.24]) * (beard * skin)[:, None]
    for vertices_of_eye in eye_components:
        points = vertices[vertices_of_eye]
        front = points[points[:, 2].argmax()]
        off_axis = np.linalg.norm(points[:, :2] - front[:2], axis=1)
        eye = np.where(off_axis[:, None] < 2.2, PUPIL, np.where(off_axis[:, None] < 6.2, IRIS, SCLERA))
        mean[vertices_of_eye] = eye
        iris = ((off_axis >= 2.2) & (off_axis < 6.2)).astype(float)[:, None]
        basis[8, vertices_of_eye] = np.array([0.02, 0.07, 0.11]) * iris
        basis[9, vertices_of_eye] = -SCLERA * 0.25 * (off_axis >= 6.2)[:, None]
    return mean, basis.transpose(1, 2, 0)
