"""A person's skin: colour and gloss as functions of position in the rest shape, at any density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.subjects.eyes import Eyeball, eye_colour, fit_eyeballs
from benchmarks.subjects.hair import HairStyle, hair_cover, random_hair
from benchmarks.subjects.noise import cellular_noise, fractal_noise
from benchmarks.subjects.pigment import TONES, skin_reflectance
from benchmarks.subjects.relief import Relief
from benchmarks.subjects.subject import Subject
from fitter.model.surface_regions import distance_to_polyline

MOUTH_INSIDE = np.array([0.13, 0.035, 0.03])
TONGUE = np.array([0.30, 0.11, 0.10])
SPECULAR = 0.35
"""Specular reflectance in Disney's scale: 0.08 of this at normal incidence, 2.8 % as for skin."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a renderer needs to know of a surface."""

    albedo: np.ndarray
    """[N, 3] diffuse, linear RGB in [0, 1]."""
    roughness: np.ndarray
    """[N] in [0, 1], Disney's scale (its square is the width of the microfacets' slopes)."""
    specular: np.ndarray
    """[N] in [0, 1], Disney's scale."""


@dataclass(frozen=True, eq=False)
class Skin:
    """One person's skin."""

    tone: int
    """Index into `TONES`."""
    melanin: float
    blood: float
    freckles: float
    """In [0, 1]."""
    redness: float
    """In [0, 1]: cheeks, nose, blotches."""
    oil: float
    """In [0, 1]: how much forehead and nose shine."""
    hair: HairStyle
    eyes: tuple[Eyeball, ...]
    relief: Relief
    landmarks: np.ndarray
    """[68, 3] mm in the rest shape."""
    seed: int

    def __call__(self, points: np.ndarray, shares: dict[str, np.ndarray], hidden_depth: np.ndarray) -> Look:
        """Colour and gloss.

        Args:
            points: [N, 3] mm in the rest shape.
            shares: Name of a region -> [N] in [0, 1] (`Subject.regions`).
            hidden_depth: [N] mm (`Subject.hidden_depth`).
        """
        # The lip red's border is drawn by the mesh's regions; it is softened and frayed by noise.
        frayed = shares["lips"] + shares["mouth_inside"] + 0.25 * fractal_noise(points, 3.0, 2, self.seed + 1)
        lips = _smoothstep(0.25, 0.85, frayed)
        melanin, blood = self._pigments(points, lips)
        albedo = skin_reflectance(melanin, blood)
        # The horny layer scatters unevenly, and pores look darker than they are deep.
        horny = 1.0 + 0.19 * fractal_noise(points, 1.3, 2, self.seed + 9) - 0.2 * self._in_pores(points) * (1.0 - lips)
        albedo *= horny[:, None]
        cover, hair_colour = hair_cover(self.hair, points, self.landmarks, shares["ears"])
        cover = cover * (1.0 - lips)
        lid_edge = np.exp(-((hidden_depth / 0.5) ** 2)) * _smoothstep(0.02, 0.2, shares["sockets"])
        cover = np.maximum(cover, 0.75 * lid_edge)
        albedo = albedo * (1.0 - cover[:, None]) + hair_colour * cover[:, None]
        inside = _smoothstep(3.0, 8.0, hidden_depth) * shares["mouth_inside"]
        albedo = albedo * (1.0 - inside[:, None]) + MOUTH_INSIDE * inside[:, None]
        roughness = self._roughness(points, lips, cover)
        specular = np.full(len(points), SPECULAR)
        tongue, eye = shares["tongue"] > 0.5, shares["eyes"] > 0.5
        albedo[tongue], roughness[tongue] = TONGUE, 0.35
        albedo[eye], roughness[eye], specular[eye] = eye_colour(self.eyes, points[eye]), 0.08, 0.5
        return Look(albedo.clip(0.0, 1.0), roughness, specular)

    def _pigments(self, points: np.ndarray, lips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares of melanin and of blood [N]."""
        marks, seed = self.landmarks, self.seed
        uneven = 0.40 * fractal_noise(points, 45.0, 3, seed + 2) + 0.30 * fractal_noise(points, 4.0, 3, seed + 3)
        uneven += 0.45 * fractal_noise(points, 1.7, 2, seed + 5)
        # What melanin does to colour grows with its amount, and dark skin is no more blotchy than light skin.
        melanin = self.melanin * np.exp(uneven * (0.05 / (0.05 + self.melanin)) ** 0.7)
        below = np.minimum(
            distance_to_polyline(points, marks[[36, 41, 40, 39]] + UNDER_EYE),
            distance_to_polyline(points, marks[[42, 47, 46, 45]] + UNDER_EYE),
        )
        shadow = np.exp(-((below / 7.0) ** 2))
        melanin *= 1.0 + 0.35 * shadow
        centre = np.exp(-((np.linalg.norm(points - marks[29], axis=1) / 38.0) ** 2))
        melanin += self._freckle_cover(points) * centre.clip(0.15) * (0.05 + 0.5 * self.melanin)
        melanin += 0.22 * self._mole_cover(points)

        mottled = 0.55 * fractal_noise(points, 8.0, 4, seed + 4) + 0.9 * fractal_noise(points, 2.2, 2, seed + 7)
        blood = self.blood * np.exp(mottled)
        flush = np.exp(-((np.linalg.norm(points - marks[30], axis=1) / 15.0) ** 2))
        for jaw, wing in ((2, 31), (14, 35)):
            cheek = 0.45 * marks[jaw] + 0.55 * marks[wing]
            flush = np.maximum(flush, 0.9 * np.exp(-((np.linalg.norm(points - cheek, axis=1) / 24.0) ** 2)))
        flush = np.maximum(flush, 0.5 * np.exp(-((np.linalg.norm(points - marks[8], axis=1) / 18.0) ** 2)))
        blood *= 1.0 + self.redness * (1.5 * flush + 0.5 * shadow)
        blood += 0.03 * self.redness * self._blemishes(points)
        lip_melanin = 0.8 * melanin + 0.008
        lip_blood = 0.045 * np.exp(0.7 * fractal_noise(points, 4.0, 3, seed + 6))
        return melanin * (1 - lips) + lip_melanin * lips, (blood * (1 - lips) + lip_blood * lips).clip(0.001, 0.12)

    def _freckle_cover(self, points: np.ndarray) -> np.ndarray:
        """[N] in [0, 1]: spots of 1 - 3 mm in some cells of three sizes."""
        total = np.zeros(len(points))
        for spacing, offset in ((2.2, 11), (3.4, 12), (5.5, 13)):
            first, _, value = cellular_noise(points, spacing, self.seed + offset)
            wobble = 0.35 * fractal_noise(points, 0.6 * spacing, 2, self.seed + offset + 20)
            radius = 0.16 + 0.30 * value
            spot = _smoothstep(1.3, 0.5, first / radius + wobble) * (value < 0.65 * self.freckles)
            total = np.maximum(total, spot * (0.5 + 0.5 * np.cos(57.0 * value)))
        return total

    def _mole_cover(self, points: np.ndarray) -> np.ndarray:
        """[N] in [0, 1]: the moles of the relief, flat or raised."""
        total = np.zeros(len(points))
        for x, y, z, radius, _ in self.relief.moles:
            distance = np.linalg.norm(points - [x, y, z], axis=1)
            near = np.flatnonzero(distance < 2.0 * radius)
            frayed = distance[near] / radius + 0.7 * fractal_noise(points[near], 2.0 * radius, 2, self.seed + 18)
            total[near] = np.maximum(total[near], _smoothstep(1.3, 0.6, frayed))
        return total

    def _blemishes(self, points: np.ndarray) -> np.ndarray:
        """[N] in [0, 1]: a few red spots."""
        first, _, value = cellular_noise(points, 14.0, self.seed + 17)
        return np.exp(-((first / 0.10) ** 2)) * (value < 0.35)

    def _in_pores(self, points: np.ndarray) -> np.ndarray:
        """[N] in [0, 1]: the relief's own pores."""
        first, _, value = cellular_noise(points, self.relief.pore_spacing, self.relief.seed)
        return self.relief.pore_strength(points) * np.exp(-((first / (0.22 + 0.16 * value)) ** 2))

    def _roughness(self, points: np.ndarray, lips: np.ndarray, cover: np.ndarray) -> np.ndarray:
        """[N]: forehead, nose and cheekbones shine more."""
        marks = self.landmarks
        shiny = np.exp(-((distance_to_polyline(points, marks[27:31]) / 14.0) ** 2))
        forehead = marks[17:27].mean(0) + np.array([0.0, 24.0, 0.0])
        shiny = np.maximum(shiny, 0.8 * np.exp(-((np.linalg.norm(points - forehead, axis=1) / 26.0) ** 2)))
        rough = 0.58 - 0.14 * self.oil * (0.3 + 0.7 * shiny) + 0.15 * fractal_noise(points, 6.0, 3, self.seed + 8)
        rough = rough * (1 - lips) + 0.38 * lips
        return (rough * (1 - cover) + 0.65 * cover).clip(0.25, 0.8)


UNDER_EYE = np.array([0.0, -7.0, 0.0])


def _smoothstep(start: float, end: float, value: np.ndarray) -> np.ndarray:
    t = ((value - start) / (end - start)).clip(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def usual_tone(seed: int) -> int:
    """A person's own tone: neighbouring seeds differ much, and any seven in a row have all tones."""
    return (3 * seed + 1) % len(TONES)


def skin_of(subject: Subject, tone: int | None = None, stubble: float | None = None) -> Skin:
    """The skin of a subject: the same for every expression.

    Args:
        subject: Whose.
        tone: Index into `TONES`, 0 is the lightest; None takes the subject's seed through all of them.
        stubble: In [0, 1]; None draws it.
    """
    random = np.random.default_rng([subject.seed, 31])
    tone = usual_tone(subject.seed) if tone is None else tone
    light = 1.0 - tone / (len(TONES) - 1.0)
    return Skin(
        tone=tone,
        melanin=TONES[tone] * random.uniform(0.9, 1.1),
        blood=random.uniform(0.007, 0.012),
        freckles=random.uniform(0.0, 1.0) ** 1.5 * (0.25 + 0.75 * light),
        redness=random.uniform(0.3, 1.0),
        oil=random.uniform(0.0, 1.0),
        hair=random_hair(random, light, stubble),
        eyes=fit_eyeballs(subject, random, light),
        relief=subject.relief,
        landmarks=subject.rest_landmarks,
        seed=int(random.integers(2**30)),
    )


def look_of(subject: Subject, skin: Skin) -> Look:
    """Colour and gloss of each of a subject's vertices."""
    return skin(subject.rest, subject.regions, subject.hidden_depth)
