"""Regions of a head mesh, found from its landmarks: lips, eye sockets, inside of the mouth, brows, face."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra

INNER_MOUTH = tuple(range(60, 68))
OUTER_MOUTH = tuple(range(48, 60))
RIGHT_EYE, LEFT_EYE = tuple(range(36, 42)), tuple(range(42, 48))
NOSE_TIP = 30


def edge_graph(vertices: np.ndarray, triangles: np.ndarray) -> sp.csr_matrix:
    """Edge lengths [V, V], mm."""
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    length = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1)
    count = len(vertices)
    graph = sp.csr_matrix((length, (ends[:, 0], ends[:, 1])), shape=(count, count))
    return graph.maximum(graph.T)


def enclosed_by_loop(graph: sp.csr_matrix, stations: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices enclosed by the closed shortest path through `stations`, and the path itself (boolean [V] each).

    Of the parts that the path cuts off, all but the largest count as enclosed.
    """
    count = graph.shape[0]
    on_path = np.zeros(count, bool)
    for start, end in zip(stations, stations[1:] + stations[:1], strict=True):
        _, before = dijkstra(graph, indices=start, return_predecessors=True)
        current = end
        while current >= 0 and current != start:
            on_path[current] = True
            current = before[current]
        on_path[start] = True
    keep = sp.diags((~on_path).astype(float))
    _, label = connected_components(keep @ (graph > 0) @ keep, directed=False)
    sizes = np.bincount(label[~on_path])
    main = sizes.argmax()
    inside = (label != main) & ~on_path
    return inside, on_path


def landmark_vertices(landmark_points: np.ndarray, vertices: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Nearest allowed vertex of each landmark [L]."""
    candidates = np.flatnonzero(allowed)
    distance = np.linalg.norm(landmark_points[:, None] - vertices[None, candidates], axis=-1)
    return candidates[distance.argmin(1)]


def distance_to_polyline(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Smallest distance [N] of points [N, 3] to the segments of a polyline [L, 3]."""
    best = np.full(len(points), np.inf)
    for start, end in zip(line[:-1], line[1:], strict=True):
        direction = end - start
        along = np.clip(((points - start) @ direction) / max(direction @ direction, 1e-9), 0.0, 1.0)
        best = np.minimum(best, np.linalg.norm(points - (start + along[:, None] * direction), axis=1))
    return best


def find_regions(
    vertices: np.ndarray, triangles: np.ndarray, landmark_points: np.ndarray, skin: np.ndarray
) -> dict[str, np.ndarray]:
    """Boolean masks [V] of a head.

    Args:
        vertices: [V, 3] mm, +y up, +z out of the face.
        triangles: [F, 3].
        landmark_points: [68, 3] iBUG landmarks on the surface.
        skin: [V] True for the skin's component (no eyeballs, no tongue).

    Returns:
        face, skin, lips, mouth_inside, sockets, brows.
    """
    graph = edge_graph(vertices, triangles[skin[triangles].all(1)])
    nearest = landmark_vertices(landmark_points, vertices, skin)

    def enclosed(indices: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        inside, path = enclosed_by_loop(graph, [int(v) for v in nearest[list(indices)]])
        return inside & skin, path

    mouth_inside, inner_line = enclosed(INNER_MOUTH)
    inside_lips, outer_line = enclosed(OUTER_MOUTH)
    lips = (inside_lips | outer_line | inner_line) & ~mouth_inside
    sockets = np.zeros(len(vertices), bool)
    for eye in (RIGHT_EYE, LEFT_EYE):
        sockets |= enclosed(eye)[0]
    tip = landmark_points[NOSE_TIP]
    chin = landmark_points[8]
    near = np.linalg.norm(vertices - tip, axis=1) < 105.0
    above_throat = vertices[:, 1] > chin[1] - 12.0
    in_front = vertices[:, 2] > tip[2] - 95.0
    face = skin & near & above_throat & in_front & ~mouth_inside & ~sockets
    brows = np.zeros(len(vertices), bool)
    for brow in (range(17, 22), range(22, 27)):
        brows |= skin & (distance_to_polyline(vertices, landmark_points[list(brow)]) < 4.0)
    return {
        "face": face,
        "skin": skin,
        "lips": lips & skin,
        "mouth_inside": mouth_inside,
        "sockets": sockets,
        "brows": brows,
    }
