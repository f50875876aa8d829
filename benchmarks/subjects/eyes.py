"""Eyeballs: spheres with an iris, a pupil and a sclera that is not white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.subjects.noise import fractal_noise
from benchmarks.subjects.subject import Subject

IRIS_RADIUS, PUPIL_RADIUS = 5.9, 2.0
"""mm on the eyeball's surface."""
IRIS_COLOURS = np.array([[0.035, 0.018, 0.010], [0.085, 0.045, 0.020], [0.10, 0.105, 0.055], [0.075, 0.105, 0.125]])
"""Dark brown, brown, hazel, blue."""
SCLERA = np.array([0.46, 0.41, 0.385])


@dataclass(frozen=True, eq=False)
class Eyeball:
    """One eyeball in the rest shape."""

    centre: np.ndarray
    """[3] mm."""
    radius: float
    iris: np.ndarray
    """[3] linear RGB."""
    seed: int


def fit_eyeballs(subject: Subject, random: np.random.Generator, light: float) -> tuple[Eyeball, ...]:
    """Spheres through the eyeballs' vertices; light eyes are for light skins (`light` in [0, 1])."""
    points = subject.rest[subject.mask("eyes")]
    choice = min(int(random.integers(0, 4)), 1 + int(3 * light))
    iris = IRIS_COLOURS[choice] * random.uniform(0.8, 1.2)
    eyeballs = []
    for side in (-1.0, 1.0):
        ball = points[points[:, 0] * side > 0]
        # |p|^2 = 2 c.p + (r^2 - |c|^2): linear in the centre.
        system = np.column_stack([2.0 * ball, np.ones(len(ball))])
        solution = np.linalg.lstsq(system, (ball**2).sum(1), rcond=None)[0]
        centre = solution[:3]
        radius = float(np.sqrt(solution[3] + centre @ centre))
        eyeballs.append(Eyeball(centre, radius, iris, int(random.integers(2**30))))
    return tuple(eyeballs)


def eye_colour(eyes: tuple[Eyeball, ...], points: np.ndarray) -> np.ndarray:
    """Linear RGB [N, 3] at points [N, 3] mm of the eyeballs in the rest shape; they look along +z."""
    colours = np.tile(SCLERA, (len(points), 1))
    if len(points) == 0:
        return colours
    nearest = np.stack([np.linalg.norm(points - eye.centre, axis=1) for eye in eyes]).argmin(0)
    for number, eye in enumerate(eyes):
        chosen = nearest == number
        local = points[chosen] - eye.centre
        away = np.arctan2(np.linalg.norm(local[:, :2], axis=1), local[:, 2]) * eye.radius
        angle = np.arctan2(local[:, 1], local[:, 0])
        spokes = np.stack([4.0 * np.cos(angle), 4.0 * np.sin(angle), 0.4 * away], 1)
        fibres = 1.0 + 1.4 * fractal_noise(spokes, 0.8, 2, eye.seed)
        rim = 1.0 - 0.75 * np.exp(-(((away - IRIS_RADIUS) / 0.7) ** 2))
        iris = eye.iris * (fibres * rim).clip(0.2, 2.0)[:, None]
        veins = np.exp(-((fractal_noise(local, 5.0, 2, eye.seed + 1) / 0.03) ** 2)) * ((away - 7.0) / 6.0).clip(
            0.0, 1.0
        )
        sclera = SCLERA * (1.0 - veins[:, None] * np.array([0.1, 0.4, 0.4]))
        blend = 1.0 / (1.0 + np.exp((away - IRIS_RADIUS) / 0.15))[:, None]
        colour = iris * blend + sclera * (1.0 - blend)
        pupil = 1.0 / (1.0 + np.exp((away - PUPIL_RADIUS) / 0.08))[:, None]
        colours[chosen] = colour * (1.0 - pupil) + 0.006 * pupil
    return colours
