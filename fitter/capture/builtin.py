"""The built-in input: a public-domain photograph (NASA, in scikit-image's wheel) with landmarks shipped here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from fitter.capture.landmark_files import read_landmarks
from fitter.capture.types import Session, View
from fitter.errors import InputError

BUILTIN_NAMES = ("astronaut",)


def load_builtin(name: str = "astronaut") -> Session:
    """A session that needs no file of the user's: the astronaut of scikit-image, one casual view.

    Raises:
        InputError: No built-in input of this name.
    """
    if name not in BUILTIN_NAMES:
        raise InputError(name, "no built-in input of this name", ", ".join(BUILTIN_NAMES), "Give a folder instead.")
    import skimage.data  # late: it takes a third of a second

    image = skimage.data.astronaut().astype(np.float32) / 255.0
    with resources.as_file(resources.files("fitter.capture") / "data" / "astronaut.pts") as path:
        landmarks = read_landmarks(path, image.shape[:2])
    view = View(
        name="astronaut",
        path=Path("astronaut.png"),
        image=image,
        landmarks=landmarks,
        mask=None,
        camera=None,
        focal_guess=None,
    )
    return Session(name="astronaut", views=(view,), kind="casual", unit=None, mm_per_unit=None)
