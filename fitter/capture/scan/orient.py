"""The winding of a scan: alike within what hangs together, counter-clockwise seen from outside."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fitter.mesh_edges import EdgeTable, edge_table
from fitter.mesh_normals import crossed_edges, lengths

SOLID = 0.005
"""Enclosed volume over area^1.5 from which an open sheet has an inside (a sphere has 0.094, a half one 0.13)."""
LARGE = 0.1
"""Share of the scan's area from which an open patch is judged by itself: a small one may be a dent, which is hollow."""


def oriented(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn triangles so that all face outwards.

    Neighbours across an edge of exactly two triangles are made to agree, breadth first; what such edges join is a
    patch. A patch faces outwards if it encloses a positive volume once each of its rims is closed by a fan to the rim's
    middle, which holds for closed heads, busts without a back, and faces cut out like a mask. Open patches that are
    small or flat do not tell; they keep the file's winding, or lose it, as most of the others do.

    Args:
        vertices: [V, 3].
        triangles: [F, 3], corners of each different, with area.

    Returns:
        The triangles [F, 3], and which of them were turned [F] bool.
    """
    edges = edge_table(triangles, len(vertices))
    patch, turned = _spread(edges.neighbours, edges.agrees)
    patches = int(patch.max()) + 1
    cross = crossed_edges(vertices, triangles)
    area = 0.5 * lengths(cross)
    # Of the two consistent windings, the patch starts from the one that more of the file's triangles have.
    mostly_turned = np.bincount(patch, area * turned, patches) > 0.5 * np.bincount(patch, area, patches)
    turned ^= mostly_turned[patch]
    sign = _outward(vertices, triangles, cross, patch, turned, edges, area)
    turned ^= sign[patch] < 0
    result = triangles.copy()
    result[turned] = triangles[turned][:, ::-1]
    return result, turned


@njit(cache=True, nogil=True)
def _spread(neighbours, agrees):
    """Breadth first over manifold edges: patch number [F] and whether to turn [F] to agree with the patch's first."""
    count = neighbours.shape[0]
    patch = np.full(count, -1, np.int64)
    turned = np.zeros(count, np.bool_)
    queue = np.empty(count, np.int64)
    patches = 0
    for seed in range(count):
        if patch[seed] >= 0:
            continue
        patch[seed] = patches
        queue[0] = seed
        head, tail = 0, 1
        while head < tail:
            triangle = queue[head]
            head += 1
            for edge in range(3):
                neighbour = neighbours[triangle, edge]
                if neighbour < 0 or patch[neighbour] >= 0:
                    continue
                patch[neighbour] = patches
                turned[neighbour] = turned[triangle] != (not agrees[triangle, edge])
                queue[tail] = neighbour
                tail += 1
        patches += 1
    return patch, turned


def _outward(
    vertices: np.ndarray,
    triangles: np.ndarray,
    cross: np.ndarray,
    patch: np.ndarray,
    turned: np.ndarray,
    edges: EdgeTable,
    area: np.ndarray,
) -> np.ndarray:
    """[P] +1 where a patch faces outwards as `turned` has it, -1 where it faces inwards."""
    patches = int(patch.max()) + 1
    points = vertices - vertices.mean(0)
    way = np.where(turned, -1.0, 1.0)
    # cross . corner is six times the volume of the triangle's tetrahedron with the origin.
    volume = np.bincount(patch, way * np.einsum("fk,fk->f", cross, points[triangles[:, 0]]), patches)
    rim_triangle, rim_edge = np.nonzero(edges.neighbours < 0)
    if len(rim_triangle):
        start = triangles[rim_triangle, rim_edge]
        end = triangles[rim_triangle, (rim_edge + 1) % 3]
        middle = _rim_middles(points, start, end, patch[rim_triangle])
        # The fan runs along the edge backwards, so that surface and fan together are closed.
        fans = np.einsum("ek,ek->e", np.cross(points[end], points[start]), middle)
        volume += np.bincount(patch[rim_triangle], way[rim_triangle] * fans, patches)
    closed = np.bincount(patch[rim_triangle], minlength=patches) == 0
    areas = np.bincount(patch, area, patches)
    telling = (np.abs(volume) / 6 > SOLID * areas**1.5) & (areas > LARGE * areas.sum())
    certain = telling | (closed & (volume != 0))
    sign = np.where(volume < 0, -1.0, 1.0)
    rest = -1.0 if (sign * areas)[certain].sum() < 0 else 1.0
    return np.where(certain, sign, rest)


def _rim_middles(points: np.ndarray, start: np.ndarray, end: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """[E, 3] for each rim edge the length-weighted middle of the rim that it belongs to, patch by patch."""
    keys, corner = np.unique(
        np.concatenate([start, end]) + np.tile(patch, 2) * np.int64(len(points)), return_inverse=True
    )
    one, other = corner[: len(start)], corner[len(start) :]
    graph = coo_matrix((np.ones(len(start), np.int8), (one, other)), shape=(len(keys), len(keys)))
    rims, label = connected_components(graph, directed=False)
    rim = label[one]
    length = np.linalg.norm(points[end] - points[start], axis=1)
    total = np.bincount(rim, length, rims)
    halfway = 0.5 * (points[start] + points[end]) * length[:, None]
    sums = np.stack([np.bincount(rim, halfway[:, axis], rims) for axis in range(3)], -1)
    return (sums / np.where(total > 0, total, 1.0)[:, None])[rim]
