"""Fine relief of skin: pores, the net of fine lines, wrinkled lids, grooved lips, moles. Functions of 3D position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.subjects.noise import cellular_noise, fractal_noise, gradient_noise
from fitter.model.surface_regions import distance_to_polyline

FOREHEAD, CHIN = np.array([0.0, 22.0, 0.0]), np.array([0.0, 14.0, 0.0])
"""Middle of the forehead from the mean of the brows, and of the chin from landmark 8, mm."""


@dataclass(frozen=True, eq=False)
class Relief:
    """Strengths and seeds of one person's skin."""

    pore_depth: float
    """mm at the nose and the cheeks' middle."""
    pore_spacing: float
    """mm."""
    line_depth: float
    """mm: the net of fine lines."""
    roughness: float
    """mm, standard deviation of the unevenness of 2 - 3 mm."""
    moles: np.ndarray
    """[M, 5]: centre (mm), radius (mm), height (mm; 0 is a flat one)."""
    landmarks: np.ndarray
    """[68, 3] mm, where things are."""
    seed: int

    def __call__(self, points: np.ndarray, lips: np.ndarray) -> np.ndarray:
        """Displacement [N] along the normal, mm, at points [N, 3]; `lips` [N] is the share of lip red."""
        skin = 1.0 - lips
        total = skin * (self._pores(points) + self._fine_lines(points) + self._unevenness(points))
        return total + lips * self._lip_grooves(points) + mole_heights(points, self.moles)

    def pore_strength(self, points: np.ndarray) -> np.ndarray:
        """[N] in [0, 1]: most on nose and cheeks, some on forehead and chin, little elsewhere."""
        marks = self.landmarks
        nose = np.exp(-((distance_to_polyline(points, marks[28:31]) / 15.0) ** 2))
        strength = 0.22 + 0.78 * nose
        for jaw, wing in ((2, 31), (14, 35)):
            cheek = 0.35 * marks[jaw] + 0.65 * marks[wing] + [0.0, 4.0, 0.0]
            strength = np.maximum(strength, 0.85 * np.exp(-((np.linalg.norm(points - cheek, axis=1) / 24.0) ** 2)))
        for place, size in ((marks[17:27].mean(0) + FOREHEAD, 22.0), (marks[8] + CHIN, 16.0)):
            strength = np.maximum(strength, 0.5 * np.exp(-((np.linalg.norm(points - place, axis=1) / size) ** 2)))
        uneven = 1.0 + 1.5 * gradient_noise(points, 14.0, self.seed + 5)
        return strength * uneven.clip(0.3, 1.7)

    def _pores(self, points: np.ndarray) -> np.ndarray:
        first, _, value = cellular_noise(points, self.pore_spacing, self.seed)
        radius = 0.20 + 0.16 * value
        depth = (0.25 + 1.2 * value**2) * np.exp(-((first / radius) ** 2))
        return -self.pore_depth * self.pore_strength(points) * depth

    def _fine_lines(self, points: np.ndarray) -> np.ndarray:
        """Grooves between the plateaus of skin: borders of cells, stretched sideways on forehead and below the eyes."""
        marks = self.landmarks
        total = np.zeros(len(points))
        below_eyes = np.minimum(
            distance_to_polyline(points, marks[[36, 41, 40, 39]] + [0.0, -6.0, 0.0]),
            distance_to_polyline(points, marks[[42, 47, 46, 45]] + [0.0, -6.0, 0.0]),
        )
        crinkled = np.exp(-((below_eyes / 10.0) ** 2))
        forehead = 1.0 / (1.0 + np.exp(-(points[:, 1] - marks[17:27, 1].mean() - 8.0) / 4.0))
        across = np.maximum(crinkled, 0.7 * forehead)
        for share, spacing, offset in (
            (1.0 - across, 1.35, 11),
            (across, np.array([2.6, 0.95, 2.0]), 12),
            (0.5 + 0.0 * across, 2.4, 13),
        ):
            first, second, _ = cellular_noise(points, spacing, self.seed + offset)
            total -= share * np.exp(-(((second - first) / 0.16) ** 2))
        strength = 0.45 + 0.9 * crinkled + 0.35 * forehead
        return self.line_depth * strength * (total + 0.3)

    def _unevenness(self, points: np.ndarray) -> np.ndarray:
        return self.roughness / 0.25 * fractal_noise(points, 2.8, 2, self.seed + 21)

    def _lip_grooves(self, points: np.ndarray) -> np.ndarray:
        """Grooves from the red's border towards the mouth: cells much longer in y and z than in x."""
        first, second, value = cellular_noise(points, np.array([1.5, 9.0, 9.0]), self.seed + 31)
        groove = np.exp(-(((second - first) / 0.22) ** 2)) * (0.4 + 0.6 * value)
        return -0.10 * groove + 0.08 * fractal_noise(points, 2.2, 2, self.seed + 32)


def mole_heights(points: np.ndarray, moles: np.ndarray) -> np.ndarray:
    """[N] mm: domes of moles [M, 5] at points [N, 3]."""
    total = np.zeros(len(points))
    for x, y, z, radius, height in moles:
        if height > 0:
            squared = ((points - [x, y, z]) ** 2).sum(1) / radius**2
            total += height * np.exp(-(squared**1.5))
    return total


def random_relief(landmarks: np.ndarray, surface: np.ndarray, age: float, random: np.random.Generator) -> Relief:
    """Draw one person's skin relief; moles sit on points of `surface` [N, 3] (mm)."""
    count = int(random.integers(2, 9))
    places = surface[random.choice(len(surface), count, replace=False)]
    radii = random.uniform(0.8, 2.2, count)
    heights = np.where(random.random(count) < 0.5, 0.0, radii * random.uniform(0.15, 0.4, count))
    return Relief(
        pore_depth=random.uniform(0.06, 0.12),
        pore_spacing=random.uniform(1.15, 1.6),
        line_depth=random.uniform(0.012, 0.022) + 0.018 * age,
        roughness=random.uniform(0.012, 0.022),
        moles=np.column_stack([places, radii, heights]),
        landmarks=landmarks,
        seed=int(random.integers(2**30)),
    )
