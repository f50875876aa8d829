"""Furrows: forehead lines, frown lines, crow's feet, nasolabial folds, lines below eyes and mouth; and scars.

A furrow is a groove along a curve on the surface, tapered at its ends, with skin heaped up beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.subjects.curves import SurfaceCurve, SurfaceDrawer, along_and_across
from benchmarks.subjects.noise import gradient_noise


@dataclass(frozen=True, eq=False)
class Furrow:
    """A groove; a negative depth is a ridge."""

    name: str
    curve: SurfaceCurve
    depth: float
    """mm at its deepest."""
    width: float
    """mm from edge to edge; the groove's profile is a Gaussian of a quarter of this."""
    heap: tuple[float, float]
    """Height of the skin heaped up on either side, as shares of the depth (positive side, negative side)."""
    seed: int

    def displacement(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers [K] of the points that the furrow moves, and by how much [K], mm (negative is inwards)."""
        sigma = self.width / 4.0
        chosen, along, across = along_and_across(self.curve, points, reach=2.2 * self.width)
        taper = np.sin(np.pi * along.clip(0.0, 1.0)) ** 0.8
        uneven = 1.0 + 1.2 * gradient_noise(points[chosen], 7.0, self.seed)
        # Sharper than a Gaussian at the bottom, as skin folds are.
        groove = 0.6 * np.exp(-0.5 * (across / sigma) ** 2) + 0.4 * np.exp(-np.abs(across) / (0.8 * sigma))
        heap = np.where(across > 0, self.heap[0], self.heap[1])
        heaped = heap * np.exp(-0.5 * ((np.abs(across) - 3.0 * sigma) / (1.6 * sigma)) ** 2)
        return chosen, self.depth * taper * uneven.clip(0.2, 1.6) * (heaped - groove)


def by(x: float, y: float, z: float) -> np.ndarray:
    """An offset [3], mm: to the subject's left, up, out of the face."""
    return np.array([x, y, z])


def random_furrows(
    landmarks: np.ndarray, drawer: SurfaceDrawer, age: float, random: np.random.Generator
) -> list[Furrow]:
    """Draw the furrows of a face.

    Args:
        landmarks: [68, 3] mm on the surface.
        drawer: Of that surface.
        age: In [0, 1]; deeper and more with age.
        random: Source.
    """
    furrows: list[Furrow] = []

    def add(name, stations, depth, width, heap=(0.25, 0.25), wobble=0.4, from_front=False):
        curve = drawer.draw(np.asarray(stations, np.float64), random, wobble, from_front)
        strength = (0.35 + 0.65 * age) * random.uniform(0.7, 1.3)
        depth = float(np.clip(depth * strength, 0.06, 1.0))
        furrows.append(Furrow(name, curve, depth, width * random.uniform(0.8, 1.2), heap, int(random.integers(2**31))))

    _forehead(landmarks, add, age, random)
    for side, (outer, ala, corner, brow, lid) in {
        -1.0: (36, 31, 48, 21, (39, 40, 41, 36)),
        1.0: (45, 35, 54, 22, (42, 47, 46, 45)),
    }.items():
        _crows_feet(landmarks[outer], side, add, age, random)
        # Nasolabial fold: from above the wing of the nose, around the corner of the mouth; the cheek hangs over it.
        top, mouth = landmarks[ala] + by(side * 6.5, 5.0, -3.0), landmarks[corner]
        reach = random.uniform(-2.0, 6.0) - 9.0 * age
        fold = [top, 0.5 * (top + mouth) + by(side * 7.0, 2.0, 0.0), mouth + by(side * 8.5, 3.0, -2.0)]
        fold.append(mouth + by(side * 8.5, reach - 4.0, -4.0))
        cheek_over = (0.6, 0.15) if side < 0 else (0.15, 0.6)
        add("nasolabial", fold, 0.85, 4.2, cheek_over, 0.5)
        if random.random() < 0.25 + 0.7 * age:
            start = mouth + by(side * 3.0, -3.0, -2.0)
            add(
                "marionette", [start, start + by(side * 1.5, -9.0, -2.0), start + by(side * 0.5, -19.0, -3.0)], 0.5, 3.0
            )
        if random.random() < 0.3 + 0.6 * age:
            base = landmarks[brow] + by(-side * random.uniform(5.0, 9.0), random.uniform(-7.0, -3.0), 0.0)
            top = base + by(side * random.uniform(0.0, 4.0), random.uniform(10.0, 19.0), 0.0)
            bent = 0.5 * (base + top) + by(side * random.uniform(-2.0, 1.0), 0.0, 0.0)
            add("frown", [base, bent, top], random.uniform(0.25, 0.6), 2.4, from_front=True)
        inner_to_outer = landmarks[list(lid)]
        for fall, depth in ((6.0, 0.3), (9.5, 0.45), (3.8, 0.2)):
            if random.random() < 0.45 + 0.4 * age:
                below = inner_to_outer + by(0.0, -fall, 0.0) + random.normal(0.0, 0.5, (4, 3))
                add("below eye", below[: random.integers(3, 5)], depth, 1.8, from_front=True)
    if random.random() < 0.3 + 0.5 * age:
        chin = landmarks[57] + by(0.0, -9.0, -3.0)
        across = [[-13.0, -3.0, -3.0], [-5.0, 0.8, 0.0], [6.0, 0.3, 0.0], [14.0, -3.5, -3.0]]
        add("chin", chin + np.array(across), 0.5, 3.5, from_front=True)
    if random.random() < 0.35:
        _scar(landmarks, furrows, drawer, random)
    return furrows


def _forehead(landmarks: np.ndarray, add, age: float, random: np.random.Generator) -> None:
    """Three to six wavy lines, each broken into pieces that begin and end where they like."""
    brow = landmarks[17:27].mean(0)
    dip = random.uniform(-3.0, 5.0)
    for height in np.arange(15.0, 42.0, random.uniform(6.0, 9.5)):
        x = np.linspace(-44.0, 44.0, 12) + random.uniform(-6.0, 6.0)
        y = brow[1] + height + random.uniform(-1.5, 1.5) - dip * np.exp(-((x / 15.0) ** 2)) - 0.0022 * x**2
        y = y + 0.45 * random.normal(size=12)
        stations = np.stack([x, y, np.zeros(12)], 1)
        cuts = [0, 12] if random.random() < 0.4 else [0, int(random.integers(4, 9)), 12]
        for start, end in pairwise(cuts):
            first, last = start + int(random.integers(0, 2)), end - int(random.integers(0, 2))
            if last - first >= 3 and random.random() < 0.55 + 0.45 * age:
                add(
                    "forehead",
                    stations[first:last],
                    random.uniform(0.25, 0.6),
                    random.uniform(1.6, 3.2),
                    from_front=True,
                )


def _crows_feet(corner: np.ndarray, side: float, add, age: float, random: np.random.Generator) -> None:
    """Lines that fan out from the outer corner of the eye."""
    for angle in np.deg2rad(np.linspace(32.0, -42.0, int(random.integers(3, 6))) + random.normal(0.0, 4.0)):
        if random.random() > 0.35 + 0.6 * age:
            continue
        start, length = random.uniform(5.0, 8.0), random.uniform(9.0, 18.0)
        steps = start + length * np.linspace(0.0, 1.0, 4)
        angles = angle + np.linspace(0.0, -0.25, 4)
        offset = np.stack(
            [side * steps * np.cos(angles) * 0.8, steps * np.sin(angles), -0.6 * steps * np.cos(angles)], 1
        )
        add("crow's foot", corner + offset, random.uniform(0.2, 0.5), random.uniform(1.1, 2.0), (0.2, 0.2), 0.3)


def _scar(landmarks: np.ndarray, furrows: list[Furrow], drawer: SurfaceDrawer, random: np.random.Generator) -> None:
    """A short groove or ridge on a cheek or beside the chin."""
    middle = landmarks[random.choice([2, 4, 6, 10, 12, 14])] * 0.6 + landmarks[30] * 0.4
    direction = random.normal(size=3) * [1.0, 1.0, 0.3]
    half = direction / np.linalg.norm(direction) * random.uniform(5.0, 11.0)
    curve = drawer.draw(np.stack([middle - half, middle, middle + half]), random, 0.3)
    depth = random.uniform(0.2, 0.45) * random.choice([1.0, -0.7])
    furrows.append(Furrow("scar", curve, depth, random.uniform(1.4, 2.4), (0.1, 0.1), int(random.integers(2**31))))
