"""Separable convolution on the CPU, both ways in one pass over the grid."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT

BLOCK = 16
"""Rows that a thread takes at a time."""


@njit(parallel=True, **JIT)
def convolve(grids, taps, out):
    """Convolve grids [B, H, W] with `taps` [2 r + 1] along both axes; beyond the borders is 0."""
    count, height, width = grids.shape
    radius = taps.shape[0] // 2
    blocks = (height + BLOCK - 1) // BLOCK
    for part in prange(count * blocks):
        index, begin = part // blocks, part % blocks * BLOCK
        line = np.zeros(width + 2 * radius, np.float32)
        inner = line[radius : radius + width]
        for row in range(begin, min(begin + BLOCK, height)):
            inner[:] = np.float32(0.0)
            for tap in range(max(0, radius - row), min(2 * radius + 1, height + radius - row)):
                weight, source = taps[tap], grids[index, row + tap - radius]
                for column in range(width):
                    inner[column] += weight * source[column]
            target = out[index, row]
            target[:] = np.float32(0.0)
            for tap in range(2 * radius + 1):
                weight = taps[tap]
                for column in range(width):
                    target[column] += weight * line[column + tap]
