"""Smooth deformation of space, as functions of 3D position: what makes a face that the model cannot span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.subjects.noise import gradient_noise

STEEPEST = 0.16
"""Largest amplitude of one bump over its width: an RBF's steepest slope is 0.86 of this."""


@dataclass(frozen=True, eq=False)
class DeformationField:
    """A sum of Gaussian bumps of displacement, and a gentle fractal warp."""

    centres: np.ndarray
    """[K, 3] mm."""
    widths: np.ndarray
    """[K] mm, the Gaussian's standard deviation."""
    amplitudes: np.ndarray
    """[K, 3] mm."""
    warp_mm: float
    """Standard deviation of the warp, mm."""
    warp_seed: int

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Displacement [N, 3] mm at points [N, 3]."""
        total = np.zeros(points.shape)
        own = (points**2).sum(1)
        for centre, width, amplitude in zip(self.centres, self.widths, self.amplitudes, strict=True):
            squared = (own - 2.0 * (points @ centre) + centre @ centre) / (2.0 * width**2)
            near = squared < 12.0
            total[near] += np.exp(-squared[near])[:, None] * amplitude
        for axis in range(3):
            total[:, axis] += self.warp_mm / 0.2 * gradient_noise(points, 26.0, self.warp_seed + axis)
        return total


def _random_bumps(landmarks: np.ndarray, surface: np.ndarray, normals: np.ndarray, random: np.random.Generator):
    """Bumps anywhere on the face, more along its normal than across it."""
    near = np.linalg.norm(surface - landmarks[30], axis=1) < 95.0
    chosen = random.choice(np.flatnonzero(near), random.integers(30, 42), replace=False)
    for vertex in chosen:
        width = 10.0 + 25.0 * random.beta(1.0, 2.0)
        across = random.normal(size=3) * 0.5
        direction = normals[vertex] * random.choice([-1.0, 1.0]) + across
        amplitude = min(1.0 + 3.0 * random.beta(1.0, 2.5), STEEPEST * width)
        yield surface[vertex], width, direction / np.linalg.norm(direction) * amplitude


def _asymmetries(landmarks: np.ndarray, random: np.random.Generator):
    """What real faces have on one side only: a bent nose, a brow that is higher, a fuller cheek, a shifted chin."""
    side = random.choice([-1.0, 1.0])
    bend = random.uniform(0.8, 2.2) * random.choice([-1.0, 1.0])
    yield landmarks[28] + [0.0, 0.0, -3.0], 12.0, np.array([bend, 0.0, 0.3 * abs(bend)])
    yield landmarks[30], 14.0, np.array([-0.6 * bend, random.uniform(-1.0, 1.0), random.uniform(-1.2, 1.2)])
    brow = landmarks[24 if side > 0 else 19]
    yield brow, 16.0, np.array([0.0, random.uniform(1.0, 2.4), random.uniform(0.0, 0.8)])
    cheek = 0.5 * (landmarks[14 if side > 0 else 2] + landmarks[35 if side > 0 else 31])
    yield cheek, random.uniform(16.0, 22.0), np.array([side, -0.2, 0.8]) * random.uniform(0.8, 2.0)
    yield (
        landmarks[8],
        26.0,
        np.array([random.uniform(-2.5, 2.5), random.uniform(-1.5, 1.5), random.uniform(-2.0, 2.0)]),
    )
    corner = landmarks[54 if side > 0 else 48]
    yield corner, 11.0, np.array([0.0, random.uniform(-1.3, 1.3), 0.0])
    # A hump or a saddle of the nose's bridge.
    yield landmarks[28], 10.0, np.array([0.0, 0.0, random.uniform(-1.3, 1.5)])


def random_field(
    landmarks: np.ndarray, surface: np.ndarray, normals: np.ndarray, random: np.random.Generator
) -> DeformationField:
    """Draw a field for a face.

    Args:
        landmarks: [68, 3] mm.
        surface: [N, 3] mm, points of the face to choose centres from.
        normals: [N, 3] unit.
        random: Source.
    """
    bumps = [*_random_bumps(landmarks, surface, normals, random), *_asymmetries(landmarks, random)]
    centres, widths, amplitudes = (np.array(column) for column in zip(*bumps, strict=True))
    return DeformationField(
        centres, widths, amplitudes, warp_mm=random.uniform(0.25, 0.45), warp_seed=int(random.integers(2**31))
    )


def lipschitz_bound(field: DeformationField, points: np.ndarray, step: float = 0.5) -> float:
    """Largest spectral norm of the field's gradient over points [N, 3], by central differences.

    Below 1, position plus displacement is injective: the deformation can neither fold the surface nor make parts meet.
    """
    columns = [(field(points + offset) - field(points - offset)) / (2.0 * step) for offset in np.eye(3) * step]
    return float(np.linalg.norm(np.stack(columns, -1), 2, axis=(1, 2)).max())


def tamed(field: DeformationField, points: np.ndarray, limit: float = 0.6) -> DeformationField:
    """The field, weakened as a whole if its gradient is above `limit` somewhere."""
    factor = min(1.0, limit / lipschitz_bound(field, points))
    return DeformationField(
        field.centres, field.widths, field.amplitudes * factor, field.warp_mm * factor, field.warp_seed
    )
