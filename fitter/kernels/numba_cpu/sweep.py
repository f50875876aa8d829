"""Views compared at many depths on the CPU: sampled along lines, taken from their mean, summed up robustly."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT


@njit(parallel=True, **JIT)
def look_along(image, start, along, depths, values):
    """Bilinear values [C, D, K] of an image [C, H, W] where each of K homogeneous pixels is at each depth."""
    n_channels, height, width = image.shape
    half, zero, least = np.float32(0.5), np.float32(0.0), np.float32(1e-6)
    last_column, last_row = np.float32(width - 1), np.float32(height - 1)
    for point in prange(start.shape[0]):
        for index in range(depths.shape[0]):
            depth = depths[index]
            divisor = max(start[point, 2] + depth * along[point, 2], least)
            x = (start[point, 0] + depth * along[point, 0]) / divisor - half
            y = (start[point, 1] + depth * along[point, 1]) / divisor - half
            x, y = min(max(x, zero), last_column), min(max(y, zero), last_row)
            column, row = int(x), int(y)
            right, down = min(column + 1, width - 1), min(row + 1, height - 1)
            x, y = x - np.float32(column), y - np.float32(row)
            for channel in range(n_channels):
                top = image[channel, row, column] + x * (image[channel, row, right] - image[channel, row, column])
                low = image[channel, down, column] + x * (image[channel, down, right] - image[channel, down, column])
                values[channel, index, point] = top + y * (low - top)


@njit(parallel=True, **JIT)
def take_mean_out(values, weight, scale):
    """Scale each view's values [C, D, N, K], in place, and take the views' mean under weights [N, K] out of them."""
    n_channels, n_depths, n_views, n_points = values.shape
    block = 512
    for part in prange((n_points + block - 1) // block):
        begin, end = part * block, min((part + 1) * block, n_points)
        for channel in range(n_channels):
            for depth in range(n_depths):
                for point in range(begin, end):
                    total, above = np.float32(0.0), np.float32(0.0)
                    for view in range(n_views):
                        value = values[channel, depth, view, point] * scale[view]
                        values[channel, depth, view, point] = value
                        above += value * weight[view, point]
                        total += weight[view, point]
                    mean = above / max(total, np.float32(1e-6))
                    for view in range(n_views):
                        values[channel, depth, view, point] -= mean


@njit(parallel=True, **JIT)
def sum_in_squares(difference, weight, square, sums):
    """Weighted differences [P, N, K] summed up in the squares [K] that the points lie in: [P, N, squares]."""
    n_stacked, n_views, n_points = difference.shape
    for index in prange(n_stacked * n_views):
        stacked, view = index // n_views, index % n_views
        sums[stacked, view] = np.float32(0.0)
        for point in range(n_points):
            sums[stacked, view, square[point]] += difference[stacked, view, point] * weight[view, point]


@njit(parallel=True, **JIT)
def sum_robustly(difference, broad, weight, texel, side, factor, sigma, robust, energy):
    """Add up over channels and views: Geman-McClure energies [D, K] of differences [C, D, N, K] less their broad part.

    `broad` [C, D, N, side / f, same] is interpolated bilinearly.
    """
    n_channels, n_depths, n_views, n_points = difference.shape
    coarse = broad.shape[-1]
    half, zero, one = np.float32(0.5), np.float32(0.0), np.float32(1.0)
    squared = robust * robust
    for point in prange(n_points):
        row, column = texel[point] // side, texel[point] % side
        y = max((np.float32(row) + half) / np.float32(factor) - half, zero)
        x = max((np.float32(column) + half) / np.float32(factor) - half, zero)
        row, column = int(y), int(x)
        down, right = min(row + 1, coarse - 1), min(column + 1, coarse - 1)
        y, x = y - np.float32(row), x - np.float32(column)
        for depth in range(n_depths):
            total = zero
            for channel in range(n_channels):
                for view in range(n_views):
                    counts = weight[view, point]
                    if counts == zero:
                        continue
                    grid = broad[channel, depth, view]
                    top = grid[row, column] + x * (grid[row, right] - grid[row, column])
                    low = grid[down, column] + x * (grid[down, right] - grid[down, column])
                    residual = (difference[channel, depth, view, point] - (top + y * (low - top))) / sigma
                    ratio = residual * residual / squared
                    total += counts * squared * ratio / (one + ratio)
            energy[depth, point] = total


@njit(parallel=True, **JIT)
def find_least(cost, doubted, sure, beside, offset, curvature):
    """Offset and curvature [S, S] of the least of costs [D, S, S]; see `fitter.energies.depth_cost.estimate_depth`."""
    n_depths, rows, columns = cost.shape
    zero, one, half, two = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(2.0)
    tiny = np.float32(1e-9)
    for row in prange(rows):
        for column in range(columns):
            best = 0
            for depth in range(1, n_depths):
                if cost[depth, row, column] < cost[best, row, column]:
                    best = depth
            centre = min(max(best, 1), n_depths - 2)
            low, mid, high = (
                cost[centre - 1, row, column],
                cost[centre, row, column],
                cost[centre + 1, row, column],
            )
            elsewhere = np.float32(np.inf)
            for depth in range(n_depths):
                if abs(depth - best) > beside:
                    elsewhere = min(elsewhere, cost[depth, row, column])
            bend = low + high - two * mid
            shift = min(max(half * (low - high) / max(bend, tiny), -one), one)
            offset[row, column] = np.float32(centre - n_depths // 2) + shift
            curvature[row, column] = zero
            if best == centre:
                lead = one - mid / max(elsewhere, tiny)
                certain = min(max((lead - doubted) / (sure - doubted), zero), one)
                curvature[row, column] = half * max(bend, zero) * certain
