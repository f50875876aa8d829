"""Colour of skin from what is in it: melanin in the epidermis over blood in the dermis. Linear RGB.

Absorption of melanin after Jacques (1998), of blood after Prahl's tables averaged over a camera's channels, reflectance
of the dermis from diffusion theory (Flock et al. 1989). Nothing here comes from the model's own albedo basis.
"""

from __future__ import annotations

import numpy as np

MELANIN_ABSORPTION = np.array([34.6, 44.0, 60.0])
"""1/mm of pure melanosomes in R, G, B."""
EPIDERMIS_PATH = 0.12
"""mm: twice through the epidermis."""
BLOOD_ABSORPTION = np.array([2.1, 17.7, 25.0])
"""1/mm of whole blood."""
DERMIS_ABSORPTION = np.array([0.025, 0.03, 0.19])
"""1/mm without blood (with carotene)."""
DERMIS_SCATTERING = np.array([2.0, 2.5, 3.5])
"""1/mm, reduced."""
INTERNAL_REFLECTION = 2.9
"""Of the skin's inner surface, refractive index 1.4."""
SURFACE_SCATTER = np.array([0.016, 0.014, 0.013])
"""What the horny layer and the melanin itself send back."""

TONES = (0.012, 0.028, 0.055, 0.100, 0.165, 0.260, 0.380)
"""Share of melanosomes in the epidermis, from very light to very dark."""


def skin_reflectance(melanin: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """Diffuse albedo [..., 3], linear RGB.

    Args:
        melanin: [...] share of melanosomes in the epidermis, about 0.01 to 0.4.
        blood: [...] share of blood in the dermis, about 0.002 to 0.07.
    """
    absorption = np.asarray(blood)[..., None] * BLOOD_ABSORPTION + DERMIS_ABSORPTION
    share = DERMIS_SCATTERING / (DERMIS_SCATTERING + absorption)
    lost = 1.0 - share
    k = INTERNAL_REFLECTION
    dermis = share / (1.0 + 2.0 * k * lost + (1.0 + 2.0 * k / 3.0) * np.sqrt(3.0 * lost))
    passed = np.exp(-EPIDERMIS_PATH * np.asarray(melanin)[..., None] * MELANIN_ABSORPTION)
    return passed * dermis + SURFACE_SCATTER
