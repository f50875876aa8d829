"""MICC Florence: the symmetric protocol of Genova et al. and GANFit, and the cropped one-sided one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.alignments import alternating_icp, landmark_alignment, least_squares_alignment, norm_similarity
from benchmarks.crops import MICC_RADIUS_MM, inside_ball, submesh
from benchmarks.metrics import point_to_plane, root_mean_square
from benchmarks.protocols.files import face_axes, need_folder
from benchmarks.protocols.micc_files import (
    NUMBERS,
    SETTINGS,
    SUBJECTS,
    GroundTruth,
    frames_of,
    has_scan,
    load_video,
    prediction_of,
    read_ljson,
    scans_of,
)
from benchmarks.protocols.published import MICC_COLUMNS, MICC_CROPPED, MICC_SYMMETRIC
from benchmarks.protocols.statistics import interval_text, mean_cells, of_group
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Shown, Table
from fitter.capture.scan.landmarks import SEVEN_POINTS
from fitter.capture.scan.read import read_mesh
from fitter.compare.surface import Surface
from fitter.errors import InputError

NOSE_TIP, INNER = 30, slice(17, 68)
TIGHT_RADIUS_MM, TIGHT_SUBJECT = 60.0, "subject_28"
"""GANFit's code crops this subject more closely."""
UNITS = (1.0, 10.0, 100.0, 1000.0)
"""Millimetres per unit that a registered template may have; GANFit's has 100."""
NEAR = (0.7, 1.43)
"""Ratio of two faces' sizes that are in one unit."""
FEWEST = 100


def _eyes(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[36] - landmarks[45]))


def mm_per_unit(path: Path, landmarks: np.ndarray, truth_mm: np.ndarray) -> float:
    """Millimetres per unit of a mesh, seen from its eye corners' distance against the scan's."""
    ratio = _eyes(truth_mm) / max(_eyes(landmarks), 1e-12)
    unit = next((unit for unit in UNITS if NEAR[0] <= ratio / unit <= NEAR[1]), None)
    if unit is None:
        found = f"outer eye corners {_eyes(landmarks):.3g} apart, where the scan has {_eyes(truth_mm):.3g} mm"
        raise InputError(path, found, "a face in mm, cm, m or units of 100 mm", "Check landmarks and unit.")
    return unit


def symmetric_score(
    truth: np.ndarray, predicted: np.ndarray, triangles: np.ndarray, tips: tuple[np.ndarray, np.ndarray], radius: float
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Mean distances there and back of two meshes in one topology; distances and counted vertices of the first way.

    Args:
        truth: [V, 3] mm.
        predicted: [V, 3] mm.
        triangles: [F, 3] of both.
        tips: Nose tips of truth and prediction, mm.
        radius: Of the crop, mm; vertices *below* it count.
    """
    means, first = [], None
    for source, target, tip in ((truth, predicted, tips[0]), (predicted, truth, tips[1])):
        mask = np.linalg.norm(source - tip, axis=1) < radius
        found = alternating_icp(source[mask], Surface(target, triangles), target[mask])
        means.append(float(found.distances.mean()))
        first = first or (found.distances, mask)
    return means[0], means[1], *first


def score_symmetric(item: Item) -> Outcome:
    """One video against each frontal scan's registration; the better scan counts."""
    numbers = item.files["numbers"][0] if "numbers" in item.files else Path(NUMBERS)
    vertices, triangles, marks = load_video(item.files["prediction"], item.files.get("landmarks", ()), numbers)
    best: Outcome | None = None
    truths = list(zip(item.files["scans"], item.files["scan_landmarks"], strict=True))
    for mesh_path, marks_path in truths:
        truth = read_mesh(mesh_path)
        if not np.array_equal(truth.triangles, triangles):
            found = f"{len(vertices)} vertices in another topology than {mesh_path.name} has ({len(truth.vertices)})"
            raise InputError(item.files["prediction"][0], found, "the topology of the registered scans")
        scan_marks = read_ljson(marks_path)
        # The prediction's landmark vertices are the registration's, too: one topology.
        row = _rows(vertices, marks)
        placed = truth.vertices[row]
        scale = mm_per_unit(mesh_path, placed, scan_marks)
        tip = norm_similarity(scan_marks, placed)(scan_marks)[NOSE_TIP]
        unit = mm_per_unit(item.files["prediction"][0], marks, scale * placed)
        if unit != scale:
            found = f"a face in units of {unit:g} mm"
            raise InputError(item.files["prediction"][0], found, f"the registered scans' {scale:g} mm")
        radius = TIGHT_RADIUS_MM if item.subject == TIGHT_SUBJECT else MICC_RADIUS_MM
        there, back, distances, mask = symmetric_score(
            scale * truth.vertices, scale * vertices, triangles, (scale * tip, scale * marks[NOSE_TIP]), radius
        )
        if best is None or (there + back) / 2 < best.numbers["error"]:
            shown = _shown(scale * truth.vertices, triangles, mask, scale * placed)
            figures = {"error": (there + back) / 2, "truth to prediction": there, "prediction to truth": back}
            best = Outcome(item.name, item.subject, item.group, figures, distances, shown)
    if best is None:
        raise InputError(item.name, "no scan", "a registered frontal scan")
    return best


def _rows(vertices: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """[68] the vertices nearest to the landmarks."""
    from scipy.spatial import cKDTree

    return cKDTree(vertices).query(marks)[1]


def _shown(vertices: np.ndarray, triangles: np.ndarray, mask: np.ndarray, marks: np.ndarray) -> Shown:
    """The counted part as a surface; vertices without a triangle (loose ends of the crop) stay, too."""
    return Shown(*submesh(vertices, triangles, mask), *face_axes(marks[list(SEVEN_POINTS)]))


def score_cropped(item: Item) -> Outcome:
    """One video: the scan within 95 mm of its nose tip, similarity ICP, distances of its vertices."""
    numbers = item.files["numbers"][0] if "numbers" in item.files else Path(NUMBERS)
    path = item.files["prediction"][0]
    vertices, triangles, marks = load_video(item.files["prediction"], item.files.get("landmarks", ()), numbers)
    scan, scan_marks = read_mesh(item.files["scans"][0]), read_ljson(item.files["scan_landmarks"][0])
    keep = inside_ball(scan.vertices, scan_marks[NOSE_TIP], MICC_RADIUS_MM)
    points, faces = submesh(scan.vertices, scan.triangles, keep)
    if len(points) < FEWEST:
        raise InputError(item.files["scans"][0], f"{len(points)} vertices around the nose tip", "a scan in mm")
    start = landmark_alignment(marks[INNER], scan_marks[INNER], scale=True)
    misfit = root_mean_square(np.linalg.norm((start(marks) - scan_marks)[INNER], axis=1)) / _eyes(scan_marks)
    if not misfit <= 0.2:
        found = f"landmarks that miss the scan's by {misfit:.2f} eye distances after alignment"
        raise InputError(path, found, "68 iBUG landmarks of this mesh", "Check the list and the topology.")
    found = least_squares_alignment(points, Surface(vertices, triangles), start, scale=True)
    across = point_to_plane(points, Surface(vertices, triangles), found.pose)
    figures = {
        "rmse": root_mean_square(across),
        "mean": float(across.mean()),
        "rmse to surface": root_mean_square(found.distances),
        "scale": found.pose.scale,
    }
    shown = Shown(points, faces, *face_axes(scan_marks[list(SEVEN_POINTS)]))
    return Outcome(item.name, item.subject, item.group, figures, across, shown)


def _find(data: Path, predictions: Path, folder: str, all_scans: bool) -> Found:
    need_folder(data, "MICC's subject_XX folders")
    truths = {subject: scans_of(data, subject, folder) for subject in SUBJECTS}
    if not any(truths.values()):
        expected = f"{folder + '/' if folder else ''}subject_XX/Model/frontal1/obj/*.obj and MICC_landmarks/**.ljson"
        raise InputError(data, "no frontal scan with landmarks", expected, "Check the layout in docs/evaluation.md.")
    given = {(s, v): prediction_of(predictions, s, v) for s in SUBJECTS for v in SETTINGS}
    films = {(s, v): frames_of(data, s, v) for s in SUBJECTS for v in SETTINGS}
    used = [v for v in SETTINGS if any(given[s, v] or films[s, v] for s in SUBJECTS)]
    notes = [f"No prediction of the setting {v}; it is left out." for v in SETTINGS if used and v not in used]
    items, jobs = [], []
    unmarked = [s for s in SUBJECTS if not truths[s] and has_scan(data, s, folder)]
    missing = [(f"{s}/{v}", "a scan without landmarks (.ljson)") for s in unmarked for v in used or SETTINGS]
    for subject in (s for s in SUBJECTS if truths[s]):
        for setting in used or SETTINGS:
            name, video = f"{subject}/{setting}", given[subject, setting]
            single = video is not None and video.meshes[0].parent == predictions / subject
            made = {path.stem for path in video.meshes} if video else set()
            lacking = [] if single else [frame for frame in films[subject, setting] if frame.stem not in made]
            jobs += [
                FitJob(f"{name}/{frame.stem}", (frame,), predictions / name / frame.stem, True, "ibug68")
                for frame in lacking
            ]
            if video is None:
                missing.append((name, "no prediction"))
                continue
            if lacking:
                notes.append(f"{name}: the average of {len(made)} of {len(made) + len(lacking)} frames.")
            chosen: list[GroundTruth] = truths[subject] if all_scans else truths[subject][:1]
            files = {
                "prediction": video.meshes,
                "scans": tuple(truth.mesh for truth in chosen),
                "scan_landmarks": tuple(truth.landmarks for truth in chosen),
            }
            if video.landmarks:
                files["landmarks"] = video.landmarks
            elif (predictions / NUMBERS).is_file():
                files["numbers"] = (predictions / NUMBERS,)
            else:
                missing.append((name, f"a prediction without landmarks (beside it, or {NUMBERS} for all)"))
                continue
            items.append(Item(name, subject, setting, files))
    return Found(tuple(items), tuple(missing), tuple(jobs), tuple(notes))


def _tables(title: str, key: str, published: tuple[Row, ...]) -> Callable[..., tuple[Table, ...]]:
    def tables(outcomes: Sequence[Outcome], options: Options) -> tuple[Table, ...]:
        values, ranges = {}, {}
        for column, setting in (*zip(MICC_COLUMNS, SETTINGS, strict=True), ("all", None)):
            chosen = of_group(outcomes, setting)
            if chosen:
                numbers = np.array([outcome.numbers[key] for outcome in chosen])
                values[column] = f"{numbers.mean():.2f}±{numbers.std():.2f}"
                ranges[column] = interval_text(mean_cells(chosen, key, options.seed)[2])
        subjects = len({outcome.subject for outcome in outcomes})
        rows = (Row("ours", values | {"subjects": subjects}), Row("ours, 95 % CI of the mean", ranges), *published)
        return (Table(title, (*MICC_COLUMNS, "all", "subjects"), rows),)

    return tables


SYMMETRIC_PROTOCOL = Protocol(
    "micc-symmetric",
    "MICC Florence, symmetric (Genova et al., GANFit)",
    lambda data, predictions, options: _find(data, predictions, "registered", True),
    score_symmetric,
    _tables("MICC, symmetric point-to-surface distance after similarity ICP, mm", "error", MICC_SYMMETRIC),
    (
        "Symmetric protocol (barisgecer/GANFit, micc_evaluation.py): template registered to the scans, 95 mm around "
        "the nose tip (60 mm for subject 28), similarity ICP each way, mean of both ways, the better of two frontal "
        "scans. Its 'point-to-plane' is the distance to the closest point of the surface.",
        "Published rows are from GANFit's paper and could not be checked: unverified. They rest on GANFit's own "
        "template and registrations; with another template the figures are not strictly comparable.",
        "Sizes are the template's: registrations were scaled to it.",
        "Not to be compared with the cropped one-sided protocol; the two differ by about half a millimetre.",
    ),
    curve_mm=5.0,
    curve_of="truth to prediction only, pooled",
)
CROPPED_PROTOCOL = Protocol(
    "micc-cropped",
    "MICC Florence, cropped and one-sided",
    lambda data, predictions, options: _find(data, predictions, "", False),
    score_cropped,
    _tables("MICC, point-to-plane RMSE after similarity ICP, mm", "rmse", MICC_CROPPED),
    (
        "One-sided protocol (Tran et al., Deep3D, MVF-Net; Jin et al. 2021): the scan within 95 mm of its nose tip, "
        "similarity ICP, scan to prediction. Its details have no public code: that the error is the root mean square "
        "of point-to-plane distances, the choice of the scan (frontal1 first) and the ICP are unverified.",
        "A folder of frames is scored as their average shape (Jin et al. 2021).",
        "Published rows are one figure each; which of the three settings they pool is unverified.",
        "Not to be compared with the symmetric protocol; the two differ by about half a millimetre.",
    ),
    curve_mm=8.0,
)
