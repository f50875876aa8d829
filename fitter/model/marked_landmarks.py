"""The open model's landmarks where people mark them on a scan.

The model's own table holds a detector's points. On heads that people annotated (ICT-FaceKit, and others that are not used
here) its points are off by the same few millimetres, left and right alike: the bridge of the nose is marked lower, the
lower lip's outline higher. The offsets were read on ICT-FaceKit's mean head (Li et al. 2020; MIT licence), whose 68
landmark vertices are published: the open model was fitted to it with every fifth landmark held out in turn, the held-out
points' errors were made symmetric, and once more with the table so moved.
"""

from __future__ import annotations

import json
from importlib import resources

import numpy as np

from fitter.model.landmark_shift import shifted_landmarks
from fitter.model.morphable import LandmarkEmbedding

FIRST = 17
"""The jaw line before it has no fixed place on the skin."""


def marked_offsets() -> np.ndarray:
    """[68, 3] mm on the open model's mean head (+x to its left, +y up, +z out of the face); 0 for the jaw line."""
    text = resources.files("fitter.model").joinpath("data/marked_landmarks.json").read_text("utf-8")
    offsets = np.zeros((68, 3))
    offsets[FIRST:] = json.loads(text)["offsets_mm"]
    return offsets


def marked_landmarks(
    landmarks: LandmarkEmbedding, vertices: np.ndarray, triangles: np.ndarray, skin: np.ndarray
) -> LandmarkEmbedding:
    """iBUG-68 as people mark them; arguments as `shifted_landmarks`."""
    return shifted_landmarks(landmarks, marked_offsets(), vertices, triangles, skin)
