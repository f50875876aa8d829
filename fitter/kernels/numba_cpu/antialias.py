"""Silhouette antialiasing on the CPU by an edge walk over the mesh.

For every pair of neighbouring pixels, the walk starts at the nearer pixel's triangle and steps from one triangle to the
next along the segment between the two pixel centres, until the segment ends or a silhouette edge (mesh boundary, or the
neighbour faces the other way) is met. The colours are then blended by where the edge crosses the segment, as in Laine
et al. (2020), section 3.4. Their rule looks only at the edges of the visible triangle, which loses almost all
silhouettes once triangles are smaller than pixels; the walk does not.

Before the walks, the silhouette edges themselves (a percent or two of all edges) mark the pairs that they cross, so
that only those are walked; the walk then decides whether the edge belongs to the surface that is seen there.

A record of one blended pair is (near pixel, far pixel, edge vertex i, edge vertex j, axis) with the signed crossing
distance; the backward pass needs nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT

MAX_STEPS = 64
HIDDEN = np.float32(np.nan)
MARGIN = np.float32(1e-3)  # px; an edge gives another last digit when it is run through the other way


@njit(parallel=True, **JIT)
def screen_positions(clip, height, width, screen):
    """Pixel coordinates [V, 2] of clip positions [V, 4]; not a number in front of the near plane."""
    half_x, half_y = np.float32(0.5 * width), np.float32(0.5 * height)
    for vertex in prange(clip.shape[0]):
        w = clip[vertex, 3]
        if clip[vertex, 2] < -w or w <= np.float32(0.0):
            screen[vertex, 0] = HIDDEN
            screen[vertex, 1] = HIDDEN
        else:
            inverse = np.float32(1.0) / w
            screen[vertex, 0] = clip[vertex, 0] * inverse * half_x + half_x
            screen[vertex, 1] = clip[vertex, 1] * inverse * half_y + half_y


@njit(**JIT, inline="always")
def signed_area(screen, a, b, c):
    """Twice the signed screen area; its sign tells which way a triangle faces."""
    return (screen[b, 0] - screen[a, 0]) * (screen[c, 1] - screen[a, 1]) - (screen[b, 1] - screen[a, 1]) * (
        screen[c, 0] - screen[a, 0]
    )


@njit(**JIT)
def walk(screen, triangles, neighbours, triangle, stop, along, across, axis, direction):
    """Follow the segment from a pixel centre to its neighbour's through the mesh.

    Args:
        screen: [V, 2] pixel coordinates.
        triangles: [F, 3] vertices.
        neighbours: [F, 3] triangle across each edge.
        triangle: Triangle at the start.
        stop: Triangle at the other centre, -1 for background.
        along: Start coordinate on the axis of the segment, px.
        across: Fixed coordinate on the other axis, px.
        axis: 0 for a horizontal segment, 1 for a vertical one.
        direction: +1 or -1.

    Returns:
        Edge vertices i and j (i = -1: no silhouette to blend) and the distance of the crossing from the start, px.
    """
    other = 1 - axis
    came_from = -1
    for _ in range(MAX_STEPS):
        a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
        facing = signed_area(screen, a, b, c)
        if np.isnan(facing):
            return -1, -1, np.float32(0.0)
        exit_edge, distance, exit_i, exit_j = -1, np.float32(-1e30), -1, -1
        for edge in range(3):
            i, j = (a, b) if edge == 0 else ((b, c) if edge == 1 else (c, a))
            low, high = screen[i, other], screen[j, other]
            if (low <= across) == (high <= across):
                continue
            if came_from >= 0 and neighbours[triangle, edge] == came_from:
                continue
            crossing = screen[i, axis] + (across - low) / (high - low) * (screen[j, axis] - screen[i, axis])
            crossing = (crossing - along) * direction
            if crossing > distance:
                exit_edge, distance, exit_i, exit_j = edge, crossing, i, j
        # Snapped coverage may show a triangle whose exact shape the segment misses by a hair: then no edge is crossed.
        if exit_edge < 0 or distance > np.float32(1.0):
            return -1, -1, np.float32(0.0)
        following = neighbours[triangle, exit_edge]
        silhouette = following < 0
        if not silhouette:
            p, q, r = triangles[following, 0], triangles[following, 1], triangles[following, 2]
            turned = signed_area(screen, p, q, r)
            if np.isnan(turned):
                return -1, -1, np.float32(0.0)
            silhouette = (turned > np.float32(0.0)) != (facing > np.float32(0.0))
        if silhouette:
            steep = abs(screen[exit_j, other] - screen[exit_i, other])
            flat = abs(screen[exit_j, axis] - screen[exit_i, axis])
            # Each silhouette is owned by the pairs across its dominant direction, else diagonals count twice.
            if steep < flat or (steep == flat and axis == 1):
                return -1, -1, np.float32(0.0)
            return exit_i, exit_j, max(distance, np.float32(0.0))
        if following == stop:
            return -1, -1, np.float32(0.0)
        came_from, triangle = triangle, following
    return -1, -1, np.float32(0.0)


@njit(parallel=True, **JIT)
def find_facing(screen, triangles, facing):
    """facing [F]: 1 or 0 for the two ways a triangle can face, 2 for one with a corner in front of the near plane."""
    for triangle in prange(triangles.shape[0]):
        area = signed_area(screen, triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2])
        facing[triangle] = 2 if np.isnan(area) else (1 if area > np.float32(0.0) else 0)


@njit(**JIT)
def mark_pairs(screen, i, j, marks):
    """Mark the pixel pairs that the edge i-j crosses along its dominant direction."""
    dx, dy = abs(screen[j, 0] - screen[i, 0]), abs(screen[j, 1] - screen[i, 1])
    axis = 0 if dy >= dx else 1
    other = 1 - axis
    if screen[i, other] > screen[j, other]:
        i, j = j, i
    low, high = screen[i, other], screen[j, other]
    if not high - low > np.float32(0.0):
        return
    extent_along, extent_across = (marks.shape[2], marks.shape[1]) if axis == 0 else (marks.shape[1], marks.shape[2])
    half = np.float32(0.5)
    first = np.int64(np.ceil(max(low - half, np.float32(0.0))))
    last = np.int64(np.floor(min(high - half, np.float32(extent_across - 1))))
    slope = (screen[j, axis] - screen[i, axis]) / (high - low)
    for line in range(first, last + 1):
        crossing = screen[i, axis] + (np.float32(line) + half - low) * slope - half
        if not (crossing > np.float32(-1.0) and crossing < np.float32(extent_along)):
            continue
        for pixel in range(np.int64(np.floor(crossing - MARGIN)), np.int64(np.floor(crossing + MARGIN)) + 1):
            if pixel >= 0 and pixel < extent_along - 1:
                if axis == 0:
                    marks[0, line, pixel] = 1
                else:
                    marks[1, pixel, line] = 1


@njit(parallel=True, **JIT)
def mark_silhouettes(screen, triangles, neighbours, facing, marks):
    """Set marks [2, H, W] to 1 where a silhouette edge crosses the pair to the right (0) or below (1), else to 0.

    Threads may write the same 1 at the same time, which does no harm.
    """
    for row in prange(marks.shape[1]):
        marks[0, row, :] = 0
        marks[1, row, :] = 0
    for triangle in prange(triangles.shape[0]):
        here = facing[triangle]
        if here == 2:
            continue
        for edge in range(3):
            across = neighbours[triangle, edge]
            # An edge between two triangles is handled from its triangle of facing 1 only.
            if across < 0 or (here == 1 and facing[across] == 0):
                mark_pairs(screen, triangles[triangle, edge], triangles[triangle, (edge + 1) % 3], marks)


@njit(parallel=True, **JIT)
def find_silhouettes(screen, triangles, neighbours, ids, depth, marks, records, distances, counts):
    """Walk the marked pairs and collect those to blend.

    Args:
        marks: [2, H, W] from `mark_silhouettes`.
        records: [T, capacity, 5] int32, overwritten.
        distances: [T, capacity] float32 crossing distances from the near pixel, overwritten.
        counts: [T] int64 number of records.
    """
    height, width = ids.shape
    n_parts = counts.shape[0]
    for part in prange(n_parts):
        count = 0
        for row in range(part, height, n_parts):
            for column in range(width):
                here = ids[row, column]
                for axis in range(2):
                    if marks[axis, row, column] == 0:
                        continue
                    next_row, next_column = row + axis, column + 1 - axis
                    if next_row >= height or next_column >= width:
                        continue
                    there = ids[next_row, next_column]
                    if here == there:
                        continue
                    forward = there < 0 or (here >= 0 and depth[row, column] <= depth[next_row, next_column])
                    triangle, stop = (here, there) if forward else (there, here)
                    near_row, near_column = (row, column) if forward else (next_row, next_column)
                    x, y = np.float32(near_column) + np.float32(0.5), np.float32(near_row) + np.float32(0.5)
                    along, across = (x, y) if axis == 0 else (y, x)
                    direction = np.float32(1.0) if forward else np.float32(-1.0)
                    i, j, distance = walk(screen, triangles, neighbours, triangle, stop, along, across, axis, direction)
                    if i < 0:
                        continue
                    first, second = row * width + column, next_row * width + next_column
                    records[part, count, 0] = first if forward else second
                    records[part, count, 1] = second if forward else first
                    records[part, count, 2] = i
                    records[part, count, 3] = j
                    records[part, count, 4] = axis
                    distances[part, count] = distance
                    count += 1
        counts[part] = count


@njit(**JIT)
def blend(colour, records, distances, out):
    """Blend the recorded pairs: colour and out are [H * W, C], out starts as a copy of colour."""
    for entry in range(records.shape[0]):
        near, far = records[entry, 0], records[entry, 1]
        alpha = distances[entry] - np.float32(0.5)
        target = far if alpha > np.float32(0.0) else near
        for k in range(colour.shape[1]):
            out[target, k] += alpha * (colour[near, k] - colour[far, k])


@njit(**JIT)
def blend_backward(colour, records, distances, grad_out, clip, height, width, grad_colour, grad_clip):
    """Gradients to colour (grad_colour starts as a copy of grad_out) and clip (added into [V, 4])."""
    for entry in range(records.shape[0]):
        near, far = records[entry, 0], records[entry, 1]
        i, j, axis = records[entry, 2], records[entry, 3], records[entry, 4]
        alpha = distances[entry] - np.float32(0.5)
        target = far if alpha > np.float32(0.0) else near
        grad_distance = np.float32(0.0)
        for k in range(colour.shape[1]):
            g = grad_out[target, k]
            grad_distance += g * (colour[near, k] - colour[far, k])
            grad_colour[near, k] += alpha * g
            grad_colour[far, k] -= alpha * g
        if grad_distance == np.float32(0.0):
            continue
        if far < near:
            grad_distance = -grad_distance
        other = 1 - axis
        size_along = np.float32(width if axis == 0 else height)
        size_across = np.float32(height if axis == 0 else width)
        pixel = near // width if axis == 0 else near % width
        across = (np.float32(pixel) + np.float32(0.5)) * (np.float32(2.0) / size_across) - np.float32(1.0)
        along_i, across_i = clip[i, axis] / clip[i, 3], clip[i, other] / clip[i, 3]
        along_j, across_j = clip[j, axis] / clip[j, 3], clip[j, other] / clip[j, 3]
        slope = (along_j - along_i) / (across_j - across_i)
        share_j = (across - across_i) / (across_j - across_i)
        for vertex, share, along, level in (
            (i, np.float32(1.0) - share_j, along_i, across_i),
            (j, share_j, along_j, across_j),
        ):
            g = grad_distance * share * np.float32(0.5) * size_along / clip[vertex, 3]
            grad_clip[vertex, axis] += g
            grad_clip[vertex, other] -= g * slope
            grad_clip[vertex, 3] -= g * (along - slope * level)
