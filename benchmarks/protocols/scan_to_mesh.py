"""NoW's scoring of one prediction against one scan, which ESRC's and FaceScape's multi-view settings borrow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np

from benchmarks.alignments import is_reflection, landmark_alignment, least_squares_alignment
from benchmarks.crops import NOW_FACTOR, inside_ball, seven_point_ball, submesh
from benchmarks.metrics import root_mean_square
from benchmarks.protocols.files import check_on_mesh, face_axes
from benchmarks.protocols.types import Shown
from fitter.compare.align import Similarity
from fitter.compare.surface import Surface
from fitter.errors import InputError

FEWEST_VERTICES = 100
LANDMARK_MISFIT = 0.25
"""Root mean square distance of aligned landmarks, in eye distances, beyond which they name other points."""
NAMES = (
    "right eye outer",
    "right eye inner",
    "left eye inner",
    "left eye outer",
    "nose bottom",
    "right mouth",
    "left mouth",
)
ORDER_DOUBT = 0.05
"""Misfit, in eye distances, from which another order of the landmarks is thought of."""
SCALES = (0.6, 1.67)
"""Sizes of a prediction, relative to the scan, that a metrical one in the right unit can have."""


@dataclass(frozen=True)
class Target:
    """A scan with its seven landmarks, mm."""

    vertices: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Scored:
    """Distances of the counted part of a scan to an aligned prediction."""

    distances: np.ndarray
    """[P] mm."""
    pose: Similarity
    shown: Shown

    def numbers(self) -> dict[str, float]:
        """The usual figures of one image."""
        return {
            "median": float(np.median(self.distances)),
            "mean": float(self.distances.mean()),
            "std": float(self.distances.std()),
            "rmse": root_mean_square(self.distances),
            "scale": self.pose.scale,
        }


def cropped(target: Target, factor: float, where: Path) -> tuple[np.ndarray, Shown]:
    """The counted vertices [P, 3] of a scan, and its surface for pictures."""
    keep = inside_ball(target.vertices, *seven_point_ball(target.landmarks, factor))
    vertices, triangles = submesh(target.vertices, target.triangles, keep)
    if len(vertices) < FEWEST_VERTICES:
        found = f"{len(vertices)} scan vertices around the seven landmarks"
        raise InputError(where, found, "a face", "Scan and landmarks must be in one frame and unit.")
    return vertices, Shown(vertices, triangles, *face_axes(target.landmarks))


@lru_cache(maxsize=1)
def _orders() -> np.ndarray:
    """[5040, 7] all orders of seven points, the given one first."""
    return np.array(list(permutations(range(7))))


def order_misfits(marks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[5040] root mean square distances that a similarity leaves of `marks` [7, 3], in every order, to `target` [7, 3].

    In closed form (Umeyama 1991, eq. 38): what is left is known from the singular values alone.
    """
    source, wanted = marks - marks.mean(0), target - target.mean(0)
    across = np.einsum("ni,pnj->pij", wanted, source[_orders()])
    u, singular, vt = np.linalg.svd(across)
    singular[:, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
    left = (wanted**2).sum() - singular.sum(1) ** 2 / (source**2).sum()
    return np.sqrt(np.maximum(left, 0.0) / len(target))


def start_on_landmarks(
    path: Path, predicted: Surface, marks: np.ndarray, target: Target, *, scale: bool, metrical: bool
) -> Similarity:
    """Transform of seven landmarks onto the scan's, once they are seen to be what they should be.

    Args:
        path: Of the prediction, for messages.
        predicted: The prediction; metrical ones in mm.
        marks: [7, 3] on it.
        target: The scan.
        scale: Whether the transform may scale.
        metrical: Whether the prediction's size has to be plausible.

    Raises:
        InputError: Landmarks off the mesh, in another order, or mirrored; a metrical prediction of another size.
    """
    check_on_mesh(path, marks, predicted)
    free = landmark_alignment(marks, target.landmarks, scale=True, reflect=True)
    eyes = float(np.linalg.norm(target.landmarks[3] - target.landmarks[0]))
    misfit = root_mean_square(np.linalg.norm(free(marks) - target.landmarks, axis=1)) / eyes
    expected = "right eye outer, inner, left eye inner, outer, nose bottom, right, left mouth corner"
    if is_reflection(free):
        raise InputError(path, "landmarks that fit the scan's as a mirror image only", expected, "Check their order.")
    if not misfit <= LANDMARK_MISFIT:
        found = f"landmarks that miss the scan's by {misfit:.2f} eye distances after alignment"
        raise InputError(path, found, expected, "Check their order and the topology of the mesh they were read from.")
    misfits = order_misfits(marks, target.landmarks)
    best = int(misfits.argmin())
    if misfits[best] < 0.5 * misfits[0] and misfits[0] > ORDER_DOUBT * eyes:
        moved = [f"{NAMES[k]} where {NAMES[other]} should be" for k, other in enumerate(_orders()[best]) if k != other]
        found = f"landmarks in another order, to all appearance: {', '.join(moved)}"
        raise InputError(path, found, expected, "Check their order.")
    if metrical and not SCALES[0] <= 1 / free.scale <= SCALES[1]:
        found = f"a face {1 / free.scale:.3g} times the scan's size"
        raise InputError(path, found, "a metrical prediction", "Give the predictions' unit with --unit.")
    return landmark_alignment(marks, target.landmarks, scale=scale)


def score_scan(
    path: Path, predicted: Surface, marks: np.ndarray, target: Target, *, rigid: bool, metrical: bool = False
) -> Scored:
    """Crop, align by landmarks, refine by least squares over all cropped vertices, measure.

    After soubhiksanyal/now_evaluation: scan2mesh_computations.py and its metrical twin. That code allows a mirrored
    landmark alignment; here it is an error, because only swapped landmarks ask for one. Its metrical twin begins with
    the translation of the similarity, without the scale; that start is kept.

    Args:
        path: Of the prediction, for messages.
        predicted: The whole predicted mesh.
        marks: [7, 3] on it.
        target: The scan.
        rigid: Without scale.
        metrical: Whether the size of the prediction is meant, and checked.
    """
    vertices, shown = cropped(target, NOW_FACTOR, path)
    start = start_on_landmarks(path, predicted, marks, target, scale=True, metrical=metrical)
    if rigid:
        start = Similarity(1.0, start.rotation, start.translation)
    found = least_squares_alignment(vertices, predicted, start, scale=not rigid)
    return Scored(found.distances, found.pose, shown)
