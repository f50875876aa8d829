"""The atlas of an arbitrary face mesh: its skin is made a topological disc, then flattened by `build_atlas`."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from fitter.errors import InputError
from fitter.mesh_normals import triangle_areas
from fitter.model.atlas import build_atlas, signed_areas

RADII_MM = (np.inf, 160.0, 140.0, 120.0, 105.0, 90.0)
"""Tried in turn: the largest part around the nose tip that is a disc (closed heads and handles need a smaller one)."""
LARGE_MESH = 25_000
"""Triangles from which the relaxation gets fewer steps; each takes a second there."""
STEPS, STEPS_OF_LARGE = 60, 25


def _edge_keys(triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Directed edges [F, 3] as numbers, and the same edges backwards."""
    following = np.roll(triangles, -1, axis=1)
    return triangles * count + following, following * count + triangles


def open_edges(triangles: np.ndarray) -> np.ndarray:
    """[B, 2] directed edges that no other triangle runs through backwards."""
    count = int(triangles.max()) + 1
    forward, backward = _edge_keys(triangles, count)
    alone = ~np.isin(forward, backward)
    return np.stack([forward[alone] // count, forward[alone] % count], 1)


def largest_component(triangles: np.ndarray) -> np.ndarray:
    """Boolean [F]: the triangles of the largest piece that hangs together by edges."""
    count = int(triangles.max()) + 1
    forward, backward = _edge_keys(triangles, count)
    order = np.argsort(forward.ravel())
    found = np.searchsorted(forward.ravel()[order], backward.ravel()).clip(max=forward.size - 1)
    partner = order[found]
    matched = forward.ravel()[partner] == backward.ravel()
    rows = np.repeat(np.arange(len(triangles)), 3)
    graph = sp.csr_matrix(
        (np.ones(matched.sum()), (rows[matched], partner[matched] // 3)), shape=(len(triangles), len(triangles))
    )
    _, label = connected_components(graph, directed=False)
    return label == np.bincount(label).argmax()


def _clean(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The largest manifold piece: no empty or doubled triangles, no edge used twice one way, no pinched vertex."""
    triangles = triangles[2.0 * triangle_areas(vertices, triangles) > 1e-9]
    while len(triangles):
        forward, _ = _edge_keys(triangles, int(triangles.max()) + 1)
        _, inverse, uses = np.unique(forward, return_inverse=True, return_counts=True)
        doubled = (uses[inverse.reshape(forward.shape)] > 1).any(1)
        # The first of doubled triangles stays out as well: which one is right cannot be told.
        triangles = triangles[~doubled]
        if not len(triangles):
            break
        triangles = triangles[largest_component(triangles)]
        starts = open_edges(triangles)[:, 0]
        pinched = np.flatnonzero(np.bincount(starts, minlength=1) > 1)
        if not doubled.any() and not len(pinched):
            break
        if len(pinched):
            triangles = triangles[_kept_at_pinches(triangles, pinched)]
    return triangles


def _kept_at_pinches(triangles: np.ndarray, pinched: np.ndarray) -> np.ndarray:
    """Boolean [F]: at each pinched vertex only its largest fan of triangles stays."""
    keep = np.ones(len(triangles), bool)
    for vertex in pinched:
        rows = np.flatnonzero((triangles == vertex).any(1))
        fan = triangles[rows]
        shared = (fan[:, None, :, None] == fan[None, :, None, :]).any(-1).sum(-1) >= 2
        _, label = connected_components(sp.csr_matrix(shared), directed=False)
        keep[rows[label != np.bincount(label).argmax()]] = False
    return keep


def boundary_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """All boundary loops of a manifold mesh, each in the direction of its triangles."""
    follow = {int(start): int(end) for start, end in open_edges(triangles)}
    loops = []
    while follow:
        start, current = follow.popitem()
        loop = [start]
        while current != start:
            loop.append(current)
            current = follow.pop(current)
        loops.append(np.array(loop))
    return loops


def _is_disc(triangles: np.ndarray, loops: list[np.ndarray]) -> bool:
    """Whether the piece, with all but one of its holes filled, is a disc (Euler characteristic 1)."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    characteristic = len(np.unique(triangles)) - len(np.unique(edges, axis=0)) + len(triangles)
    return bool(loops) and characteristic + len(loops) - 1 == 1


def _fill_holes(vertices: np.ndarray, triangles: np.ndarray, loops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles with a fan in every hole except the longest loop, which becomes the outline."""
    length = [np.linalg.norm(vertices[loop] - vertices[np.roll(loop, 1)], axis=1).sum() for loop in loops]
    outline = int(np.argmax(length))
    points, faces = [vertices], [triangles]
    for number, loop in enumerate(loops):
        if number == outline:
            continue
        middle = sum(map(len, points))
        points.append(vertices[loop].mean(0, keepdims=True))
        faces.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), middle)], 1))
    return np.concatenate(points), np.concatenate(faces)


def _upright(uv: np.ndarray, low: int, high: int) -> np.ndarray:
    """Turn the map by quarter turns until `high` (between the eyes) lies above `low` (the chin)."""
    direction = uv[high] - uv[low]
    turns = round((np.pi / 2 - np.arctan2(direction[1], direction[0])) / (np.pi / 2)) % 4
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    return (uv - 0.5) @ np.array([[cosine, sine], [-sine, cosine]]) + 0.5


def disc_atlas(
    vertices: np.ndarray,
    triangles: np.ndarray,
    importance: np.ndarray,
    tip: np.ndarray,
    chin: int,
    bridge: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Flatten a face or head surface.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3] of the skin; pieces, holes and defects are allowed.
        importance: [V] wanted size of a millimetre in the map, relative to the face's 1.
        tip: [3] nose tip, mm; around it the disc is cut if the whole surface is none.
        chin: Vertex that is to lie below `bridge` in the map.
        bridge: Vertex between the eyes.

    Returns:
        Coordinates [V, 2] in (0, 1)² (NaN off the map) and the triangles [Fa, 3] that take part, none of them flipped.

    Raises:
        InputError: No part of the surface around the nose tip is a disc.
    """
    distance = np.linalg.norm(vertices - tip, axis=1)
    for radius in RADII_MM:
        piece = triangles[(distance[triangles] < radius).all(1)]
        piece = _clean(vertices, piece) if len(piece) else piece
        if not len(piece):
            continue
        loops = boundary_loops(piece)
        if not _is_disc(piece, loops):
            continue
        points, filled = _fill_holes(vertices, piece, loops)
        used = np.unique(filled)
        local = np.full(len(points), -1)
        local[used] = np.arange(len(used))
        wanted = np.concatenate([importance, np.full(len(points) - len(vertices), importance.min())])
        steps = STEPS if len(filled) < LARGE_MESH else STEPS_OF_LARGE
        flat = build_atlas(points[used], local[filled], wanted[used], steps)
        uv = np.full((len(points), 2), np.nan)
        uv[used] = flat
        uv = uv[: len(vertices)]
        if np.isfinite(uv[piece]).all() and (signed_areas(uv, piece) > 0).all():
            turned = _upright(uv, chin, bridge) if np.isfinite(uv[[chin, bridge]]).all() else uv
            return turned, piece
    raise InputError(
        "the face model's mesh", "no part of the skin that flattens to a disc", "one connected, manifold face surface"
    )
