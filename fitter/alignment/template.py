"""The model's mean face as the search wants it: few, evenly spread points with normals, the nose tip at the origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import MorphableModel

RADIUS = 85.0
"""mm around the nose tip that take part."""
POINTS = 1200
"""Farthest-point samples; a prefix of them is a coarser version of the same face."""
MODES = 20
"""Identity modes that a plausibility check may move."""
APERTURE = (17.0, 10.0)
"""Half-axes (mm) of the ellipses around the eyes that are left out: models have sockets there, scans bulges."""
LIDS = (slice(36, 42), slice(42, 48))
NOSE_TIP = 30


@dataclass(frozen=True, eq=False)
class FacePoints:
    """Points of a face's surface, in the template's frame."""

    points: np.ndarray
    """[N, 3] mm, nose tip (of the mean) at the origin."""
    normals: np.ndarray
    """[N, 3] unit."""
    border: np.ndarray
    """[N] bool: within a few millimetres of where the template ends."""
    tree: cKDTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", cKDTree(self.points))


@dataclass(frozen=True, eq=False)
class Template:
    """The mean face around the nose."""

    spread: FacePoints
    """N points in farthest-point order."""
    dense: FacePoints
    """All vertices of the face."""
    modes: np.ndarray
    """[N, 3, K] mm per standard deviation: the strongest identity modes at `spread`."""
    nose_tip: np.ndarray
    """[3] mm: the origin of the template in the model's frame."""
    landmarks: np.ndarray
    """[68, 3] mm, in the template's frame."""
    landmark_modes: np.ndarray
    """[68, 3, K] mm per standard deviation."""

    def shape(self, coefficients: np.ndarray) -> np.ndarray:
        """`spread` with identity coefficients [B, K]: [B, N, 3] mm."""
        return self.spread.points + np.einsum("nkm,bm->bnk", self.modes, coefficients)

    def adjusted(self, coefficients: np.ndarray) -> FacePoints:
        """`spread` with identity coefficients [K]; its normals stay the mean's, a few degrees off."""
        return FacePoints(self.shape(coefficients[None])[0], self.spread.normals, self.spread.border)


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` evenly spread points [N, 3], each the farthest from those before it; the first is row 0's."""
    return _farthest(np.ascontiguousarray(points, np.float64), min(count, len(points)))


@njit(cache=True, nogil=True)
def _farthest(points, count):
    """`farthest_points` of contiguous float64 points; `squared` is each point's distance from the chosen ones."""
    rows = np.zeros(count, np.int64)
    squared = np.full(points.shape[0], np.inf)
    for step in range(1, count):
        last, farthest = rows[step - 1], 0
        for point in range(points.shape[0]):
            away = 0.0
            for axis in range(3):
                away += (points[point, axis] - points[last, axis]) ** 2
            squared[point] = min(squared[point], away)
            if squared[point] > squared[farthest]:
                farthest = point
        rows[step] = farthest
    return rows


def _face_vertices(vertices: np.ndarray, landmarks: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """[V] bool: skin of the face near the nose tip, without the inside of the mouth and the eyes' apertures."""
    nose = landmarks[NOSE_TIP]
    chosen = regions["face"] & regions["skin"] & ~regions["mouth_inside"] & ~regions["eyes"]
    chosen &= np.linalg.norm(vertices - nose, axis=1) < RADIUS
    for lids in LIDS:
        middle = landmarks[lids].mean(0)
        offset = (vertices[:, :2] - middle[:2]) / APERTURE
        chosen &= (offset**2).sum(1) > 1.0
    return chosen


_BUILT: WeakKeyDictionary[MorphableModel, Template] = WeakKeyDictionary()


def template_of(model: MorphableModel) -> Template:
    """The template of a model; built once per model."""
    if model not in _BUILT:
        _BUILT[model] = _build(model)
    return _BUILT[model]


def _build(model: MorphableModel) -> Template:
    model = model.to("cpu")
    vertices = model.mean.numpy().astype(np.float64)
    triangles = model.triangles.numpy()
    landmarks = model.landmarks(model.mean).numpy().astype(np.float64)
    nose = landmarks[NOSE_TIP]
    normals = vertex_normals(vertices, triangles)
    regions = {name: mask.numpy() for name, mask in model.regions.items()}
    face = _face_vertices(vertices, landmarks, regions)
    rows = np.flatnonzero(face & (normals[:, 2] > -0.3))
    rows = rows[np.argsort(np.linalg.norm(vertices[rows] - nose, axis=1), kind="stable")]
    # A vertex whose triangles are not all in the face lies where the template ends (there are holes at the eyes, too).
    inside = np.zeros(len(vertices), bool)
    inside[rows] = True
    edge = np.zeros(len(vertices), bool)
    edge[triangles[~inside[triangles].all(1)]] = True
    dense = vertices[rows] - nose
    ends = dense[edge[rows]]
    near_end = cKDTree(ends).query(dense)[0] < 4.0 if len(ends) else np.zeros(len(dense), bool)
    spread = farthest_points(dense, POINTS)
    basis = model.identity_basis[:, :, :MODES]
    at_landmarks = model.landmarks(basis.permute(2, 0, 1)).permute(1, 2, 0).numpy().astype(np.float64)
    return Template(
        spread=FacePoints(dense[spread], normals[rows][spread], near_end[spread]),
        dense=FacePoints(dense, normals[rows], near_end),
        modes=basis.numpy()[rows[spread]].astype(np.float64),
        nose_tip=nose,
        landmarks=landmarks - nose,
        landmark_modes=at_landmarks,
    )
