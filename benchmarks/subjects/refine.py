"""Splitting a mesh until no edge is longer than wanted at its place, on a smooth surface, without gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fitter.mesh_edges import undirected_edges

WantedEdge = Callable[[np.ndarray], np.ndarray]
"""Wanted edge length [N] at attribute rows [N, C], mm."""


def smooth_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit vertex normals [V, 3] by Max's weights (1999), exact on a sphere whatever the triangles' shapes."""
    corners = [vertices[triangles[:, k]] for k in range(3)]
    normals = np.zeros_like(vertices)
    for k in range(3):
        first, second = corners[(k + 1) % 3] - corners[k], corners[(k + 2) % 3] - corners[k]
        lengths = (first**2).sum(1) * (second**2).sum(1)
        crossed = np.cross(first, second) / np.maximum(lengths, 1e-18)[:, None]
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, k], crossed[:, axis], len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)


def _curved_midpoints(vertices: np.ndarray, normals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Middle of each edge on the cubic of PN triangles (Vlachos et al. 2001): tangent to the surface at both ends."""
    start, end = vertices[edges[:, 0]], vertices[edges[:, 1]]
    at_start, at_end = normals[edges[:, 0]], normals[edges[:, 1]]
    chord = end - start
    lift_start = (chord * at_start).sum(1, keepdims=True)
    lift_end = -(chord * at_end).sum(1, keepdims=True)
    return 0.5 * (start + end) - (lift_start * at_start + lift_end * at_end) / 8.0


def _split(triangles: np.ndarray, middles: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Triangles after a split: `middles` [F, 3] is the new vertex on edges 01, 12, 20 of each triangle, or -1."""
    marked = middles >= 0
    count = marked.sum(1)
    pieces = [triangles[count == 0]]

    def turned(rows: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corners and middles of rows, renumbered so that corner `first` comes first."""
        order = (first[:, None] + np.arange(3)) % 3
        return np.take_along_axis(triangles[rows], order, 1), np.take_along_axis(middles[rows], order, 1)

    rows = np.flatnonzero(count == 1)
    (a, b, c), (ab, _, _) = (x.T for x in turned(rows, marked[rows].argmax(1)))
    pieces += [np.stack([a, ab, c], 1), np.stack([ab, b, c], 1)]

    # Two split edges meet in corner a; the quadrilateral on the other side gets its shorter diagonal.
    rows = np.flatnonzero(count == 2)
    (a, b, c), (ab, _, ca) = (x.T for x in turned(rows, ((~marked[rows]).argmax(1) + 2) % 3))
    pieces.append(np.stack([a, ab, ca], 1))
    from_b = np.linalg.norm(vertices[b] - vertices[ca], axis=1) < np.linalg.norm(vertices[c] - vertices[ab], axis=1)
    for use, quads in ((from_b, ((ab, b, ca), (b, c, ca))), (~from_b, ((ab, b, c), (ab, c, ca)))):
        pieces += [np.stack(corners, 1)[use] for corners in quads]

    rows = np.flatnonzero(count == 3)
    a, b, c = triangles[rows].T
    ab, bc, ca = middles[rows].T
    pieces += [np.stack(corners, 1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate(pieces)


def refine(
    vertices: np.ndarray, triangles: np.ndarray, attributes: np.ndarray, wanted_edge: WantedEdge, rounds: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve every edge that is longer than wanted, again and again.

    Args:
        vertices: [V, 3] mm; they keep their numbers.
        triangles: [F, 3], manifold, may have boundaries.
        attributes: [V, C]; a new vertex gets the mean of its edge's ends.
        wanted_edge: Longest edge allowed, asked for each edge with the mean of its ends' attributes.
        rounds: Stop after so many even if an edge is still too long.

    Returns:
        Vertices, triangles and attributes of the refined mesh.
    """
    for _ in range(rounds):
        edges, of_triangle = undirected_edges(triangles)
        lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        at_edges = 0.5 * (attributes[edges[:, 0]] + attributes[edges[:, 1]])
        chosen = np.flatnonzero(lengths > wanted_edge(at_edges))
        if len(chosen) == 0:
            break
        new = np.full(len(edges), -1, np.int64)
        new[chosen] = len(vertices) + np.arange(len(chosen))
        normals = smooth_normals(vertices, triangles)
        points = _curved_midpoints(vertices, normals, edges[chosen])
        vertices = np.concatenate([vertices, points])
        attributes = np.concatenate([attributes, at_edges[chosen]])
        triangles = _split(triangles, new[of_triangle], vertices)
    return vertices, triangles, attributes
