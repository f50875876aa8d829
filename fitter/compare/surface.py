"""A triangle mesh to which closest points are asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fitter.mesh_normals import crossed_edges, vertex_normals


@dataclass(frozen=True)
class ClosestPoints:
    """Where on a surface the closest points lie."""

    points: np.ndarray
    """[P, 3] mm."""
    distances: np.ndarray
    """[P] mm."""
    triangles: np.ndarray
    """[P] row of the surface's triangles."""

    def __getitem__(self, chosen: np.ndarray) -> ClosestPoints:
        """Some of them."""
        return ClosestPoints(self.points[chosen], self.distances[chosen], self.triangles[chosen])


@dataclass(frozen=True, eq=False)
class Surface:
    """Vertices and triangles with a search tree that is built once."""

    vertices: np.ndarray
    """[V, 3] float64 mm."""
    triangles: np.ndarray
    """[F, 3] int64."""
    normals: np.ndarray = field(init=False)
    """[V, 3] area-weighted unit vertex normals."""
    _tree: object = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import igl

        vertices = np.ascontiguousarray(self.vertices, np.float64)
        triangles = np.ascontiguousarray(self.triangles, np.int64)
        tree = igl.AABB()
        tree.init(vertices, triangles)
        for name, value in (
            ("vertices", vertices),
            ("triangles", triangles),
            ("normals", vertex_normals(vertices, triangles)),
            ("_tree", tree),
        ):
            object.__setattr__(self, name, value)

    def closest(self, points: np.ndarray) -> ClosestPoints:
        """Closest surface points of `points` [P, 3], mm (libigl's AABB tree; exact)."""
        squared, triangle, closest = self._tree.squared_distance(
            self.vertices, self.triangles, np.ascontiguousarray(points, np.float64)
        )
        return ClosestPoints(closest, np.sqrt(np.maximum(squared, 0.0)), triangle.ravel())

    def normals_at(self, at: ClosestPoints) -> np.ndarray:
        """[P, 3] unit normals at closest points: vertex normals interpolated over the triangle."""
        corners = self.triangles[at.triangles]
        weights = barycentric(at.points, self.vertices[corners])
        mixed = (self.normals[corners] * weights[..., None]).sum(1)
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        return mixed / np.where(length > 0, length, 1.0)

    def face_normals(self, triangles: np.ndarray) -> np.ndarray:
        """[P, 3] unit normals of the given triangles' planes; zero for empty triangles."""
        crossed = crossed_edges(self.vertices, self.triangles[triangles])
        length = np.linalg.norm(crossed, axis=1, keepdims=True)
        return crossed / np.where(length > 0, length, 1.0)


def barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights [P, 3] of points [P, 3] in their triangles [P, 3, 3] (Ericson 2005, 3.4); thirds in empty ones."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    offset = points - corners[:, 0]
    d00, d01, d11 = ((x * y).sum(1) for x, y in ((first, first), (first, second), (second, second)))
    d20, d21 = (offset * first).sum(1), (offset * second).sum(1)
    area = d00 * d11 - d01 * d01
    good = area > 1e-12 * np.maximum(d00 * d11, 1e-30)
    divisor = np.where(good, area, 1.0)
    v, w = (d11 * d20 - d01 * d21) / divisor, (d00 * d21 - d01 * d20) / divisor
    weights = np.stack([1 - v - w, v, w], 1).clip(0.0, 1.0)
    weights /= weights.sum(1, keepdims=True)
    return np.where(good[:, None], weights, 1 / 3)
