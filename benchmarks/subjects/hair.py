"""Hair as paint: brows of single strokes, stubble, a short cut. There is no hair geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.subjects.noise import cellular_noise, fractal_noise, gradient_noise
from fitter.model.surface_regions import distance_to_polyline

COLOURS = np.array([[0.012, 0.010, 0.009], [0.028, 0.018, 0.012], [0.07, 0.042, 0.024], [0.17, 0.115, 0.065]])
"""Black, dark brown, brown, blond; linear RGB."""


@dataclass(frozen=True, eq=False)
class HairStyle:
    """One person's hair."""

    colour: np.ndarray
    """[3] linear RGB."""
    brow_density: float
    """In [0, 1]."""
    brow_height: float
    """mm, half the brow's height at its inner end."""
    stubble: float
    """In [0, 1]."""
    cut: float
    """In [0, 1]: how much of the scalp the short hair covers; 0 is bald."""
    hairline: float
    """mm above the brows."""
    seed: int


def random_hair(random: np.random.Generator, light: float, stubble: float | None) -> HairStyle:
    """Draw a style; dark skins have dark hair (`light` in [0, 1] is the skin's)."""
    choice = min(int(random.integers(0, 4)), int(4 * light))
    drawn = random.uniform(0.2, 0.9) if random.random() < 0.4 else 0.0
    return HairStyle(
        colour=COLOURS[choice] * random.uniform(0.8, 1.2),
        brow_density=random.uniform(0.55, 0.95),
        brow_height=random.uniform(3.2, 4.8),
        stubble=drawn if stubble is None else stubble,
        cut=random.uniform(0.6, 0.95) if random.random() < 0.75 else 0.0,
        hairline=random.uniform(46.0, 62.0),
        seed=int(random.integers(2**30)),
    )


def hair_cover(
    style: HairStyle, points: np.ndarray, landmarks: np.ndarray, ears: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much of the skin hair hides [N] in [0, 1], and its colour [N, 3] linear RGB.

    Args:
        style: Whose hair.
        points: [N, 3] mm in the rest shape.
        landmarks: [68, 3] mm in the rest shape.
        ears: [N] share of ear in [0, 1]; the scalp's hair leaves them out.
    """
    cover = np.maximum(_brows(style, points, landmarks), _stubble(style, points, landmarks))
    cover = np.maximum(cover, _scalp(style, points, landmarks) * (1.0 - ears))
    shade = 1.0 + 0.8 * gradient_noise(points, np.array([0.8, 1.6, 1.6]), style.seed + 9)
    return cover, style.colour * shade.clip(0.4, 1.8)[:, None]


def _brows(style: HairStyle, points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Strokes that lean outwards, denser in the middle of the brow, thinner towards the temple."""
    total = np.zeros(len(points))
    for side, line in ((-1.0, landmarks[17:22][::-1]), (1.0, landmarks[22:27])):
        distance = distance_to_polyline(points, line)
        near = np.flatnonzero(distance < 9.0)
        inner, outer = line[0, 0], line[-1, 0]
        along = ((points[near, 0] - inner) / (outer - inner)).clip(-0.2, 1.2)
        half = style.brow_height * (1.0 - 0.55 * along.clip(0.0, 1.0)) * (along > -0.15)
        ragged = distance[near] + 1.8 * fractal_noise(points[near], 2.5, 2, style.seed + 1)
        inside = 1.0 / (1.0 + np.exp((ragged - half) / 0.8))
        # Hairs: cells stretched along a direction that turns from upwards to sideways.
        lean = np.deg2rad(65.0 - 55.0 * along.clip(0.0, 1.0))
        hair = np.stack([side * np.cos(lean), np.sin(lean)], 1)
        flat = points[near, :2]
        local = np.stack([(flat * hair).sum(1) / 5.0, flat[:, 0] * -hair[:, 1] + flat[:, 1] * hair[:, 0]], 1)
        local = np.column_stack([local[:, 0], local[:, 1] / 0.6, np.zeros(len(near))])
        first, _, value = cellular_noise(local, np.ones(3), style.seed + 2)
        stroke = np.exp(-((first / 0.42) ** 2)) * (0.5 + 0.5 * value)
        total[near] = np.maximum(total[near], inside * style.brow_density * (0.55 + 0.7 * stroke))
    return total.clip(0.0, 0.95)


def _stubble(style: HairStyle, points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Dots on jaw, chin and upper lip, softer at the border."""
    if style.stubble == 0.0:
        return np.zeros(len(points))
    jaw = np.exp(-((distance_to_polyline(points, landmarks[3:14]) / 26.0) ** 4))
    upper_lip = np.exp(-((distance_to_polyline(points, landmarks[[48, 50, 51, 52, 54]] + UPWARDS) / 6.0) ** 4))
    chin = np.exp(-((np.linalg.norm(points - landmarks[8] - UPWARDS, axis=1) / 28.0) ** 4))
    place = np.maximum(np.maximum(jaw, upper_lip), chin)
    place = (place + 0.8 * fractal_noise(points, 12.0, 3, style.seed + 3) * place).clip(0.0, 1.0)
    first, _, value = cellular_noise(points, 0.95, style.seed + 4)
    dots = np.exp(-((first / 0.33) ** 2)) * (0.4 + 0.6 * value)
    return style.stubble * place * (0.45 + 0.7 * dots)


def _scalp(style: HairStyle, points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Very short hair above a hairline that comes down in front of the ears."""
    if style.cut == 0.0:
        return np.zeros(len(points))
    brow = landmarks[17:27].mean(0)
    above = points[:, 1] - brow[1]
    behind = landmarks[[17, 26], 2].mean() - points[:, 2]
    # Height of the hairline over the brows, by how far back a point lies: high in front, then down to the ears.
    line = style.hairline * (1.0 - _smooth(2.0, 42.0, behind)) - 45.0 * _smooth(28.0, 62.0, behind)
    line = line - 60.0 * _smooth(70.0, 110.0, behind)
    ragged = above - line + 9.0 * fractal_noise(points, 9.0, 3, style.seed + 5)
    first, _, value = cellular_noise(points, 1.1, style.seed + 6)
    grain = 0.8 + 0.2 * np.exp(-((first / 0.4) ** 2)) * value
    return style.cut * grain / (1.0 + np.exp(-ragged / 2.5))


UPWARDS = np.array([0.0, 5.0, 0.0])


def _smooth(start: float, end: float, value: np.ndarray) -> np.ndarray:
    t = ((value - start) / (end - start)).clip(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
