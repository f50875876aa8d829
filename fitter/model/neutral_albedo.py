"""A plain skin for models that bring no colours."""

from __future__ import annotations

import numpy as np

from fitter.model.open_albedo import (
    BROWS,
    HAEMOGLOBIN,
    IRIS,
    LIPS,
    MELANIN,
    MOUTH_INSIDE,
    SCLERA,
    SKIN,
)


def neutral_skin_albedo(vertex_count: int, regions: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One colour per region, and five directions: melanin, blood, brightness, colour of the lips, shade of the eyes.

    The colours and the two pigments are the open model's (see `open_albedo`); nothing is measured on the model itself.

    Args:
        vertex_count: V.
        regions: Boolean [V] masks; `lips`, `eyes`, `iris`, `mouth_inside`, `brows` are used where they are given.

    Returns:
        Mean [V, 3] in [0, 1] and basis [V, 3, 5] per standard deviation, linear RGB.
    """

    def mask(name: str) -> np.ndarray:
        return np.asarray(regions.get(name, np.zeros(vertex_count, bool)), bool)

    eyes, inside = mask("eyes") | mask("iris"), mask("mouth_inside")
    lips, brows = mask("lips") & ~inside & ~eyes, mask("brows") & ~eyes
    mean = np.tile(SKIN, (vertex_count, 1))
    for where, colour in ((brows, BROWS), (lips, LIPS), (inside, MOUTH_INSIDE), (eyes, SCLERA), (mask("iris"), IRIS)):
        mean[where] = colour
    skin = (~eyes & ~inside).astype(float)[:, None]
    basis = np.stack(
        [
            -mean * MELANIN * skin,
            -mean * HAEMOGLOBIN * 2.0 * skin,
            mean * 0.25 * skin,
            -mean * HAEMOGLOBIN * 2.5 * lips[:, None],
            -mean * 0.25 * eyes[:, None],
        ],
        axis=-1,
    )
    return mean, basis
