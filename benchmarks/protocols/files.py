"""Reading what a protocol's folders hold, and refusing what cannot be scored."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks.crops import LEFT_OUTER, RIGHT_OUTER
from fitter.capture.scan.read import read_mesh
from fitter.compare.surface import Surface
from fitter.errors import InputError

MESHES = (".obj", ".ply")
OFF_MESH = 0.25
"""Landmarks further from their mesh than this share of the eyes' distance (median) belong to another file or unit."""
_POINT = re.compile(r"<point\b[^>]*>")


def need_folder(path: Path, holds: str) -> Path:
    """The folder, or a clear line about it."""
    if not path.is_dir():
        raise InputError(path, "no such folder", holds, "Check the layout in docs/evaluation.md.")
    return path


def first_mesh(stem: Path) -> Path | None:
    """`stem` with the suffix under which a mesh lies there."""
    return next((path for suffix in MESHES if (path := stem.with_name(stem.name + suffix)).is_file()), None)


def landmarks_beside(stem: Path, suffixes: tuple[str, ...] = (".npy", ".txt")) -> Path | None:
    """The landmark file of a predicted mesh."""
    return next((path for suffix in suffixes if (path := stem.with_name(stem.name + suffix)).is_file()), None)


def load_surface(path: Path, mm_per_unit: float = 1.0) -> Surface:
    """Read a mesh; raises InputError as `read_mesh` does."""
    mesh = read_mesh(path)
    return Surface(mesh.vertices * mm_per_unit, mesh.triangles)


def read_points(path: Path, count: int) -> np.ndarray:
    """[count, 3] points of a text (blanks or commas), `.npy` ([count, 3] or [1, count, 3]) or MeshLab `.pp` file.

    Points of a `.pp` file are taken in the order of the file, whatever they are called, as NoW's code takes them.

    Raises:
        InputError: The file cannot be read or holds something else.
    """
    expected = f"{count} points, x y z each"
    try:
        if path.suffix.lower() == ".npy":
            points = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".pp":
            points = _picked(path.read_text("utf-8", "replace"))
        else:
            points = np.array(path.read_text("utf-8-sig").replace(",", " ").split(), np.float64)
        points = np.asarray(points, np.float64)
    except (OSError, ValueError) as error:
        raise InputError(path, f"a file that cannot be read as points ({error})", expected) from error
    if points.size != 3 * count:
        raise InputError(path, f"{points.size} numbers", expected)
    points = points.reshape(count, 3)
    if not np.isfinite(points).all():
        raise InputError(path, "points that are not finite", expected)
    return points


def _picked(text: str) -> np.ndarray:
    """Coordinates of MeshLab's picked points; its XML is flat, and a full parser would read entities, too."""
    points = []
    for tag in _POINT.findall(text):
        found = dict(re.findall(r'\b([xyz])\s*=\s*"([^"]*)"', tag))
        if set(found) != set("xyz"):
            raise ValueError("a point without x, y and z")
        points.append([float(found[axis]) for axis in "xyz"])
    return np.array(points)


def check_on_mesh(path: Path, landmarks: np.ndarray, surface: Surface) -> None:
    """Refuse landmarks that do not lie on their mesh: those of another file, unit or topology.

    Args:
        path: Of the landmarks, for the message.
        landmarks: [7, 3].
        surface: What they should lie on, in the same unit.
    """
    eyes = float(np.linalg.norm(landmarks[LEFT_OUTER] - landmarks[RIGHT_OUTER]))
    off = float(np.median(surface.closest(landmarks).distances))
    if not eyes > 0 or off > OFF_MESH * eyes:
        found = f"landmarks that lie {off:.3g} off their mesh, their eyes {eyes:.3g} apart"
        raise InputError(path, found, "seven points on the mesh, in its unit", "Export mesh and landmarks together.")


def face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors forward and up of seven landmarks [7, 3]."""
    across = landmarks[3] - landmarks[0] + landmarks[6] - landmarks[5]
    across = across / np.linalg.norm(across)
    up = 0.25 * landmarks[:4].sum(0) - 0.5 * (landmarks[5] + landmarks[6])
    up = up - (up @ across) * across
    up = up / np.linalg.norm(up)
    return np.cross(across, up), up
