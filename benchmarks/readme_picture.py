"""Make the README's picture: the built-in photograph, its fit, and the three levels.

    python -m benchmarks.readme_picture docs/astronaut.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fitter.atomic import atomic_path
from fitter.capture.builtin import load_builtin
from fitter.export.patches import with_painted_patches
from fitter.export.report.pictures import Studio
from fitter.fit import fit_session
from fitter.model.open_model import load_open_model
from fitter.optimise.config import load_configuration

SIDE = 360


def main() -> None:
    """Fit the built-in photograph and write the strip."""
    target = Path(sys.argv[1])
    result = fit_session(load_builtin("astronaut"), load_open_model(), load_configuration("photo"))
    studio = Studio(with_painted_patches(result))
    row = studio.view(result.session.views[0], result.views[0], SIDE)
    pictures = [row.photograph, row.m0, row.m1, row.m2, studio.textured_turns()[0]]
    strip = [
        np.asarray(Image.fromarray(picture).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        for picture in pictures
    ]
    with atomic_path(target) as temporary:
        Image.fromarray(np.hstack(strip)).save(temporary, quality=88)


if __name__ == "__main__":
    main()
