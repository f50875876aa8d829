"""Edges of a triangle soup: which triangles share one, and where the surface ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """What lies across each edge; edge k of a triangle runs from corner k to corner (k + 1) % 3."""

    neighbours: np.ndarray
    """[F, 3] int32 triangle across the edge; -1 where there is none or more than one."""
    agrees: np.ndarray
    """[F, 3] bool: the neighbour runs along the edge the other way, as neighbours that are wound alike do."""
    uses: np.ndarray
    """[F, 3] int32 triangles that use the edge, the triangle itself included."""


def edge_table(triangles: np.ndarray, vertex_count: int) -> EdgeTable:
    """Match the edges of triangles [F, 3] whose corners differ, over `vertex_count` vertices; any winding."""
    start = triangles.astype(np.int64)
    end = np.roll(start, -1, axis=1)
    key = (np.minimum(start, end) * vertex_count + np.maximum(start, end)).ravel()
    order = np.argsort(key)
    ordered = key[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    run = np.diff(np.r_[first, len(key)])
    uses = np.empty(len(key), np.int32)
    uses[order] = np.repeat(run, run)
    one, other = order[first[run == 2]], order[first[run == 2] + 1]
    neighbours = np.full(len(key), -1, np.int32)
    neighbours[one], neighbours[other] = other // 3, one // 3
    start = start.ravel()
    agrees = np.zeros(len(key), bool)
    agrees[one] = agrees[other] = start[one] != start[other]
    return EdgeTable(neighbours.reshape(-1, 3), agrees.reshape(-1, 3), uses.reshape(-1, 3))


def boundary_vertices(triangles: np.ndarray, vertex_count: int) -> np.ndarray:
    """Whether each vertex lies on the rim of the surface or of a hole: on an edge that one triangle only uses.

    Args:
        triangles: [F, 3].
        vertex_count: Number of vertices.

    Returns:
        [V] bool; False for vertices that no triangle uses. Edges of three and more triangles are no rim.
    """
    rim = edge_table(triangles, vertex_count).uses == 1
    flags = np.zeros(vertex_count, bool)
    flags[triangles[rim]] = True
    flags[np.roll(triangles, -1, axis=1)[rim]] = True
    return flags
