"""Loop subdivision as a sparse matrix, so that a mesh, its bases and its landmarks are refined by one product."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from fitter.mesh_edges import undirected_edges


def split_triangles(triangles: np.ndarray, triangle_edges: np.ndarray, vertex_count: int) -> np.ndarray:
    """The four triangles [4F, 3] of each triangle; the vertex in the middle of edge e has number `vertex_count` + e."""
    a, b, c = triangles.T
    ab, bc, ca = (triangle_edges + vertex_count).T
    return np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], 1).reshape(-1, 3)


def loop_subdivision(triangles: np.ndarray, vertex_count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """One step of Loop subdivision (Loop 1987, with Warren's vertex weights).

    Args:
        triangles: [F, 3] manifold triangles.
        vertex_count: Number of vertices V.

    Returns:
        The matrix [V + E, V] that maps old to new vertices (old vertices keep their numbers), and triangles [4F, 3].
    """
    edges, triangle_edges = undirected_edges(triangles)
    edge_count = len(edges)
    uses = np.bincount(triangle_edges.ravel(), minlength=edge_count)
    if uses.max(initial=0) > 2:
        raise ValueError("the mesh has an edge with more than two triangles; Loop subdivision needs a manifold")
    boundary = uses == 1
    new = np.arange(edge_count) + vertex_count

    # Edge points: 3/8, 3/8 and 1/8 for the two opposite corners; 1/2, 1/2 on the boundary.
    rows, columns, values = [new, new], [edges[:, 0], edges[:, 1]], []
    end_weight = np.where(boundary, 0.5, 0.375)
    values += [end_weight, end_weight]
    opposite = triangles[:, [2, 0, 1]]
    inside = ~boundary[triangle_edges]
    rows.append(triangle_edges[inside] + vertex_count)
    columns.append(opposite[inside])
    values.append(np.full(inside.sum(), 0.125))

    # Old vertices: 1 - n b and b for each of n neighbours; 3/4 and 1/8, 1/8 along the boundary.
    valence = np.bincount(edges.ravel(), minlength=vertex_count)
    on_boundary = np.zeros(vertex_count, bool)
    on_boundary[edges[boundary].ravel()] = True
    beta = np.where(valence == 3, 3.0 / 16.0, 3.0 / (8.0 * np.maximum(valence, 1)))
    old = np.arange(vertex_count)
    own = np.where(on_boundary, 0.75, 1.0 - valence * beta)
    own[valence == 0] = 1.0
    rows.append(old)
    columns.append(old)
    values.append(own)
    for near, far in ((0, 1), (1, 0)):
        start, end = edges[:, near], edges[:, far]
        weight = np.where(on_boundary[start], np.where(boundary, 0.125, 0.0), beta[start])
        rows.append(start)
        columns.append(end)
        values.append(weight)
    matrix = sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(vertex_count + edge_count, vertex_count),
    )
    matrix.eliminate_zeros()
    return matrix, split_triangles(triangles, triangle_edges, vertex_count)


def midpoint_subdivision(triangles: np.ndarray, vertex_count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """The same topology as `loop_subdivision` with every new vertex in the middle of its edge (for coordinates)."""
    edges, triangle_edges = undirected_edges(triangles)
    count = len(edges)
    rows = np.concatenate([np.arange(vertex_count), np.repeat(np.arange(count) + vertex_count, 2)])
    columns = np.concatenate([np.arange(vertex_count), edges.ravel()])
    values = np.concatenate([np.ones(vertex_count), np.full(2 * count, 0.5)])
    matrix = sp.csr_matrix((values, (rows, columns)), shape=(vertex_count + count, vertex_count))
    return matrix, split_triangles(triangles, triangle_edges, vertex_count)
