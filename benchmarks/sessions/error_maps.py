"""`python -m benchmarks errors`: where on the face the photograph path errs, as pictures for docs/results.md.

Of every kept fit, the distance from each vertex of M1 to the true surface; the mean over the subjects is drawn on the
model's mean face. It reads the fits that `sessions` kept, and makes those that are missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.sessions.cases import Case, chosen_cases
from benchmarks.sessions.command import add_arguments, presets, subjects_of, work_folder
from benchmarks.sessions.fits import INNER, kept_fit, model
from benchmarks.sessions.levels import Levels
from benchmarks.sessions.run import Subject, content_of
from benchmarks.sessions.truth import RADIUS_MM, Truth, load_truth
from fitter.atomic import write_bytes
from fitter.compare.align import Similarity, icp, procrustes
from fitter.compare.picture import heat_picture
from fitter.compare.surface import Surface
from fitter.export.maps import png
from fitter.mesh_normals import vertex_normals

DRAWN = (("one_2", 3.0), ("two", 1.0), ("five", 0.5))
"""Cases and the ends of their scales, mm."""
LEFT_OUT = ("sockets", "mouth_inside", "eyes", "tongue", "nostrils", "ears")


def vertex_errors(levels: Levels, truth: Truth, calibrated: bool) -> np.ndarray:
    """[V] mm from M1's vertices to the true surface, nan beyond the counted part; singles after similarity."""
    vertices, whole = levels.vertices["M1"], Surface(truth.scan.vertices, truth.scan.triangles)
    move = Similarity.identity()
    if not calibrated:
        start = procrustes(levels.landmarks["M1"][INNER], truth.landmarks[INNER], scale=True)
        surface = Surface(vertices, model().outer_triangles.numpy())
        move = icp(truth.points, surface, start, normals=truth.normals, scale=True)
    placed = move(vertices)
    distances = whole.closest(placed).distances
    distances[np.linalg.norm(placed - truth.frame.nose_tip, axis=1) > RADIUS_MM] = np.nan
    return distances


def mean_face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the mean face that is drawn: vertices [K, 3] mm, triangles [F, 3], numbers [K] in the model."""
    face = model()
    vertices, triangles = face.mean.double().numpy(), face.triangles.numpy()
    keep = np.ones(len(vertices), bool)
    for name in LEFT_OUT:
        if name in face.regions:
            keep &= ~face.regions[name].numpy()
    tip = face.landmarks(face.mean)[30].double().numpy()
    forward = vertex_normals(vertices, triangles)[:, 2] > 0.0
    keep &= (np.linalg.norm(vertices - tip, axis=1) < RADIUS_MM) & forward
    inside = triangles[keep[triangles].all(1)]
    used, renumbered = np.unique(inside, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3), used


def error_picture(errors: np.ndarray, limit: float, label: str) -> np.ndarray:
    """uint8 picture of mean errors [V] (mm) on the mean face."""
    vertices, triangles, used = mean_face()
    axes = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    normals = vertex_normals(vertices, triangles)
    return heat_picture(vertices, triangles, normals, errors[used], axes, label, limit=limit)


def mean_errors(subjects: list[Subject], case: Case, work: Path, device: str) -> np.ndarray:
    """[V] mm: mean over the subjects of `vertex_errors`."""
    configuration = presets((case,))[case.configuration]
    found = []
    for subject in subjects:
        folder = subject.made(work / "captures")
        truth = load_truth(folder, subject.scan, subject.scan_landmarks)
        levels, _ = kept_fit(work, folder, content_of(folder), case, configuration, device)
        found.append(vertex_errors(levels, truth, case.calibrated and len(case.views) > 1))
    # Beyond the counted part of every subject there is nothing to draw.
    counted = np.isfinite(found).sum(0)
    return np.nansum(found, 0) / np.maximum(counted, 1)


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks errors", description=__doc__.partition("\n")[0])
    add_arguments(parser)
    parser.add_argument("--pictures", type=Path, default=Path("docs") / "results", help="folder of the pictures")
    options = parser.parse_args(arguments)
    subjects = subjects_of(options)
    for name, limit in DRAWN:
        (case,) = chosen_cases([name])
        errors = mean_errors(subjects, case, work_folder(options), options.device)
        label = f"{name.replace('_', ' ')}: mean distance of M1 to the truth over {len(subjects)} subjects, mm"
        options.pictures.mkdir(parents=True, exist_ok=True)
        path = options.pictures / f"errors-{name}.png"
        write_bytes(path, png(error_picture(errors, limit, label)))
        print(f"-> {path}")
    return 0
