"""Noise as functions of 3D position: gradient noise and cellular noise, from a hash of the lattice cell and a seed."""

from __future__ import annotations

import numpy as np
from numba import njit

JIT = {"cache": True, "error_model": "numpy", "nogil": True}
_SCALE = 1.0 / 4294967296.0


@njit(**JIT)
def _hash(x, y, z, seed):
    """32 well-mixed bits of a lattice cell (multiply-xorshift, after Jarzynski and Olano 2020)."""
    value = np.uint64(x * 73856093) ^ np.uint64(y * 19349663) ^ np.uint64(z * 83492791) ^ np.uint64(seed * 2654435761)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (value ^ (value >> np.uint64(33))) & np.uint64(0xFFFFFFFF)


@njit(**JIT)
def _corner(x, y, z, dx, dy, dz, seed):
    """Dot product of a cell corner's pseudo-random gradient with the offset from it."""
    bits = _hash(x, y, z, seed)
    gx = float(bits & np.uint64(1023)) / 511.5 - 1.0
    gy = float((bits >> np.uint64(10)) & np.uint64(1023)) / 511.5 - 1.0
    gz = float((bits >> np.uint64(20)) & np.uint64(1023)) / 511.5 - 1.0
    return gx * dx + gy * dy + gz * dz


@njit(**JIT)
def _fade(t):
    return t * t * t * (t * (t * 6.0 - 15.0) + 10.0)


@njit(**JIT)
def _gradient_noise(points, seed, out):
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        fx, fy, fz = x - ix, y - iy, z - iz
        u, v, w = _fade(fx), _fade(fy), _fade(fz)
        total = 0.0
        for k in range(2):
            for j in range(2):
                for i in range(2):
                    weight = (u if i else 1.0 - u) * (v if j else 1.0 - v) * (w if k else 1.0 - w)
                    total += weight * _corner(ix + i, iy + j, iz + k, fx - i, fy - j, fz - k, seed)
        out[n] = total


@njit(**JIT)
def _cells(points, seed, first, second, value):
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        best, next_best, chosen = 1e9, 1e9, np.uint64(0)
        for k in range(iz - 1, iz + 2):
            for j in range(iy - 1, iy + 2):
                for i in range(ix - 1, ix + 2):
                    bits = _hash(i, j, k, seed)
                    dx = i + 0.5 + 0.8 * (float(bits & np.uint64(1023)) / 1023.0 - 0.5) - x
                    dy = j + 0.5 + 0.8 * (float((bits >> np.uint64(10)) & np.uint64(1023)) / 1023.0 - 0.5) - y
                    dz = k + 0.5 + 0.8 * (float((bits >> np.uint64(20)) & np.uint64(1023)) / 1023.0 - 0.5) - z
                    squared = dx * dx + dy * dy + dz * dz
                    if squared < best:
                        next_best, best, chosen = best, squared, _hash(i, j, k, seed + 1)
                    elif squared < next_best:
                        next_best = squared
        first[n], second[n], value[n] = np.sqrt(best), np.sqrt(next_best), float(chosen) * _SCALE


def gradient_noise(points: np.ndarray, wavelength: float | np.ndarray, seed: int) -> np.ndarray:
    """Perlin's gradient noise (2002) [N] at points [N, 3] mm: mean 0, standard deviation about 0.2, one octave.

    Args:
        points: [N, 3] mm.
        wavelength: Size of a lattice cell, mm; three values stretch the noise along the axes.
        seed: Any integer; another seed, another noise.
    """
    out = np.empty(len(points))
    # The lattice is turned, so that its planes do not follow the face's own axes.
    scaled = np.asarray(points, np.float64) / wavelength
    turned = scaled if np.ndim(wavelength) else scaled @ _TURN.T
    _gradient_noise(np.ascontiguousarray(turned), int(seed) & 0x7FFFFFFF, out)
    return out


def cellular_noise(
    points: np.ndarray, spacing: float | np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Worley's cellular noise (1996): distances to the nearest and second nearest seed point, in spacings.

    Returns:
        First distance [N], second distance [N], and a value in [0, 1) [N] that belongs to the nearest seed point.
    """
    first, second, value = (np.empty(len(points)) for _ in range(3))
    scaled = np.asarray(points, np.float64) / spacing
    turned = scaled if np.ndim(spacing) else scaled @ _TURN.T
    _cells(np.ascontiguousarray(turned), int(seed) & 0x7FFFFFFF, first, second, value)
    return first, second, value


def fractal_noise(points: np.ndarray, wavelength: float, octaves: int, seed: int) -> np.ndarray:
    """Sum [N] of octaves of gradient noise, each half as strong and half as long; standard deviation about 0.25."""
    return sum(
        gradient_noise(points, wavelength / 2**octave, seed + 101 * octave) / 2**octave for octave in range(octaves)
    )


_TURN = np.linalg.qr(np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.1], [0.48, 0.64, 0.6]]))[0]
