"""Visibility of surface points on the CPU; the same as the torch reference, point by point instead of step by step."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT


@njit(parallel=True, **JIT)
def seen_points(points, normals, pose, intrinsics, zoom, depth, height, width, slack, weights, cam, pixels):
    """Fill weights [K], camera-frame points [K, 3] and pixels [K, 2]."""
    half, zero, one = np.float32(0.5), np.float32(0.0), np.float32(1.0)
    for point in prange(points.shape[0]):
        px, py, pz = points[point, 0], points[point, 1], points[point, 2]
        nx, ny, nz = normals[point, 0], normals[point, 1], normals[point, 2]
        x = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]
        y = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]
        z = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
        cam[point, 0], cam[point, 1], cam[point, 2] = x, y, z
        facing = (
            (pose[0, 0] * nx + pose[0, 1] * ny + pose[0, 2] * nz) * x
            + (pose[1, 0] * nx + pose[1, 1] * ny + pose[1, 2] * nz) * y
            + (pose[2, 0] * nx + pose[2, 1] * ny + pose[2, 2] * nz) * z
        )
        cosine = -facing / max(np.sqrt(x * x + y * y + z * z), np.float32(1e-6))
        across = intrinsics[2, 0] * x + intrinsics[2, 1] * y + intrinsics[2, 2] * z
        scale = one / max(across, np.float32(1e-6))
        u = (intrinsics[0, 0] * x + intrinsics[0, 1] * y + intrinsics[0, 2] * z) * scale
        v = (intrinsics[1, 0] * x + intrinsics[1, 1] * y + intrinsics[1, 2] * z) * scale
        pixels[point, 0], pixels[point, 1] = u, v
        weights[point] = zero
        if not (u > half and v > half and u < width - half and v < height - half and z > zero):
            continue
        column = int(np.floor(u * zoom[0, 0] + zoom[0, 2]))
        row = int(np.floor(v * zoom[0, 0] + zoom[1, 2]))
        if column < 1 or row < 1 or column >= depth.shape[1] - 1 or row >= depth.shape[0] - 1:
            continue
        nearest = depth[row, column]
        for down in range(-1, 2):
            for right in range(-1, 2):
                nearest = min(nearest, depth[row + down, column + right])
        if z > nearest + slack / max(cosine, np.float32(0.2)):
            continue
        share = min(max((cosine - np.float32(0.15)) / np.float32(0.85), zero), one)
        weights[point] = share * np.sqrt(share)
