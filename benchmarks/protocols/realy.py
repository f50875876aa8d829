"""REALY (Chai et al. 2022), after czh-98/REALY: four regions, each aligned by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.alignments import procrustes, region_icp
from benchmarks.metrics import root_mean_square
from benchmarks.nonrigid import Keypoints, bend_region
from benchmarks.protocols.files import MESHES, face_axes, need_folder
from benchmarks.protocols.published_realy import REALY_FRONTAL, REALY_REGIONS, REALY_SIDE
from benchmarks.protocols.statistics import groups_of, interval_text, mean_cells, of_group
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Shown, Table
from fitter.capture.scan.clean import merge_vertices
from fitter.capture.scan.read import compacted, read_mesh
from fitter.compare.align import Similarity
from fitter.compare.surface import Surface
from fitter.errors import InputError
from fitter.obj import read_obj

SEVEN = (36, 39, 42, 45, 33, 48, 54)
FOREHEAD = (*range(36, 48), *range(17, 27))
MOUTH = (*range(48, 61), 64)
NOSE = tuple(range(27, 36))
CHEEK = (*MOUTH, 76, 77, 36, 41, 40, 39, 42, 47, 46, 45, 7, 8, 9)
RIGID = {"nose": (*NOSE, 70, 71), "mouth": MOUTH, "forehead": FOREHEAD, "cheek": CHEEK}
"""Keypoints of the rigid alignment of each region (of 85)."""
BENT = {"nose": NOSE, "mouth": MOUTH, "forehead": FOREHEAD, "cheek": None}
"""Keypoints of the deformation."""
MISFIT = 0.3
EYES_MM = (50.0, 150.0)
PICTURES = (".jpg", ".jpeg", ".png")


def global_alignment(predicted: np.ndarray, truth: np.ndarray) -> Similarity:
    """Similarity of keypoints [7, 3] whose scale is the ratio of summed absolute coordinates (REALY:utils/util.py)."""
    turn = procrustes(predicted, truth, scale=False)
    spread, wanted = (predicted - predicted.mean(0)) @ turn.rotation.T, truth - truth.mean(0)
    factor = float(np.abs(wanted).sum() / np.abs(spread).sum())
    return Similarity(factor, turn.rotation, truth.mean(0) - factor * turn.rotation @ predicted.mean(0))


def region_errors(
    predicted: Surface, keypoints: np.ndarray, truth: tuple[np.ndarray, np.ndarray], marks: np.ndarray, region: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors [N] of one region, and the merged region they belong to; all in REALY's unit.

    Args:
        predicted: After the global alignment.
        keypoints: [85, 3] on it.
        truth: Vertices and triangles of the scan's region.
        marks: [85, 3] of the scan.
        region: Its name.
    """
    chosen = list(RIGID[region])
    rate = len(truth[0]) / len(chosen) / (4 if region == "cheek" else 1)
    pose = region_icp(truth[0], predicted, marks[chosen], keypoints[chosen], int(rate))
    surface = Surface(pose(predicted.vertices), predicted.triangles)
    vertices, triangles = compacted(*merge_vertices(*truth))
    targets = surface.closest(vertices).points
    held = None
    if BENT[region] is not None:
        wanted = list(BENT[region])
        held = Keypoints(cKDTree(vertices).query(marks[wanted])[1], pose(keypoints[wanted]))
    bent = bend_region(vertices, triangles, targets, held)
    return np.linalg.norm(surface.closest(bent).points - vertices, axis=1), vertices, triangles


def template_keypoints(template: Path) -> tuple[np.ndarray, np.ndarray]:
    """Triangle numbers [85] and weights [85, 3] of T.txt (JSON rows: triangle, first weight, second weight).

    Raises:
        InputError: The file is none of these.
    """
    path = template.with_suffix(".txt")
    try:
        rows = np.array(json.loads(path.read_text("utf-8")), np.float64).reshape(-1, 3)
    except (OSError, ValueError) as error:
        raise InputError(path, "no readable list", "85 rows [triangle, w0, w1] beside the template") from error
    if len(rows) != 85:
        raise InputError(path, f"{len(rows)} rows", "85 rows [triangle, w0, w1]")
    return rows[:, 0].astype(np.int64), np.stack([rows[:, 1], rows[:, 2], 1 - rows[:, 1] - rows[:, 2]], 1)


def score(item: Item) -> Outcome:
    """One image: all four regions."""
    path, template = item.files["prediction"][0], item.files["template"][0]
    mesh, wanted = read_obj(path), read_obj(template)
    if mesh.vertices.shape != wanted.vertices.shape or not np.array_equal(mesh.triangles, wanted.triangles):
        found = f"{len(mesh.vertices)} vertices and {len(mesh.triangles)} triangles, or another order of them"
        expected = f"the topology of {template.name} ({len(wanted.vertices)}, {len(wanted.triangles)})"
        raise InputError(path, found, expected, "Give the right --template; write meshes without reordering.")
    numbers, weights = template_keypoints(template)
    if numbers.min() < 0 or numbers.max() >= len(wanted.triangles):
        raise InputError(template.with_suffix(".txt"), "a triangle that is not there", template.name)
    keypoints = (mesh.vertices[mesh.triangles[numbers]] * weights[..., None]).sum(1)
    marks = _vertices(item.files["keypoints"][0])
    if len(marks) != 85:
        raise InputError(item.files["keypoints"][0], f"{len(marks)} vertices", "85 keypoints")
    pose = global_alignment(keypoints[list(SEVEN)], marks[list(SEVEN)])
    off = root_mean_square(np.linalg.norm((pose(keypoints) - marks)[list(SEVEN)], axis=1))
    if not off <= MISFIT * np.linalg.norm(marks[36] - marks[45]):
        raise InputError(path, "keypoints that do not fit the scan's", f"the topology of {template.name}")
    predicted, keypoints, mm = Surface(pose(mesh.vertices), mesh.triangles), pose(keypoints), item.settings["mm"]
    eyes = mm * float(np.linalg.norm(marks[36] - marks[45]))
    if not EYES_MM[0] <= eyes <= EYES_MM[1]:
        found = f"outer eye corners {eyes:.3g} mm apart by metrical_scale.txt ({mm:g} mm per unit)"
        raise InputError(item.files["keypoints"][0], found, f"{EYES_MM[0]:g} to {EYES_MM[1]:g} mm")
    figures, distances, parts = {}, [], []
    for region, file in zip(REALY_REGIONS, item.files["regions"], strict=True):
        part = read_mesh(file)
        errors, vertices, triangles = region_errors(
            predicted, keypoints, (part.vertices, part.triangles), marks, region
        )
        figures[region] = mm * float(errors.mean())
        distances.append(mm * errors)
        parts.append((mm * vertices, triangles + sum(len(v) for v, _ in parts)))
    figures["all"] = float(np.mean([figures[region] for region in REALY_REGIONS]))
    whole = Shown(*(np.concatenate(column) for column in zip(*parts, strict=True)), *face_axes(marks[list(SEVEN)]))
    return Outcome(item.name, item.subject, item.group, figures, np.concatenate(distances), whole)


def _vertices(path: Path) -> np.ndarray:
    """Vertices of an OBJ that may have no triangles: REALY's keypoints."""
    try:
        lines = path.read_text("utf-8").splitlines()
        rows = [line.split()[1:4] for line in lines if line.startswith("v ")]
        return np.array(rows, np.float64).reshape(-1, 3)
    except (OSError, ValueError) as error:
        raise InputError(path, "no readable OBJ", "85 keypoints as vertices") from error


def _template(folders: Sequence[Path], meshes: Sequence[Path], given: Path | None) -> Path:
    """The predictions' template: as given (a path, or a name in a folder), or the one in a folder that fits."""
    if given is not None:
        choices = [given, *(folder / f"{given}.obj" for folder in folders)]
        path = next((choice for choice in choices if choice.is_file()), None)
        if path is None or not path.with_suffix(".txt").is_file():
            raise InputError(given, "no template", "T.obj with T.txt of 85 keypoints beside it")
        return path
    known = [path for folder in folders for path in sorted(folder.glob("*.obj")) if path.with_suffix(".txt").is_file()]
    # The first that has a known topology tells; those that differ from it are refused one by one.
    topologies = [(path, read_obj(path).triangles) for path in known]
    for mesh in meshes:
        try:
            triangles = read_obj(mesh).triangles
        except InputError:
            continue
        for path, wanted in topologies:
            if np.array_equal(wanted, triangles):
                return path
    if meshes:
        names = ", ".join(path.name for path in known)
        expected = f"one of {names}" if names else "a template T.obj with T.txt of its 85 keypoints in DATA"
        raise InputError(meshes[0], "a topology that no template has", expected, "Give yours with --template.")
    raise InputError(folders[0], "no prediction", "<id>.obj or <id>_<view>.obj", "See docs/evaluation.md.")


def find(data: Path, predictions: Path, options: Options) -> Found:
    """One item per prediction; images of REALY_image without one are missing."""
    marks = need_folder(data / "REALY_HIFI3D_keypoints", "REALY's <id>.obj of keypoints")
    regions = need_folder(data / "REALY_scan_region", "REALY's <id>/{nose,mouth,forehead,cheek}.obj")
    try:
        scales = np.loadtxt(data / "metrical_scale.txt", ndmin=1)
    except (OSError, ValueError) as error:
        raise InputError(
            data / "metrical_scale.txt", "no readable list", "millimetres per unit, a line each"
        ) from error
    images = {p.stem: p for p in sorted(data.glob("REALY_image/**/*")) if p.suffix.lower() in PICTURES}
    meshes = {p.stem: p for p in sorted(predictions.glob("*")) if p.suffix.lower() in MESHES}
    jobs = [FitJob(n, (images[n],), predictions / n, True, "none") for n in sorted(images) if n not in meshes]
    if not meshes and jobs:
        return Found((), tuple((job.name, "no prediction") for job in jobs), tuple(jobs))
    template = _template((data, predictions / "template"), list(meshes.values()), options.template)
    subjects = {path.stem for path in marks.glob("*.obj")}
    items = []
    missing = [(job.name, "no prediction") for job in jobs]
    if not images:
        missing += [(s, "no prediction") for s in sorted(subjects) if not any(n.split("_")[0] == s for n in meshes)]
    for name, mesh in meshes.items():
        subject = name.split("_")[0]
        parts = tuple(regions / subject / f"{region}.obj" for region in REALY_REGIONS)
        lacking = [p for p in (marks / f"{subject}.obj", *parts) if not p.is_file()]
        if lacking or not subject.isdigit() or not 1 <= int(subject) <= len(scales):
            missing.append((name, f"no truth: {lacking[0]}" if lacking else f"no metrical scale of {subject}"))
            continue
        files = {
            "prediction": (mesh,),
            "template": (template, template.with_suffix(".txt")),
            "keypoints": (marks / f"{subject}.obj",),
            "regions": parts,
        }
        settings = {"mm": float(scales[int(subject) - 1])}
        items.append(Item(name, subject, "side" if "_" in name else "frontal", files, settings))
    return Found(tuple(items), tuple(sorted(missing)), tuple(jobs), (f"Template: {template.name}.",))


def tables(outcomes: Sequence[Outcome], options: Options) -> tuple[Table, ...]:
    """Frontal and side views apart: mean/median±sample standard deviation of each region, and the mean of the four."""
    found = []
    for group in groups_of(outcomes):
        chosen = of_group(outcomes, group)
        cells: dict[str, float | str | None] = {"images": len(chosen)}
        ranges: dict[str, float | str | None] = {}
        for region in REALY_REGIONS:
            mean, spread, interval = mean_cells(chosen, region, options.seed)
            median = float(np.median([outcome.numbers[region] for outcome in chosen]))
            cells[region] = f"{mean:.3f}/{median:.3f}±{spread:.3f}"
            ranges[region] = interval_text(interval, 3)
        mean, _, interval = mean_cells(chosen, "all", options.seed)
        cells["all"], ranges["all"] = mean, interval_text(interval, 3)
        published = REALY_SIDE if group == "side" else REALY_FRONTAL
        rows = (Row("ours", cells), Row("ours, 95 % CI of the mean", ranges), *published)
        title = f"REALY, {group} images: mean/median±std of the regions' errors, mm"
        found.append(Table(title, ("images", "all", *REALY_REGIONS), rows, 3))
    return tuple(found)


REALY_PROTOCOL = Protocol(
    "realy",
    "REALY",
    find,
    score,
    tables,
    takes=frozenset({"template"}),
    curve_of="vertices of the four regions, pooled over images",
    notes=(
        "The benchmark calls its error NMSE; it is a mean Euclidean distance, in mm through metrical_scale.txt. It is "
        "measured between the scan's region and where its bent copy touches the prediction (czh-98/REALY).",
        "Single precision of the original is not reproduced, and doubles of scan vertices are joined within a "
        "millionth of the extent; a part of a region without any pair stays put, where the original is undetermined.",
        "Published rows are the benchmark's leaderboard, as it stands; 'all' is the mean of the four regions.",
    ),
)
