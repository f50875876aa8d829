"""Scans finer than a fit can use, thinned: fewer vertices, evenly spread, with the surface where it was."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from fitter.capture.scan.quality import median_edge
from fitter.capture.scan.read import compacted

MANY = 1_500_000
"""Triangles up to which a scan stays as it is."""
SPACING = 0.7
"""Least distance of two kept places over the edge length that usually comes of it."""
FINER = 0.75
"""Edges longer than this share of the ones asked for cannot be made a little longer: a vertex goes or stays."""
TRIES = 4


def reduce_mesh(
    vertices: np.ndarray, triangles: np.ndarray, edge_mm: float = 0.35, many: int = MANY
) -> tuple[np.ndarray, np.ndarray]:
    """Thin a scan of more than `many` triangles to edges of about `edge_mm`; never to longer ones.

    Places are picked so that no two lie closer than a radius; each vertex joins the nearest place that it is connected
    to, and each place moves to the mean of its vertices. A triangle remains where three different places meet (the
    dual of a Voronoi partition on the surface). Unlike a grid of cubes this joins no two sheets that touch, such as
    lips, and makes no steps where the surface crosses a cell's border.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3], cleaned.
        edge_mm: Edge length that is fine enough: below it lies nothing that a displacement map holds.
        many: Triangles that are not too many.

    Returns:
        Vertices and triangles; the arguments themselves where there is nothing to do.
    """
    longest = FINER * edge_mm
    if len(triangles) <= many or median_edge(vertices, triangles) >= longest:
        return vertices, triangles
    points = np.ascontiguousarray(vertices, np.float64)
    offsets, adjacent = _adjacency(triangles, len(points))
    radius = SPACING * edge_mm
    for _ in range(TRIES):
        thinned = _thinned(points, triangles, _clusters(points, offsets, adjacent, radius))
        edge = median_edge(*thinned)
        if edge <= edge_mm:
            return thinned
        # Where few vertices go to a place, their own spacing decides how far apart places come to lie.
        radius *= 0.95 * edge_mm / edge
    return vertices, triangles


def _thinned(vertices: np.ndarray, triangles: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean vertex of each cluster, and the triangles that have their corners in three of them."""
    count = int(cluster.max()) + 1
    size = np.bincount(cluster, minlength=count)
    means = np.stack([np.bincount(cluster, vertices[:, axis], count) for axis in range(3)], -1) / size[:, None]
    return compacted(means, _distinct(cluster[triangles], count))


def _adjacency(triangles: np.ndarray, vertex_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of each vertex in compressed rows: `adjacent[offsets[v]:offsets[v + 1]]`; repeats do no harm."""
    start = np.concatenate([triangles[:, 0], triangles[:, 1], triangles[:, 2]])
    end = np.concatenate([triangles[:, 1], triangles[:, 2], triangles[:, 0]]).astype(np.int32)
    offsets = np.zeros(vertex_count + 1, np.int64)
    np.cumsum(np.bincount(start, minlength=vertex_count), out=offsets[1:])
    return offsets, end[np.argsort(start)]


def _distinct(triangles: np.ndarray, count: int) -> np.ndarray:
    """Triangles with three different corners; of equal ones the first, of two back to back (a flat fold) neither."""
    triangles = triangles[(triangles != np.roll(triangles, -1, axis=1)).all(1)]
    corners = np.sort(triangles, axis=1)
    # Going round, the corners' numbers rise twice on one side of the triangle, and once on the other.
    even = (triangles < np.roll(triangles, -1, axis=1)).sum(1) == 2
    order = np.lexsort((corners[:, 2], corners[:, 0] * count + corners[:, 1]))
    first = np.flatnonzero(np.r_[True, (corners[order[1:]] != corners[order[:-1]]).any(1)])
    balance = np.add.reduceat(np.where(even[order], 1, -1), first)
    return triangles[np.sort(order[first][balance != 0])]


@njit(cache=True, nogil=True)
def _clusters(vertices, offsets, adjacent, radius):
    """[V] number of the place that each vertex joins: the nearest along the edges, so that clusters hang together."""
    count = vertices.shape[0]
    cluster = np.full(count, -1, np.int64)
    nearest = np.full(count, np.inf)
    visited = np.full(count, -1, np.int64)
    queue = np.empty(count, np.int64)
    heap = [(0.0, np.int64(0))]
    heap.pop()
    places = 0
    # Every vertex that lies within the radius of no place so far becomes one.
    for seed in range(count):
        if visited[seed] >= 0:
            continue
        cluster[seed] = places
        nearest[seed] = 0.0
        heap.append((0.0, np.int64(seed)))
        queue[0] = seed
        head, tail = 0, 1
        visited[seed] = places
        while head < tail:
            vertex = queue[head]
            head += 1
            for entry in range(offsets[vertex], offsets[vertex + 1]):
                neighbour = adjacent[entry]
                if visited[neighbour] != places and _distance(vertices, seed, neighbour) < radius:
                    visited[neighbour] = places
                    queue[tail] = neighbour
                    tail += 1
        places += 1
    # Dijkstra's shortest paths from all places at once. (All heap entries are equal now: the list is a heap.)
    while len(heap) > 0:
        distance, vertex = heapq.heappop(heap)
        if distance > nearest[vertex]:
            continue
        for entry in range(offsets[vertex], offsets[vertex + 1]):
            neighbour = adjacent[entry]
            longer = distance + _distance(vertices, vertex, neighbour)
            if longer < nearest[neighbour]:
                nearest[neighbour] = longer
                cluster[neighbour] = cluster[vertex]
                heapq.heappush(heap, (longer, np.int64(neighbour)))
    return cluster


@njit(cache=True, nogil=True, inline="always")
def _distance(vertices, one, other):
    """Length of the straight line between two vertices."""
    total = 0.0
    for axis in range(3):
        total += (vertices[one, axis] - vertices[other, axis]) ** 2
    return np.sqrt(total)
