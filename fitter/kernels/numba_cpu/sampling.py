"""Attribute interpolation and texture sampling on the CPU, forward and backward."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT

BLOCK_BITS = 3  # texture rows are dealt out to threads in blocks of 8


@njit(parallel=True, **JIT)
def interpolate(attributes, triangles, ids, barycentric, out):
    """Attributes [V, C] at the pixels: out [H, W, C], zero in the background."""
    height, width = ids.shape
    n_channels = attributes.shape[1]
    for row in prange(height):
        for column in range(width):
            triangle = ids[row, column]
            if triangle < 0:
                for k in range(n_channels):
                    out[row, column, k] = np.float32(0.0)
                continue
            a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
            wa, wb = barycentric[row, column, 0], barycentric[row, column, 1]
            wc = np.float32(1.0) - wa - wb
            for k in range(n_channels):
                out[row, column, k] = wa * attributes[a, k] + wb * attributes[b, k] + wc * attributes[c, k]


@njit(parallel=True, **JIT)
def interpolate_backward_barycentric(attributes, triangles, ids, grad_out, grad_barycentric):
    """Gradient to the barycentrics only: for attributes that are constants."""
    height, width = ids.shape
    n_channels = attributes.shape[1]
    for row in prange(height):
        for column in range(width):
            triangle = ids[row, column]
            ga, gb = np.float32(0.0), np.float32(0.0)
            if triangle >= 0:
                a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
                for k in range(n_channels):
                    g = grad_out[row, column, k]
                    ga += g * (attributes[a, k] - attributes[c, k])
                    gb += g * (attributes[b, k] - attributes[c, k])
            grad_barycentric[row, column, 0] = ga
            grad_barycentric[row, column, 1] = gb


@njit(parallel=True, **JIT)
def interpolate_backward(attributes, triangles, ids, barycentric, grad_out, partial, grad_attributes, grad_barycentric):
    """Gradients to attributes (added into [V, C]) and barycentrics; `partial` [T, V, C] is per-thread scratch."""
    height, width = ids.shape
    n_channels = attributes.shape[1]
    n_parts = partial.shape[0]
    for part in prange(n_parts):
        grad = partial[part]
        grad[:] = np.float32(0.0)
        for row in range(part, height, n_parts):
            for column in range(width):
                triangle = ids[row, column]
                ga, gb = np.float32(0.0), np.float32(0.0)
                if triangle >= 0:
                    a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
                    wa, wb = barycentric[row, column, 0], barycentric[row, column, 1]
                    wc = np.float32(1.0) - wa - wb
                    for k in range(n_channels):
                        g = grad_out[row, column, k]
                        ga += g * (attributes[a, k] - attributes[c, k])
                        gb += g * (attributes[b, k] - attributes[c, k])
                        grad[a, k] += wa * g
                        grad[b, k] += wb * g
                        grad[c, k] += wc * g
                grad_barycentric[row, column, 0] = ga
                grad_barycentric[row, column, 1] = gb
    for vertex in prange(grad_attributes.shape[0]):
        for part in range(n_parts):
            for k in range(n_channels):
                grad_attributes[vertex, k] += partial[part, vertex, k]


@njit(**JIT, inline="always")
def tap(coordinate, extent):
    """Lower texel, upper texel and fraction for a coordinate in [0, 1], clamped at the border; and 1 if not clamped."""
    position = coordinate * np.float32(extent) - np.float32(0.5)
    free = np.float32(1.0)
    if not position > np.float32(0.0):
        position, free = np.float32(0.0), np.float32(0.0)
    elif position >= np.float32(extent - 1):
        position, free = np.float32(extent - 1), np.float32(0.0)
    low = np.int32(position)
    return low, min(low + 1, extent - 1), position - np.float32(low), free


@njit(**JIT, inline="always")
def level_range(levels, row, column, n_levels):
    """Mip level below, level above and fraction; a missing level map means level 0."""
    if levels.shape[0] == 0:
        return 0, 0, np.float32(0.0)
    level = min(max(levels[row, column], np.float32(0.0)), np.float32(n_levels - 1))
    low = np.int32(level)
    return low, min(low + 1, n_levels - 1), level - np.float32(low)


@njit(parallel=True, **JIT)
def sample_bilinear(texture, rows, columns, uv, ids, out):
    """Samples of a texture [rows * columns, C] without mip levels; arguments otherwise as in `sample`."""
    height, width = uv.shape[:2]
    n_channels = texture.shape[1]
    masked = ids.shape[0] > 0
    one = np.float32(1.0)
    for row in prange(height):
        for column in range(width):
            if masked and ids[row, column] < 0:
                for k in range(n_channels):
                    out[row, column, k] = np.float32(0.0)
                continue
            x0, x1, fx, _ = tap(uv[row, column, 0], columns)
            y0, y1, fy, _ = tap(uv[row, column, 1], rows)
            i00, i01, i10, i11 = y0 * columns + x0, y0 * columns + x1, y1 * columns + x0, y1 * columns + x1
            w00, w01, w10, w11 = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
            for k in range(n_channels):
                out[row, column, k] = (
                    w00 * texture[i00, k] + w01 * texture[i01, k] + w10 * texture[i10, k] + w11 * texture[i11, k]
                )


@njit(parallel=True, **JIT)
def sample(pyramid, shapes, uv, levels, ids, out):
    """Trilinear samples of a flattened mip pyramid.

    Args:
        pyramid: [texels, C] all levels one after the other, row 0 at v = 0.
        shapes: [L, 3] int32 offset, height and width of every level.
        uv: [H, W, 2] in [0, 1].
        levels: [H, W] fractional level, or [0, 0] for level 0 everywhere.
        ids: [H, W] int32, pixels with -1 get zero; or [0, 0] to sample everywhere.
        out: [H, W, C], overwritten.
    """
    height, width = uv.shape[:2]
    n_channels = pyramid.shape[1]
    masked = ids.shape[0] > 0
    for row in prange(height):
        for column in range(width):
            for k in range(n_channels):
                out[row, column, k] = np.float32(0.0)
            if masked and ids[row, column] < 0:
                continue
            low, high, blend = level_range(levels, row, column, shapes.shape[0])
            for side in range(2):
                weight = blend if side else np.float32(1.0) - blend
                if weight == np.float32(0.0):
                    continue
                offset, rows, columns = shapes[high if side else low]
                x0, x1, fx, _ = tap(uv[row, column, 0], columns)
                y0, y1, fy, _ = tap(uv[row, column, 1], rows)
                i00, i01 = offset + y0 * columns + x0, offset + y0 * columns + x1
                i10, i11 = offset + y1 * columns + x0, offset + y1 * columns + x1
                for k in range(n_channels):
                    bottom = pyramid[i00, k] + fx * (pyramid[i01, k] - pyramid[i00, k])
                    top = pyramid[i10, k] + fx * (pyramid[i11, k] - pyramid[i10, k])
                    out[row, column, k] += weight * (bottom + fy * (top - bottom))


@njit(**JIT)
def sample_backward_pixel(pyramid, shape, u, v, weight, grad_pixel, grad_pyramid, want_texture):
    """Scatter one pixel's gradient into the texels of one level; returns the gradient to u and v."""
    offset, rows, columns = shape
    x0, x1, fx, free_x = tap(u, columns)
    y0, y1, fy, free_y = tap(v, rows)
    i00, i01 = offset + y0 * columns + x0, offset + y0 * columns + x1
    i10, i11 = offset + y1 * columns + x0, offset + y1 * columns + x1
    gu, gv = np.float32(0.0), np.float32(0.0)
    one = np.float32(1.0)
    for k in range(pyramid.shape[1]):
        g = weight * grad_pixel[k]
        t00, t01, t10, t11 = pyramid[i00, k], pyramid[i01, k], pyramid[i10, k], pyramid[i11, k]
        gu += g * ((one - fy) * (t01 - t00) + fy * (t11 - t10))
        gv += g * ((one - fx) * (t10 - t00) + fx * (t11 - t01))
        if want_texture:
            grad_pyramid[i00, k] += g * (one - fx) * (one - fy)
            grad_pyramid[i01, k] += g * fx * (one - fy)
            grad_pyramid[i10, k] += g * (one - fx) * fy
            grad_pyramid[i11, k] += g * fx * fy
    return gu * np.float32(columns) * free_x, gv * np.float32(rows) * free_y


@njit(parallel=True, **JIT)
def sample_backward(pyramid, shapes, uv, levels, ids, grad_out, grad_pyramid, partial, grad_uv, want_texture):
    """Gradients to the pyramid (added) and to uv (overwritten).

    Args:
        grad_pyramid: [texels, C]; the first thread adds into it directly.
        partial: [T - 1, texels, C] scratch of the other threads, overwritten.
        want_texture: False leaves both untouched.
    """
    height, width = uv.shape[:2]
    n_channels = pyramid.shape[1]
    n_parts = partial.shape[0] + 1
    masked = ids.shape[0] > 0
    for part in prange(n_parts):
        grad = grad_pyramid
        if part > 0:
            grad = partial[part - 1]
            if want_texture:
                grad[:] = np.float32(0.0)
        for row in range(part, height, n_parts):
            for column in range(width):
                gu, gv = np.float32(0.0), np.float32(0.0)
                if not masked or ids[row, column] >= 0:
                    u, v = uv[row, column, 0], uv[row, column, 1]
                    low, high, blend = level_range(levels, row, column, shapes.shape[0])
                    g = grad_out[row, column]
                    one = np.float32(1.0)
                    gu, gv = sample_backward_pixel(pyramid, shapes[low], u, v, one - blend, g, grad, want_texture)
                    if blend > np.float32(0.0):
                        du, dv = sample_backward_pixel(pyramid, shapes[high], u, v, blend, g, grad, want_texture)
                        gu += du
                        gv += dv
                grad_uv[row, column, 0] = gu
                grad_uv[row, column, 1] = gv
    if want_texture:
        for texel in prange(grad_pyramid.shape[0]):
            for part in range(n_parts - 1):
                for k in range(n_channels):
                    grad_pyramid[texel, k] += partial[part, texel, k]


@njit(parallel=True, **JIT)
def sample_backward_blocks(texture, rows, columns, uv, ids, grad_out, grad_texture, overflow, grad_uv, n_parts):
    """Gradients to a texture without mip levels and to uv; every block of texture rows belongs to one thread.

    Each thread looks at all pixels and takes those whose lower texel row is its own: no accumulators as large as the
    texture, which would cost more to clear and to add up than the gradient itself.

    Args:
        texture: [rows * columns, C].
        grad_texture: [rows * columns, C] zeros, added to.
        overflow: [blocks, columns, C] scratch, overwritten: what a block adds to the first row of the next one.
        grad_uv: [H, W, 2], overwritten.
        n_parts: Number of threads.
    """
    height, width = uv.shape[:2]
    n_channels = texture.shape[1]
    masked = ids.shape[0] > 0
    one = np.float32(1.0)
    for part in prange(n_parts):
        for block in range(part, overflow.shape[0], n_parts):
            overflow[block] = np.float32(0.0)
        for row in range(height):
            for column in range(width):
                if masked and ids[row, column] < 0:
                    if part == 0:
                        grad_uv[row, column, 0] = np.float32(0.0)
                        grad_uv[row, column, 1] = np.float32(0.0)
                    continue
                y0, y1, fy, free_y = tap(uv[row, column, 1], rows)
                block = y0 >> BLOCK_BITS
                if block % n_parts != part:
                    continue
                x0, x1, fx, free_x = tap(uv[row, column, 0], columns)
                inside = (y1 >> BLOCK_BITS) == block
                below, above = y0 * columns, y1 * columns
                gu, gv = np.float32(0.0), np.float32(0.0)
                for k in range(n_channels):
                    g = grad_out[row, column, k]
                    t00, t01 = texture[below + x0, k], texture[below + x1, k]
                    t10, t11 = texture[above + x0, k], texture[above + x1, k]
                    gu += g * ((one - fy) * (t01 - t00) + fy * (t11 - t10))
                    gv += g * ((one - fx) * (t10 - t00) + fx * (t11 - t01))
                    bottom, top = g * (one - fy), g * fy
                    grad_texture[below + x0, k] += bottom * (one - fx)
                    grad_texture[below + x1, k] += bottom * fx
                    if inside:
                        grad_texture[above + x0, k] += top * (one - fx)
                        grad_texture[above + x1, k] += top * fx
                    else:
                        overflow[block, x0, k] += top * (one - fx)
                        overflow[block, x1, k] += top * fx
                grad_uv[row, column, 0] = gu * np.float32(columns) * free_x
                grad_uv[row, column, 1] = gv * np.float32(rows) * free_y
    for block in prange(overflow.shape[0] - 1):
        first = ((block + 1) << BLOCK_BITS) * columns
        for column in range(columns):
            for k in range(n_channels):
                grad_texture[first + column, k] += overflow[block, column, k]
