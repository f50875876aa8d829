"""A scan's surface without the faults that scanners and exporters leave: doubles, specks, inside-out triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fitter.capture.scan.orient import oriented
from fitter.capture.scan.read import compacted
from fitter.mesh_normals import triangle_areas

MERGE = 1e-6
"""Vertices closer than this share of the extent (on each axis) are one."""
EMPTY = 1e-12
"""Triangles with less area than this share of the squared extent are none."""
PIECE = 0.01
"""Pieces with less than this share of the area or of the triangles are specks."""
KEPT = 0.5
"""Share of the area that has to remain for specks to be left out; else the scan consists of them."""


@dataclass(frozen=True)
class CleanMesh:
    """A surface that the fit can rely on."""

    vertices: np.ndarray
    """[V, 3], all used."""
    triangles: np.ndarray
    """[F, 3] int64, counter-clockwise seen from outside."""
    warnings: tuple[str, ...]
    """Plain sentences on what was changed."""


def clean_mesh(vertices: np.ndarray, triangles: np.ndarray) -> CleanMesh:
    """Join double vertices, drop empty and double triangles and specks, and turn every triangle outwards.

    All limits are relative to the mesh's extent, so the unit does not matter. Edges of three and more triangles stay;
    the winding does not spread across them.

    Args:
        vertices: [V, 3] float64, finite.
        triangles: [F, 3] int64.

    Returns:
        The cleaned mesh; it may be empty.
    """
    vertices, triangles = compacted(*merge_vertices(vertices, triangles))
    warnings = []
    area = triangle_areas(vertices, triangles)
    extent = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.0
    distinct = (triangles != np.roll(triangles, -1, axis=1)).all(1)
    good = distinct & (area > EMPTY * extent**2)
    good[good] = ~_repeated(triangles[good], len(vertices))
    if not good.all():
        warnings.append(f"{len(good) - int(good.sum())} empty or repeated triangles of the scan were left out.")
        triangles, area = triangles[good], area[good]
    kept, pieces = _without_specks(triangles, area, len(vertices))
    if not kept.all():
        share = area[~kept].sum() / area.sum()
        warnings.append(
            f"{pieces} isolated pieces ({len(kept) - int(kept.sum())} triangles, {share:.1%} of the area) of the scan "
            "were left out."
        )
        triangles, area = triangles[kept], area[kept]
    vertices, triangles = compacted(vertices, triangles)
    if len(triangles):
        triangles, turned = oriented(vertices, triangles)
        share = float(area[turned].sum() / area.sum())
        if share > 0.5:
            warnings.append(f"The scan was inside out; {int(turned.sum())} triangles were turned outwards.")
        elif turned.any():
            warnings.append(f"{int(turned.sum())} triangles ({share:.1%} of the area) were inside out and were turned.")
    return CleanMesh(vertices, triangles, tuple(warnings))


def merge_vertices(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join vertices that lie on one point, as those of an STL file or on both sides of a texture seam do.

    Args:
        vertices: [V, 3] float64, finite.
        triangles: [F, 3] int64.

    Returns:
        Vertices in the order of their first appearance, and the triangles over them.
    """
    extent = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.0
    if not extent > 0:
        return vertices, triangles
    # Each axis can part a close pair in one of the four shifted grids only, so that one grid at least joins it.
    for shift in (0.0, 0.25, 0.5, 0.75):
        cells = ((vertices - vertices.min(0)) * (0.25 / (MERGE * extent)) + shift).astype(np.int64)
        key = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
        ordered = np.sort(key)
        if (ordered[1:] != ordered[:-1]).all():
            continue
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(first), np.int64)
        rank[order] = np.arange(len(first))
        vertices, triangles = vertices[first[order]], rank[group.reshape(-1)][triangles]
    return vertices, triangles


def _repeated(triangles: np.ndarray, vertex_count: int) -> np.ndarray:
    """[F] whether an earlier triangle has the same three corners, in any order."""
    corners = np.sort(triangles, axis=1)
    key = corners[:, 0] * vertex_count + corners[:, 1]
    order = np.lexsort((corners[:, 2], key))
    same = (key[order][1:] == key[order][:-1]) & (corners[order[1:], 2] == corners[order[:-1], 2])
    flags = np.zeros(len(triangles), bool)
    # lexsort is stable: of equal rows the earliest comes first and stays.
    flags[order[1:][same]] = True
    return flags


def _without_specks(triangles: np.ndarray, area: np.ndarray, vertex_count: int) -> tuple[np.ndarray, int]:
    """[F] whether a triangle belongs to a piece worth keeping, and the number of pieces that are not."""
    if len(triangles) == 0:
        return np.ones(0, bool), 0
    rows, columns = triangles[:, :2].ravel(), triangles[:, 1:].ravel()
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(vertex_count, vertex_count))
    count, label = connected_components(graph, directed=False)
    piece = label[triangles[:, 0]]
    areas, sizes = np.bincount(piece, area, count), np.bincount(piece, minlength=count)
    speck = (areas < PIECE * area.sum()) | (sizes < PIECE * len(triangles))
    kept = ~speck[piece]
    if area[kept].sum() < KEPT * area.sum():
        return np.ones(len(triangles), bool), 0
    return kept, int((speck & (sizes > 0)).sum())
