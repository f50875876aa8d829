"""What a camera's sensor adds to the light that falls on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sensor:
    """Noise of each pixel of the photograph that is fitted."""

    full_well: float
    """Electrons at white: shot noise."""
    read_noise: float
    """Standard deviation, fraction of white."""

    def expose(self, linear: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Linear light (white is 1) with shot and read noise, clipped to 0 … 1."""
        sigma = np.sqrt(np.maximum(linear, 0.0) / self.full_well + self.read_noise**2)
        return (linear + sigma * random.normal(size=linear.shape)).clip(0.0, 1.0)


SMALL = Sensor(8000.0, 0.0015)
"""A small camera at moderate gain."""
STUDIO = Sensor(50000.0, 0.0001)
"""A full-frame camera at its lowest gain (about five electrons of read noise), pixel for pixel."""
SENSORS = {"studio": STUDIO, "small": SMALL}
