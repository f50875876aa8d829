"""Rasterization on the CPU: y-band parallel z-buffer, then perspective-correct barycentrics.

Vertices are snapped to 1/256 px, edge functions are exact 64-bit integers with a tie rule, so shared edges are
watertight. Every band of rows belongs to one thread; there are no atomics. Coverage follows the edge-function method of
Pineda (1988); barycentrics come from homogeneous coordinates (Olano and Greer 1997) of the unsnapped vertices, so they
stay right for triangles that the near plane cuts.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

SUBPIXEL = 256
LIMIT = np.float32(2.0**20)  # px; keeps the products of the 64-bit edge functions far from overflow
BEHIND = np.int32(-(2**31))  # marks a vertex in front of the near plane; its triangles are clipped
JIT = {"cache": True, "error_model": "numpy", "nogil": True}


@njit(**JIT, inline="always")
def snap(ndc, extent):
    """Fixed-point pixel coordinate of a normalised device coordinate."""
    position = (ndc * np.float32(0.5) + np.float32(0.5)) * np.float32(extent)
    position = min(max(position, -LIMIT), LIMIT)
    return np.int32(np.floor(position * np.float32(SUBPIXEL) + np.float32(0.5)))


@njit(parallel=True, **JIT)
def project(clip, height, width, snapped, depth):
    """Snapped pixel coordinates [V, 2] and z/w [V] of clip positions [V, 4]."""
    for vertex in prange(clip.shape[0]):
        z, w = clip[vertex, 2], clip[vertex, 3]
        if z < -w or w <= np.float32(0.0):
            snapped[vertex, 0] = BEHIND
            continue
        scale = np.float32(1.0) / w
        snapped[vertex, 0] = snap(clip[vertex, 0] * scale, width)
        snapped[vertex, 1] = snap(clip[vertex, 1] * scale, height)
        depth[vertex] = z * scale


@njit(**JIT)
def clip_to_near(clip, a, b, c, height, width, points, point_depth):
    """Clip one triangle to z >= -w (Sutherland and Hodgman 1974); fills and counts up to 4 snapped points."""
    count = 0
    corners = (a, b, c)
    for k in range(3):
        i, j = corners[k], corners[(k + 1) % 3]
        distance_i = clip[i, 2] + clip[i, 3]
        distance_j = clip[j, 2] + clip[j, 3]
        inside_i, inside_j = distance_i >= 0.0, distance_j >= 0.0
        if inside_i and clip[i, 3] > 0.0:
            scale = np.float32(1.0) / clip[i, 3]
            points[count, 0] = snap(clip[i, 0] * scale, width)
            points[count, 1] = snap(clip[i, 1] * scale, height)
            point_depth[count] = clip[i, 2] * scale
            count += 1
        if inside_i != inside_j:
            # Always from the inner to the outer vertex, so that both triangles of an edge get the same point.
            if not inside_i:
                i, j = j, i
                distance_i, distance_j = distance_j, distance_i
            t = distance_i / (distance_i - distance_j)
            w = clip[i, 3] + t * (clip[j, 3] - clip[i, 3])
            if w > 0.0:
                scale = np.float32(1.0) / w
                points[count, 0] = snap((clip[i, 0] + t * (clip[j, 0] - clip[i, 0])) * scale, width)
                points[count, 1] = snap((clip[i, 1] + t * (clip[j, 1] - clip[i, 1])) * scale, height)
                point_depth[count] = -1.0
                count += 1
    return count


@njit(parallel=True, **JIT)
def bin_triangles(clip, triangles, snapped, height, width, band_rows, lists, counts):
    """Sort the triangles that hold a pixel centre into bands of rows.

    Each chunk of triangles fills its own lists [chunk, band, :], in ascending order, so nothing is shared.
    """
    n_chunks, n_bands = counts.shape
    n_triangles = triangles.shape[0]
    for chunk in prange(n_chunks):
        points = np.empty((4, 2), np.int32)
        point_depth = np.empty(4, np.float32)
        first = chunk * n_triangles // n_chunks
        last = (chunk + 1) * n_triangles // n_chunks
        for band in range(n_bands):
            counts[chunk, band] = 0
        for triangle in range(first, last):
            a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
            xa, xb, xc = snapped[a, 0], snapped[b, 0], snapped[c, 0]
            ya, yb, yc = snapped[a, 1], snapped[b, 1], snapped[c, 1]
            x_low, x_high = min(xa, min(xb, xc)), max(xa, max(xb, xc))
            y_low, y_high = min(ya, min(yb, yc)), max(ya, max(yb, yc))
            if x_low == BEHIND:
                if x_high == BEHIND:
                    continue
                count = clip_to_near(clip, a, b, c, height, width, points, point_depth)
                if count < 3:
                    continue
                x_low, x_high = points[:count, 0].min(), points[:count, 0].max()
                y_low, y_high = points[:count, 1].min(), points[:count, 1].max()
            # First and last pixel whose centre can lie inside; most sub-pixel triangles end here.
            column_first, column_last = (x_low + 127) >> 8, (x_high - 128) >> 8
            row_first, row_last = max((y_low + 127) >> 8, 0), min((y_high - 128) >> 8, height - 1)
            if column_first > column_last or row_first > row_last or column_last < 0 or column_first >= width:
                continue
            for band in range(row_first // band_rows, row_last // band_rows + 1):
                lists[chunk, band, counts[chunk, band]] = triangle
                counts[chunk, band] += 1


@njit(**JIT)
def fill(xa, ya, za, xb, yb, zb, xc, yc, zc, triangle, row_start, row_stop, ids, z_buffer):
    """Z-test one snapped triangle against the rows [row_start, row_stop)."""
    area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
    if area == 0:
        return
    if area < 0:
        xb, yb, zb, xc, yc, zc = xc, yc, zc, xb, yb, zb
        area = -area
    column_first = max((min(xa, min(xb, xc)) + 127) >> 8, 0)
    column_last = min((max(xa, max(xb, xc)) - 128) >> 8, z_buffer.shape[1] - 1)
    row_first = max((min(ya, min(yb, yc)) + 127) >> 8, row_start)
    row_last = min((max(ya, max(yb, yc)) - 128) >> 8, row_stop - 1)
    if column_first > column_last or row_first > row_last:
        return
    px, py = (column_first << 8) + 128, (row_first << 8) + 128
    # Edge functions opposite corners a, b, c; the tie rule is the limit of moving the pixel centre to the right by
    # an infinitesimal amount and down by a still smaller one, so a centre on a shared edge belongs to one triangle.
    dxa, dya = xc - xb, yc - yb
    dxb, dyb = xa - xc, ya - yc
    dxc, dyc = xb - xa, yb - ya
    edge_a = dxa * (py - yb) - dya * (px - xb)
    edge_b = dxb * (py - yc) - dyb * (px - xc)
    edge_c = dxc * (py - ya) - dyc * (px - xa)
    inverse = 1.0 / area
    z_row = (edge_a * za + edge_b * zb + edge_c * zc) * inverse
    z_column_step = -256.0 * (dya * za + dyb * zb + dyc * zc) * inverse
    z_row_step = 256.0 * (dxa * za + dxb * zb + dxc * zc) * inverse
    edge_a -= 0 if (dya < 0 or (dya == 0 and dxa > 0)) else 1
    edge_b -= 0 if (dyb < 0 or (dyb == 0 and dxb > 0)) else 1
    edge_c -= 0 if (dyc < 0 or (dyc == 0 and dxc > 0)) else 1
    for row in range(row_first, row_last + 1):
        ea, eb, ec, z = edge_a, edge_b, edge_c, z_row
        for column in range(column_first, column_last + 1):
            if (ea | eb | ec) >= 0:
                depth = np.float32(z)
                if depth < z_buffer[row, column]:
                    z_buffer[row, column] = depth
                    ids[row, column] = triangle
            ea -= dya << 8
            eb -= dyb << 8
            ec -= dyc << 8
            z += z_column_step
        edge_a += dxa << 8
        edge_b += dxb << 8
        edge_c += dxc << 8
        z_row += z_row_step


@njit(parallel=True, **JIT)
def fill_bands(clip, triangles, snapped, vertex_depth, band_rows, lists, counts, ids, z_buffer):
    """Z-buffer all bands; ids [H, W] and z_buffer [H, W] are overwritten. Equal depths go to the lower triangle."""
    n_chunks, n_bands = counts.shape
    height, width = ids.shape
    for band in prange(n_bands):
        row_start, row_stop = band * band_rows, min((band + 1) * band_rows, height)
        for row in range(row_start, row_stop):
            for column in range(width):
                ids[row, column] = -1
                z_buffer[row, column] = np.float32(1.0)
        p = np.empty((4, 2), np.int32)
        d = np.empty(4, np.float32)
        for chunk in range(n_chunks):
            for entry in range(counts[chunk, band]):
                t = lists[chunk, band, entry]
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                xa, xb, xc = np.int64(snapped[a, 0]), np.int64(snapped[b, 0]), np.int64(snapped[c, 0])
                if min(xa, min(xb, xc)) > BEHIND:
                    ya, yb, yc = np.int64(snapped[a, 1]), np.int64(snapped[b, 1]), np.int64(snapped[c, 1])
                    za, zb, zc = vertex_depth[a], vertex_depth[b], vertex_depth[c]
                    fill(xa, ya, za, xb, yb, zb, xc, yc, zc, t, row_start, row_stop, ids, z_buffer)
                    continue
                count = clip_to_near(clip, a, b, c, height, width, p, d)
                xa, ya = np.int64(p[0, 0]), np.int64(p[0, 1])
                for k in range(1, count - 1):
                    xb, yb = np.int64(p[k, 0]), np.int64(p[k, 1])
                    xc, yc = np.int64(p[k + 1, 0]), np.int64(p[k + 1, 1])
                    fill(xa, ya, d[0], xb, yb, d[k], xc, yc, d[k + 1], t, row_start, row_stop, ids, z_buffer)


@njit(parallel=True, **JIT)
def resolve(clip, triangles, ids, barycentric, depth):
    """Perspective-correct barycentrics [H, W, 2] and z/w [H, W] of the visible triangles."""
    height, width = ids.shape
    step_x, step_y = np.float32(2.0 / width), np.float32(2.0 / height)
    for row in prange(height):
        py = (np.float32(row) + np.float32(0.5)) * step_y - np.float32(1.0)
        for column in range(width):
            triangle = ids[row, column]
            if triangle < 0:
                barycentric[row, column, 0] = np.float32(0.0)
                barycentric[row, column, 1] = np.float32(0.0)
                depth[row, column] = np.float32(1.0)
                continue
            px = (np.float32(column) + np.float32(0.5)) * step_x - np.float32(1.0)
            a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
            ax, ay = clip[a, 0] - px * clip[a, 3], clip[a, 1] - py * clip[a, 3]
            bx, by = clip[b, 0] - px * clip[b, 3], clip[b, 1] - py * clip[b, 3]
            cx, cy = clip[c, 0] - px * clip[c, 3], clip[c, 1] - py * clip[c, 3]
            wa, wb, wc = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
            total = wa + wb + wc
            if total == np.float32(0.0):
                wa, wb, wc, total = np.float32(1.0), np.float32(1.0), np.float32(1.0), np.float32(3.0)
            inverse = np.float32(1.0) / total
            # Snapping can put the centre a little outside the exact triangle.
            wa, wb, wc = max(wa * inverse, 0.0), max(wb * inverse, 0.0), max(wc * inverse, 0.0)
            inverse = np.float32(1.0) / (wa + wb + wc)
            wa, wb, wc = wa * inverse, wb * inverse, wc * inverse
            barycentric[row, column, 0] = wa
            barycentric[row, column, 1] = wb
            z = wa * clip[a, 2] + wb * clip[b, 2] + wc * clip[c, 2]
            w = wa * clip[a, 3] + wb * clip[b, 3] + wc * clip[c, 3]
            depth[row, column] = z / w


@njit(parallel=True, **JIT)
def resolve_backward(clip, triangles, ids, grad_barycentric, partial, grad_clip):
    """Gradient of the barycentrics with respect to clip x, y, w at fixed visibility, added up into [V, 4].

    `partial` [T, V, 3] holds one zeroed accumulator per thread; rows are dealt out in turn so that the load balances.
    """
    height, width = ids.shape
    n_parts = partial.shape[0]
    step_x, step_y = np.float32(2.0 / width), np.float32(2.0 / height)
    for part in prange(n_parts):
        grad = partial[part]
        grad[:] = np.float32(0.0)
        for row in range(part, height, n_parts):
            py = (np.float32(row) + np.float32(0.5)) * step_y - np.float32(1.0)
            for column in range(width):
                triangle = ids[row, column]
                ga, gb = grad_barycentric[row, column, 0], grad_barycentric[row, column, 1]
                if triangle < 0 or (ga == 0.0 and gb == 0.0):
                    continue
                px = (np.float32(column) + np.float32(0.5)) * step_x - np.float32(1.0)
                a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
                ax, ay = clip[a, 0] - px * clip[a, 3], clip[a, 1] - py * clip[a, 3]
                bx, by = clip[b, 0] - px * clip[b, 3], clip[b, 1] - py * clip[b, 3]
                cx, cy = clip[c, 0] - px * clip[c, 3], clip[c, 1] - py * clip[c, 3]
                wa, wb, wc = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
                total = wa + wb + wc
                if total == np.float32(0.0):
                    continue
                inverse = np.float32(1.0) / total
                mean = (ga * wa + gb * wb) * inverse
                ga, gb, gc = (ga - mean) * inverse, (gb - mean) * inverse, -mean * inverse
                gx, gy = gc * by - gb * cy, gb * cx - gc * bx
                grad[a, 0] += gx
                grad[a, 1] += gy
                grad[a, 2] -= px * gx + py * gy
                gx, gy = ga * cy - gc * ay, gc * ax - ga * cx
                grad[b, 0] += gx
                grad[b, 1] += gy
                grad[b, 2] -= px * gx + py * gy
                gx, gy = gb * ay - ga * by, ga * bx - gb * ax
                grad[c, 0] += gx
                grad[c, 1] += gy
                grad[c, 2] -= px * gx + py * gy
    for vertex in prange(grad_clip.shape[0]):
        x, y, w = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for part in range(n_parts):
            x += partial[part, vertex, 0]
            y += partial[part, vertex, 1]
            w += partial[part, vertex, 2]
        grad_clip[vertex, 0] = x
        grad_clip[vertex, 1] = y
        grad_clip[vertex, 2] = np.float32(0.0)
        grad_clip[vertex, 3] = w
