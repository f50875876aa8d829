"""Which triangles of a scan can be seen from the front: sheets inside the head, such as a mouth bag, cannot."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

WIDEST = np.radians(60.0)
"""Largest angle between a direction of view and the face's forward direction."""
GRAZING = 0.2
"""Triangles count as seen only by directions within acos of this of their normal."""
PIXELS = (512, 1024)
"""Least and largest side of the depth picture."""


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
    edges = np.linalg.norm(points[corners] - points[np.roll(corners, -1, axis=1)], axis=2)
    extent = 2 * float(np.linalg.norm(points, axis=1).max())
    side = int(np.clip(2 * extent / max(float(np.median(edges)), 1e-9 * extent), *PIXELS))
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
    """Set `seen` for what any frame sees; threads only ever write True, so their order does not matter."""
    for number in prange(frames.shape[0]):
        frame = frames[number]
        projected = np.empty(points.shape, np.float64)
        for vertex in range(points.shape[0]):
            for axis in range(3):
                total = 0.0
                for k in range(3):
                    total += frame[axis, k] * points[vertex, k]
                projected[vertex, axis] = total / pixel + 0.5 * side
        nearest = np.full((side, side), -np.inf, np.float32)
        for triangle in range(triangles.shape[0]):
            _draw(projected, triangles[triangle], nearest)
        for triangle in range(triangles.shape[0]):
            if not seen[triangle] and _in_front(projected, triangles[triangle], nearest):
                seen[triangle] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(projected, triangle, nearest):
    """Write a triangle's depth (larger is nearer to the viewer, in pixels) where it is the nearest so far."""
    side = nearest.shape[0]
    ax, ay, az = projected[triangle[0]]
    bx, by, bz = projected[triangle[1]]
    cx, cy, cz = projected[triangle[2]]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0.0:
        return
    left = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
    right = min(int(np.floor(max(ax, bx, cx) - 0.5)), side - 1)
    bottom = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
    top = min(int(np.floor(max(ay, by, cy) - 0.5)), side - 1)
    for row in range(bottom, top + 1):
        y = row + 0.5
        for column in range(left, right + 1):
            x = column + 0.5
            second = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
            third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
            # A hair of overlap, so that no line of sight slips between two triangles.
            if second < -1e-6 or third < -1e-6 or second + third > 1.000001:
                continue
            depth = np.float32(az + second * (bz - az) + third * (cz - az))
            if depth > nearest[row, column]:
                nearest[row, column] = depth


@njit(cache=True, nogil=True, error_model="numpy")
def _in_front(projected, triangle, nearest):
    """Whether the triangle faces the viewer and its middle, or a point near a corner, is the nearest thing there."""
    a, b, c = projected[triangle[0]], projected[triangle[1]], projected[triangle[2]]
    nx = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    ny = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    nz = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if length == 0.0 or nz < GRAZING * length:
        return False
    side = nearest.shape[0]
    # The pixel's middle is up to 0.71 pixels away; the triangle's own plane rises by so much on the way, and the
    # neighbours, which may be steeper, by a little more.
    slack = 1.0 + 0.75 * np.sqrt(nx * nx + ny * ny) / nz
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
