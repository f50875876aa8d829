"""Which triangles of a scan can be seen from the front: sheets inside the head, such as a mouth bag, cannot."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fitter.capture.scan.quality import median_edge
from fitter.mesh_normals import lengths

WIDEST = np.radians(60.0)
"""Largest angle between a direction of view and the face's forward direction."""
GRAZING = 0.2
"""Triangles count as seen only by directions within acos of this of their normal."""
PIXELS = (512, 1024)
"""Least and largest side of the depth picture."""
TILE = 16
"""Side of the squares of a depth picture that are drawn or left out, px."""


def visible_triangles(
    vertices: np.ndarray, triangles: np.ndarray, forward: np.ndarray, up: np.ndarray, count: int = 35
) -> np.ndarray:
    """Triangles that are seen, from their outer side, from at least one direction around the face's front.

    Parallel views spread evenly over a cap of 60 degrees about `forward`, each with a depth picture of the whole scan;
    both sides of a triangle hide what lies behind it. The decision is exact to about two pixels, which are half the
    scan's median edge (1/512 to 1/1024 of its extent).

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3], counter-clockwise seen from outside.
        forward: [3] direction out of the face, any length.
        up: [3] direction to the top of the head, any length, not along `forward`.
        count: Number of directions.

    Returns:
        [F] bool.
    """
    points = np.ascontiguousarray(vertices - vertices.mean(0), np.float64)
    corners = np.ascontiguousarray(triangles, np.int64)
    extent = 2 * float(lengths(points).max())
    side = int(np.clip(2 * extent / max(median_edge(points, corners), 1e-9 * extent), *PIXELS))
    seen = np.zeros(len(corners), np.bool_)
    _look(points, corners, _frames(forward, up, count), extent / side, side, seen)
    return seen


def _frames(forward: np.ndarray, up: np.ndarray, count: int) -> np.ndarray:
    """[N, 3, 3] rows right, up and towards the viewer, spread over the cap as a sunflower spreads its seeds."""
    forward = np.asarray(forward, np.float64) / np.linalg.norm(forward)
    right = np.cross(up, forward)
    right /= np.linalg.norm(right)
    above = np.cross(forward, right)
    # Equal areas of the cap per direction; the first one is `forward` itself.
    cosine = 1 - (1 - np.cos(WIDEST)) * np.arange(count) / max(count - 1, 1)
    sine = np.sqrt(1 - cosine**2)
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    towards = (
        cosine[:, None] * forward + (sine * np.cos(turn))[:, None] * right + (sine * np.sin(turn))[:, None] * above
    )
    across = np.cross(above, towards)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.stack([across, np.cross(towards, across), towards], 1)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _look(points, triangles, frames, pixel, side, seen):
    """Set `seen` for what any frame sees; threads only ever write True, so their order does not matter.

    Only where a triangle turned to the viewer is still unseen does a picture have to be right; after the first frames
    that is in few of its tiles, and triangles elsewhere are not drawn.
    """
    large = _longer_than(points, triangles, 0.99 * TILE * pixel)
    for number in prange(frames.shape[0]):
        frame = frames[number]
        projected = np.empty(points.shape, np.float64)
        for vertex in range(points.shape[0]):
            for axis in range(3):
                total = 0.0
                for k in range(3):
                    total += frame[axis, k] * points[vertex, k]
                projected[vertex, axis] = total / pixel + 0.5 * side
        # A border of one tile, and one more beyond the last pixel, for the tiles around.
        wanted = np.zeros((side // TILE + 4, side // TILE + 4), np.bool_)
        asked = np.empty(triangles.shape[0], np.int64)
        count = 0
        for triangle in range(triangles.shape[0]):
            if not seen[triangle] and _slope(projected, triangles[triangle]) >= 0.0:
                asked[count] = triangle
                count += 1
                _want(projected, triangles[triangle], wanted)
        nearest = np.full((side, side), -np.inf, np.float32)
        for triangle in range(triangles.shape[0]):
            first = triangles[triangle, 0]
            # Those that reach into a tile from further off than the tiles around it are drawn in any case.
            row, column = int(projected[first, 1]) // TILE, int(projected[first, 0]) // TILE
            if large[triangle] or wanted[row + 1, column + 1]:
                _draw(projected, first, triangles[triangle, 1], triangles[triangle, 2], nearest)
        for entry in range(count):
            triangle = asked[entry]
            if _in_front(projected, triangles[triangle], nearest):
                seen[triangle] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _longer_than(points, triangles, limit):
    """[F] whether a triangle has an edge longer than `limit`."""
    flags = np.zeros(triangles.shape[0], np.bool_)
    for triangle in range(triangles.shape[0]):
        for edge in range(3):
            start, end = points[triangles[triangle, edge]], points[triangles[triangle, (edge + 1) % 3]]
            squared = (end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2 + (end[2] - start[2]) ** 2
            flags[triangle] |= squared > limit * limit
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _want(projected, triangle, wanted):
    """Mark the tiles that a triangle touches, and those around them."""
    ax, ay = projected[triangle[0], 0], projected[triangle[0], 1]
    bx, by = projected[triangle[1], 0], projected[triangle[1], 1]
    cx, cy = projected[triangle[2], 0], projected[triangle[2], 1]
    bottom, top = int(min(ay, by, cy)) // TILE, int(max(ay, by, cy)) // TILE
    left, right = int(min(ax, bx, cx)) // TILE, int(max(ax, bx, cx)) // TILE
    for row in range(bottom, top + 3):
        for column in range(left, right + 3):
            wanted[row, column] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(projected, first, second, third, nearest):
    """Write a triangle's depth (larger is nearer to the viewer, in pixels) where it is the nearest so far."""
    side = nearest.shape[0]
    ay, by, cy = projected[first, 1], projected[second, 1], projected[third, 1]
    # Whole numbers by cutting off: everything lies inside the picture, so nothing is negative. Most triangles of a fine
    # scan have no pixel's middle between their lowest and highest corner, and end here.
    bottom, top = int(min(ay, by, cy) + 0.5), int(max(ay, by, cy) + 0.5)
    if bottom == top:
        return
    ax, bx, cx = projected[first, 0], projected[second, 0], projected[third, 0]
    left, right = int(min(ax, bx, cx) + 0.5), int(max(ax, bx, cx) + 0.5)
    if left == right:
        return
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0.0:
        return
    az, bz, cz = projected[first, 2], projected[second, 2], projected[third, 2]
    for row in range(bottom, min(top, side)):
        y = row + 0.5
        for column in range(left, min(right, side)):
            x = column + 0.5
            along = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
            across = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
            # A hair of overlap, so that no line of sight slips between two triangles.
            if along < -1e-6 or across < -1e-6 or along + across > 1.000001:
                continue
            depth = np.float32(az + along * (bz - az) + across * (cz - az))
            if depth > nearest[row, column]:
                nearest[row, column] = depth


@njit(cache=True, nogil=True, error_model="numpy")
def _slope(projected, triangle):
    """Pixels by which the triangle's plane rises per pixel across it; -1 where it does not face the viewer."""
    a, b, c = projected[triangle[0]], projected[triangle[1]], projected[triangle[2]]
    nx = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    ny = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    nz = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if length == 0.0 or nz < GRAZING * length:
        return -1.0
    return np.sqrt(nx * nx + ny * ny) / nz


@njit(cache=True, nogil=True, error_model="numpy")
def _in_front(projected, triangle, nearest):
    """Whether the middle of a triangle that faces the viewer, or a point near a corner, is the nearest thing there."""
    a, b, c = projected[triangle[0]], projected[triangle[1]], projected[triangle[2]]
    side = nearest.shape[0]
    # The pixel's middle is up to 0.71 pixels away; the triangle's own plane rises by so much on the way, and the
    # neighbours, which may be steeper, by a little more.
    slack = 1.0 + 0.75 * _slope(projected, triangle)
    for sample in range(4):
        wa, wb, wc = 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0
        if sample == 1:
            wa, wb, wc = 0.8, 0.1, 0.1
        elif sample == 2:
            wa, wb, wc = 0.1, 0.8, 0.1
        elif sample == 3:
            wa, wb, wc = 0.1, 0.1, 0.8
        x = wa * a[0] + wb * b[0] + wc * c[0]
        y = wa * a[1] + wb * b[1] + wc * c[1]
        z = wa * a[2] + wb * b[2] + wc * c[2]
        row, column = min(max(int(y), 0), side - 1), min(max(int(x), 0), side - 1)
        if z + slack >= nearest[row, column]:
            return True
    return False
