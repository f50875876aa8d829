"""Edges of a triangle mesh: each one's number, its ends, and which triangles share it, in time linear in their number.

Sorting the edges by their ends took a third of the time that a scan of two million triangles needs before it is fitted;
vertex numbers are small integers, so a counting sort by one end does most of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

HUB = 64
"""Edges of one vertex up to which they are sorted by insertion."""


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
    return EdgeTable(*_across(_rows(triangles), vertex_count))


def undirected_edges(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of triangles [F, 3], each once.

    Returns:
        [E, 2] int64 ends, the smaller one first, in ascending order; and [F, 3] int64 the edge from each corner to the
        next.
    """
    return _numbered(_rows(triangles), int(triangles.max(initial=-1)) + 1)


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


def corners_by_vertex(triangles: np.ndarray, vertex_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Corner numbers (3 * triangle + corner) of triangles [F, 3], grouped by vertex.

    Returns:
        [V + 1] int32 offsets and [3 F] int32 corners, ascending within a vertex: those of vertex v are
        `corners[offsets[v]:offsets[v + 1]]`.
    """
    return _grouped(_rows(triangles).reshape(-1), vertex_count)


def _rows(triangles: np.ndarray) -> np.ndarray:
    """Of one type, so that the functions below are compiled once."""
    return np.ascontiguousarray(triangles, np.int32)


@njit(cache=True, nogil=True)
def _grouped(vertex, vertex_count):
    """Counting sort of corners by their vertex."""
    offsets = np.zeros(vertex_count + 1, np.int32)
    for corner in range(len(vertex)):
        offsets[vertex[corner] + 1] += 1
    for number in range(vertex_count):
        offsets[number + 1] += offsets[number]
    place = offsets[:-1].copy()
    corners = np.empty(len(vertex), np.int32)
    for corner in range(len(vertex)):
        number = vertex[corner]
        corners[place[number]] = corner
        place[number] += 1
    return offsets, corners


@njit(cache=True, nogil=True)
def _runs(triangles, vertex_count):
    """The edges sorted by smaller end, then larger end, then number, in runs of equal ones.

    Returns:
        [3 F] edges (3 * triangle + edge); [3 F] twice the larger end, and one more where the edge starts there; [E + 1]
        where runs begin; [E] the smaller ends.
    """
    count = 3 * triangles.shape[0]
    place = np.zeros(vertex_count + 1, np.int32)
    for triangle in range(triangles.shape[0]):
        for edge in range(3):
            place[min(triangles[triangle, edge], triangles[triangle, (edge + 1) % 3]) + 1] += 1
    for number in range(vertex_count):
        place[number + 1] += place[number]
    order, ends = np.empty(count, np.int32), np.empty(count, np.int64)
    for triangle in range(triangles.shape[0]):
        for edge in range(3):
            start, end = triangles[triangle, edge], triangles[triangle, (edge + 1) % 3]
            low = min(start, end)
            order[place[low]] = 3 * triangle + edge
            ends[place[low]] = 2 * np.int64(max(start, end)) + (start > end)
            place[low] += 1
    begins, lows = np.empty(count + 1, np.int32), np.empty(count, np.int32)
    runs, first = 0, 0
    for low in range(vertex_count):
        last = place[low]
        _sort(order[first:last], ends[first:last])
        for entry in range(first, last):
            if entry == first or ends[entry] >> 1 != ends[entry - 1] >> 1:
                begins[runs], lows[runs] = entry, low
                runs += 1
        first = last
    begins[runs] = count
    return order, ends, begins[: runs + 1], lows[:runs]


@njit(cache=True, nogil=True)
def _sort(order, ends):
    """Sort a vertex's edges by their other end, equal ones as they come: there are about six, but for hubs of fans."""
    if len(order) > HUB:
        sorted_rows = np.argsort(ends >> 1, kind="mergesort")
        order[:], ends[:] = order[sorted_rows], ends[sorted_rows]
        return
    for entry in range(1, len(order)):
        edge, end, free = order[entry], ends[entry], entry
        while free > 0 and ends[free - 1] >> 1 > end >> 1:
            order[free], ends[free] = order[free - 1], ends[free - 1]
            free -= 1
        order[free], ends[free] = edge, end


@njit(cache=True, nogil=True)
def _across(triangles, vertex_count):
    """Neighbours, agreement and uses [F, 3]."""
    order, ends, begins, lows = _runs(triangles, vertex_count)
    neighbours = np.full(triangles.size, -1, np.int32)
    agrees = np.zeros(triangles.size, np.bool_)
    uses = np.empty(triangles.size, np.int32)
    for run in range(len(lows)):
        first, last = begins[run], begins[run + 1]
        for entry in range(first, last):
            uses[order[entry]] = last - first
        if last - first == 2:
            one, other = order[first], order[first + 1]
            neighbours[one], neighbours[other] = other // 3, one // 3
            agrees[one] = agrees[other] = ends[first] != ends[first + 1]
    return neighbours.reshape(triangles.shape), agrees.reshape(triangles.shape), uses.reshape(triangles.shape)


@njit(cache=True, nogil=True)
def _numbered(triangles, vertex_count):
    """Ends [E, 2] of the edges, each once, and the number of each triangle's edges [F, 3]."""
    order, ends, begins, lows = _runs(triangles, vertex_count)
    edges = np.empty((len(lows), 2), np.int64)
    numbers = np.empty(triangles.size, np.int64)
    for run in range(len(lows)):
        edges[run, 0], edges[run, 1] = lows[run], ends[begins[run]] >> 1
        for entry in range(begins[run], begins[run + 1]):
            numbers[order[entry]] = run
    return edges, numbers.reshape(triangles.shape)
