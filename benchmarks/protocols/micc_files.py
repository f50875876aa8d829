"""MICC Florence on disk: scans, manual landmarks, predictions of one video, frames of a video averaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.alignments import norm_similarity
from benchmarks.protocols.files import MESHES, first_mesh, landmarks_beside, read_points
from fitter.capture.scan.read import read_mesh
from fitter.errors import InputError

SETTINGS = ("Indoor-Cooperative", "PTZ-Indoor", "PTZ-Outdoor")
SUBJECTS = tuple(f"subject_{number:02d}" for number in range(1, 54))
NUMBERS = "template_landmarks.txt"
"""Beside the predictions: the vertex numbers of their 68 iBUG landmarks, blanks or lines between."""
PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class GroundTruth:
    """One frontal scan (or the template registered to it) and its manual landmarks."""

    mesh: Path
    landmarks: Path


def scans_of(data: Path, subject: str, folder: str = "") -> list[GroundTruth]:
    """The frontal scans of a subject that have landmarks: frontal1 first.

    Landmarks lie in MICC_landmarks/ with the path of the scan's folder; names may differ (some scans were exported
    anew), so the first file counts, as in GANFit's code.
    """
    found = []
    for take in ("frontal1", "frontal2"):
        part = Path(subject) / "Model" / take / "obj"
        meshes = sorted((data / folder / part).glob("*.obj"))
        marks = sorted((data / "MICC_landmarks" / part).glob("*.ljson")) or sorted((data / part).glob("*.ljson"))
        if meshes and marks:
            found.append(GroundTruth(meshes[0], marks[0]))
    return found


def has_scan(data: Path, subject: str, folder: str = "") -> bool:
    """Whether there is a frontal scan of a subject, with landmarks or without."""
    return any((data / folder / subject / "Model").glob("frontal[12]/obj/*.obj"))


def read_ljson(path: Path) -> np.ndarray:
    """[68, 3] mm of menpo's LJSON (old form with groups, or new).

    Raises:
        InputError: The file is none, or holds other than 68 finite points.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        group = next(iter(document["groups"].values())) if "groups" in document else document
        points = np.array(group["landmarks"]["points"], np.float64)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(path, f"no readable LJSON ({error})", "68 landmarks of GANFit's MICC_landmarks") from error
    if points.shape != (68, 3) or not np.isfinite(points).all():
        raise InputError(path, f"points of shape {points.shape}", "68 finite points, x y z each")
    return points


def landmark_numbers(path: Path, vertices: int) -> np.ndarray:
    """[68] vertex numbers of the predictions' landmarks.

    Raises:
        InputError: The file is not there or does not hold 68 vertex numbers of this topology.
    """
    try:
        numbers = np.array(path.read_text("utf-8").replace(",", " ").split(), np.int64)
    except (OSError, ValueError) as error:
        raise InputError(path, "no readable list", "68 vertex numbers, from 0, of the iBUG landmarks") from error
    if len(numbers) != 68 or numbers.min() < 0 or numbers.max() >= vertices:
        found = f"{len(numbers)} numbers up to {numbers.max(initial=0)}"
        raise InputError(path, found, f"68 vertex numbers below {vertices}", "It must belong to the predictions' mesh.")
    return numbers


@dataclass(frozen=True)
class VideoFiles:
    """The prediction of one video: one mesh, or one per frame."""

    meshes: tuple[Path, ...]
    landmarks: tuple[Path, ...]
    """Beside the meshes; empty where the topology's list gives them."""


def prediction_of(predictions: Path, subject: str, setting: str) -> VideoFiles | None:
    """`subject_XX/<setting>.obj`, or all meshes in the folder `subject_XX/<setting>/`."""
    single = first_mesh(predictions / subject / setting)
    folder = predictions / subject / setting
    meshes = [single] if single else sorted(path for path in folder.glob("*") if path.suffix.lower() in MESHES)
    if not meshes:
        return None
    marks = [landmarks_beside(path.with_suffix("")) for path in meshes]
    given = tuple(path for path in marks if path is not None)
    return VideoFiles(tuple(meshes), given if len(given) == len(meshes) else ())


def frames_of(data: Path, subject: str, setting: str) -> tuple[Path, ...]:
    """Photographs of a video: frames are extracted by the user, MICC has films."""
    folder = data / subject / "frames" / setting
    return tuple(sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES))


def average_shape(shapes: list[np.ndarray]) -> np.ndarray:
    """Mean [V, 3] of meshes in one topology without their poses and sizes: generalised Procrustes (Gower 1975).

    Jin et al. (2021) score a video by the average shape of its frames. The mean has the shapes' mean size and lies as
    the first one does.

    Args:
        shapes: Each [V, 3].
    """
    sizes = [float(np.linalg.norm(shape - shape.mean(0))) for shape in shapes]
    mean = shapes[0]
    for _ in range(10):
        moved = [norm_similarity(shape, mean)(shape) for shape in shapes]
        before, mean = mean, np.mean(moved, axis=0)
        mean = norm_similarity(mean, shapes[0])(mean)
        if np.abs(mean - before).max() < 1e-9 * sizes[0]:
            break
    centre = mean.mean(0)
    return centre + (mean - centre) * (np.mean(sizes) / np.linalg.norm(mean - centre))


def load_video(meshes: tuple[Path, ...], landmarks: tuple[Path, ...], numbers: Path) -> tuple[np.ndarray, ...]:
    """Vertices [V, 3], triangles [F, 3] and landmarks [68, 3] of a video's prediction, frames averaged.

    Raises:
        InputError: A file cannot be used, or the frames' topologies differ.
    """
    loaded = [read_mesh(path) for path in meshes]
    for path, mesh in zip(meshes, loaded, strict=True):
        if not np.array_equal(mesh.triangles, loaded[0].triangles):
            raise InputError(path, "another topology than the video's first frame has", "one topology for all frames")
    triangles = loaded[0].triangles
    shapes = [mesh.vertices for mesh in loaded]
    if landmarks:
        # Landmarks ride along as vertices of their own.
        shapes = [np.concatenate([shape, read_points(path, 68)]) for shape, path in zip(shapes, landmarks, strict=True)]
    mean = average_shape(shapes) if len(shapes) > 1 else shapes[0]
    if landmarks:
        return mean[:-68], triangles, mean[-68:]
    return mean, triangles, mean[landmark_numbers(numbers, len(mean))]
