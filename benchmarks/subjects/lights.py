"""Light on a subject: softboxes around it and a plain room, the same for both renderers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Softbox:
    """A square lamp that faces the head."""

    towards: np.ndarray
    """[3] unit, from the head to the lamp, model frame."""
    distance: float
    """mm."""
    side: float
    """mm."""
    irradiance: np.ndarray
    """[3] linear RGB that it gives on a surface that faces it, over pi."""

    @property
    def radiance(self) -> np.ndarray:
        """[3] linear RGB."""
        return self.irradiance * np.pi * self.distance**2 / self.side**2


@dataclass(frozen=True, eq=False)
class Lighting:
    """Lamps, and an even room that is also the background."""

    softboxes: tuple[Softbox, ...]
    room: np.ndarray
    """[3] radiance of the room."""


def random_lighting(random: np.random.Generator) -> Lighting:
    """A portrait's light: key, fill and one from above, in colours between lamp and daylight."""

    def softbox(yaw: float, pitch: float, strength: float, side: float) -> Softbox:
        a, b = np.deg2rad(yaw), np.deg2rad(pitch)
        towards = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
        warmth = random.uniform(-0.08, 0.08)
        colour = np.array([1.0 + warmth, 1.0, 1.0 - warmth])
        return Softbox(towards, 1300.0, side, strength * colour)

    side = random.choice([-1.0, 1.0])
    return Lighting(
        softboxes=(
            softbox(side * random.uniform(25.0, 50.0), random.uniform(15.0, 40.0), random.uniform(0.6, 1.0), 450.0),
            softbox(-side * random.uniform(30.0, 60.0), random.uniform(0.0, 20.0), random.uniform(0.2, 0.4), 800.0),
            softbox(random.uniform(-15.0, 15.0), random.uniform(60.0, 75.0), random.uniform(0.1, 0.3), 700.0),
        ),
        room=random.uniform(0.12, 0.26) * np.array([0.97, 1.0, 1.03]),
    )
