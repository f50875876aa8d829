"""FaceScape's single-view benchmark (Zhu et al. 2021), after zhuhao-nju/facescape: benchmark/code/evaluator.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.metrics import chamfer_distance, mean_normal_error, scan_to_mesh
from benchmarks.protocols.cylinder import SIDE, cylinder_map, cylinder_mesh, depth_map
from benchmarks.protocols.files import first_mesh, need_folder
from benchmarks.protocols.published import LAB_CD, LAB_COLUMNS, LAB_CR, LAB_MNE, WILD_BINS, WILD_CD, WILD_CR, WILD_MNE
from benchmarks.protocols.statistics import interval_text, mean_cells
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Shown, Table
from fitter.camera import clip_from_camera
from fitter.capture.scan.read import RawMesh, read_mesh
from fitter.compare.surface import Surface
from fitter.errors import InputError

PUPILS_MM = (64.0 + 61.7) / 2
"""Distance of the pupils to which every ground truth is scaled."""
FOCALS, VIEWS = (1200, 600, 300), 11
SIZES = (0.4, 2.5)
"""Extents of a prediction, relative to the truth's, that a projected one in the right unit can have."""
FAR_MM, DOUBTFUL_MM = 30.0, 3.0
"""Of depth: what a pixel without any counts as, and the mean from which turned axes are tried."""
FLIPS = ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (-1, -1, -1))
LEAST_OVERLAP = 0.1
PICTURES = (".jpg", ".png", ".jpeg")
PREDEF = ("head_centers", "rotations")
METRICS = (
    ("CD", "Chamfer distance, mm", 2),
    ("MNE", "mean normal error (mapped), rad", 3),
    ("CR", "completeness, %", 1),
)


def _folder(data: Path, name: str) -> Path:
    """A folder of the data set: in DATA/data, as the repository has it, or in DATA itself."""
    return data / "data" / name if (data / "data" / name).is_dir() else data / name


def _predef(data: Path, name: str) -> Path:
    choices = [data / part / f"{name}.npy" for part in ("code/predef", "predef")]
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        raise InputError(data, f"no {name}.npy", f"predef/{name}.npy of facescape/benchmark/code/predef")
    return path


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise InputError(path, f"no readable array ({error})", "the benchmark's own file") from error


def find_wild(data: Path, predictions: Path, options: Options) -> Found:
    """One item per mesh of wild_gt_mesh; 100 numbers to a range of yaw."""
    meshes = need_folder(_folder(data, "wild_gt_mesh"), "FaceScape's wild_gt_mesh/000.obj …")
    predef = tuple(_predef(data, f"wild_{name}") for name in ("pupil_scales", *PREDEF))
    items, missing, jobs = [], [], []
    for truth in sorted(meshes.glob("[0-9][0-9][0-9].obj")):
        number = int(truth.stem)
        prediction = first_mesh(predictions / truth.stem)
        if prediction is None:
            missing.append((truth.stem, "no prediction"))
            jobs += _job(data / "images" / "wild", truth.stem, predictions, "cube", None)
            continue
        files = {"truth": (truth,), "prediction": (prediction,), "predef": predef}
        group = WILD_BINS[min(number // 100, 3)]
        items.append(Item(truth.stem, truth.stem, group, files, {"number": number}))
    return _checked(items, missing, jobs, meshes)


def find_lab(data: Path, predictions: Path, options: Options) -> Found:
    """One item per camera file `SS_F_VV.json` of lab_cam."""
    meshes = need_folder(_folder(data, "lab_gt_mesh"), "FaceScape's lab_gt_mesh/00.obj …")
    cameras = need_folder(_folder(data, "lab_cam"), "FaceScape's lab_cam/SS_F_VV.json")
    predef = tuple(_predef(data, f"lab_{name}") for name in PREDEF)
    items, missing, jobs = [], [], []
    for camera in sorted(cameras.glob("[0-9][0-9]_[0-9]_[0-9][0-9].json")):
        subject, focal, view = camera.stem.split("_")
        prediction, truth = first_mesh(predictions / camera.stem), meshes / f"{subject}.obj"
        if prediction is None or not truth.is_file():
            missing.append((camera.stem, "no prediction" if prediction is None else f"no {truth.name}"))
            if prediction is None and truth.is_file():
                jobs += _job(data / "images" / "lab", camera.stem, predictions, "camera", FOCALS[int(focal)])
            continue
        files = {"truth": (truth,), "prediction": (prediction,), "predef": predef, "camera": (camera,)}
        settings = {"focal": int(focal), "view": int(view)}
        items.append(Item(camera.stem, subject, f"f {FOCALS[int(focal)]}", files, settings))
    return _checked(items, missing, jobs, cameras)


def _job(folder: Path, name: str, predictions: Path, frame: str, focal: float | None) -> list[FitJob]:
    """The fit of one photograph, if it is there."""
    image = next((path for suffix in PICTURES if (path := folder / f"{name}{suffix}").is_file()), None)
    return [] if image is None else [FitJob(name, (image,), predictions / name, False, "none", frame, focal)]


def _checked(items: list[Item], missing: list[tuple[str, str]], jobs: list[FitJob], folder: Path) -> Found:
    if not items and not missing:
        raise InputError(folder, "none of the benchmark's files", "names as the benchmark has them")
    return Found(tuple(items), tuple(missing), tuple(jobs))


def _like(path: Path, predicted: np.ndarray, truth: np.ndarray) -> None:
    """Refuse a projected prediction [V, 2] of another size than the truth's: it is not on the image."""
    ratio = np.ptp(predicted, axis=0).max() / np.ptp(truth, axis=0).max()
    if not SIZES[0] <= ratio <= SIZES[1]:
        found = f"a face {ratio:.3g} times as large on the image as the truth"
        raise InputError(path, found, "a mesh projected onto the source image", "See docs/evaluation.md for the frame.")


def _unturned(path: Path, truth: np.ndarray, depth_of: Callable[[np.ndarray], np.ndarray], flips: Sequence) -> None:
    """Refuse a prediction that fits the truth's depth at least twice as well with some of its axes turned round.

    Args:
        path: Of the prediction.
        truth: [S, S] mm, nan beside the face.
        depth_of: Depth [S, S] of the prediction with its axes times [3] signs.
        flips: Signs to try.
    """
    seen = np.isfinite(truth)

    def misfit(signs: np.ndarray) -> float:
        depth = depth_of(signs)
        joint = seen & np.isfinite(depth)
        if not joint.any():
            return FAR_MM
        apart = (truth - depth)[joint]
        near = np.minimum(np.abs(apart - np.median(apart)), FAR_MM)
        return float((near.sum() + FAR_MM * (seen & ~joint).sum()) / seen.sum())

    as_given = misfit(np.ones(3))
    if as_given < DOUBTFUL_MM:
        return
    turned = {signs: misfit(np.array(signs, np.float64)) for signs in flips}
    best = min(turned, key=turned.get)
    if turned[best] <= 0.5 * as_given:
        axes = " and ".join(axis for axis, sign in zip("xyz", best, strict=True) if sign < 0)
        found = f"a mesh that is {as_given:.3g} mm off in depth, and {turned[best]:.3g} mm with its {axes} turned round"
        raise InputError(path, found, "the protocol's axes", "See docs/evaluation.md for the frame.")


def depth_offset(path: Path, truth: np.ndarray, predicted: np.ndarray) -> tuple[float, np.ndarray]:
    """The z that minimises sum |truth - z - predicted| over joint pixels: a median; and the joint pixels.

    The original searches for it with SLSQP, which stops near it.
    """
    joint = np.isfinite(truth) & np.isfinite(predicted)
    if joint.sum() < LEAST_OVERLAP * np.isfinite(truth).sum() or not joint.any():
        found = f"{joint.sum()} pixels in common with the truth's {np.isfinite(truth).sum()}"
        raise InputError(path, found, "a mesh projected onto the source image", "See docs/evaluation.md for the frame.")
    return float(np.median((truth - predicted)[joint])), joint


def score_wild(item: Item) -> Outcome:
    """Orthographic: cube [-1, 1], y up, camera at +z; scaled by the subject's pupils; moved in depth only."""
    scales, centres, turns = (_array(path) for path in item.files["predef"])
    number, path = item.settings["number"], item.files["prediction"][0]
    scale = float(scales[number])
    truth, predicted = read_mesh(item.files["truth"][0]), read_mesh(path)
    _like(path, predicted.vertices[:, :2], truth.vertices[:, :2])

    def depth(mesh: RawMesh, signs: np.ndarray) -> np.ndarray:
        vertices = mesh.vertices * signs
        away = -vertices[:, 2]
        middle, half = 0.5 * (away.max() + away.min()), 0.5 * np.ptp(away) + 1e-9
        clip = np.stack([*(vertices[:, :2] * [1, -1]).T, 0.99 * (away - middle) / half, np.ones_like(away)], 1)
        return depth_map(clip, scale * away, mesh.triangles)

    truth_depth = depth(truth, np.ones(3))
    _unturned(path, truth_depth, lambda signs: depth(predicted, signs), FLIPS)
    offset, _ = depth_offset(path, truth_depth, depth(predicted, np.ones(3)))
    moved = scale * predicted.vertices - [0, 0, offset]
    centre = centres[number] * scale
    return _score(item, truth, scale * truth.vertices, predicted, moved, centre, turns[number], offset)


def score_lab(item: Item) -> Outcome:
    """Perspective: camera axes x right, y down, z forward, the truth's focal length; scaled about the camera only."""
    centres, turns = (_array(path) for path in item.files["predef"])
    path, file = item.files["prediction"][0], item.files["camera"][0]
    try:
        intrinsics, pose = (np.array(part, np.float64) for part in json.loads(file.read_text("utf-8")))
        intrinsics, pose = intrinsics.reshape(3, 3), pose.reshape(3, 4)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(file, f"no readable camera ({error})", "[K 3x3, Rt 3x4]") from error
    truth, predicted = read_mesh(item.files["truth"][0]), read_mesh(path)
    placed = PUPILS_MM * (truth.vertices @ pose[:, :3].T + pose[:, 3])
    moved = PUPILS_MM * predicted.vertices
    if (moved[:, 2] <= 0).any():
        raise InputError(path, "vertices behind the camera", "camera axes: x right, y down, z forward")
    _like(path, moved[:, :2] / moved[:, 2:], placed[:, :2] / placed[:, 2:])
    # A projection looks the same in any unit; how far away the face is does not.
    ratio = float(np.median(moved[:, 2]) / np.median(placed[:, 2]))
    if not SIZES[0] <= ratio <= SIZES[1]:
        found = f"a face {ratio:.3g} times as far from the camera as the truth"
        raise InputError(
            path, found, "pupil distances as unit (1 is 62.85 mm)", "See docs/evaluation.md for the frame."
        )

    def depth(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        import torch

        projection = clip_from_camera(torch.from_numpy(intrinsics), (SIDE, SIDE)).numpy()
        clip = np.concatenate([vertices, np.ones((len(vertices), 1))], 1) @ projection.T
        return depth_map(clip, vertices[:, 2], triangles)

    truth_depth = depth(placed, truth.triangles)
    in_front = [signs for signs in FLIPS if signs[2] > 0]
    _unturned(path, truth_depth, lambda signs: depth(moved * signs, predicted.triangles), in_front)
    offset, joint = depth_offset(path, truth_depth, depth(moved, predicted.triangles))
    mean = float(truth_depth[joint].mean())
    moved = moved * (mean / (mean - offset))
    frame = centres[item.settings["focal"]], turns[item.settings["view"]]
    return _score(item, truth, placed, predicted, moved, *frame, offset)


def _score(
    item: Item,
    truth: RawMesh,
    truth_vertices: np.ndarray,
    predicted: RawMesh,
    vertices: np.ndarray,
    centre: np.ndarray,
    turn: np.ndarray,
    offset: float,
) -> Outcome:
    """Completeness, Chamfer distance and normal errors on the cylinder.

    `centre` (mm) and `turn` bring the standard pose to the image; `offset` is what the depth was moved by, mm.
    """
    placed = [(points - centre) @ turn for points in (truth_vertices, vertices)]
    meshes = [Surface(points, mesh.triangles) for points, mesh in zip(placed, (truth, predicted), strict=True)]
    maps = [cylinder_map(mesh.vertices, mesh.triangles) for mesh in meshes]
    joint = (maps[0].radius > 0) & (maps[1].radius > 0)
    if joint.sum() < LEAST_OVERLAP * (maps[0].radius > 0).sum():
        raise InputError(item.files["prediction"][0], "hardly anything in common with the truth", "a face in its place")
    first, second = (cylinder_mesh(found.radius * joint) for found in maps)
    normals = [mesh.face_normals(found.triangle[joint]) for mesh, found in zip(meshes, maps, strict=True)]
    figures = {
        "CD": chamfer_distance(first, second),
        "MNE": mean_normal_error(*normals, mapped=True),
        "MNE true": mean_normal_error(*normals, mapped=False),
        "CR": 100.0 * float(joint.sum() / (maps[0].radius > 0).sum()),
        "depth": offset,
    }
    if figures["MNE true"] > np.pi / 2:
        found = f"triangles that face inwards (normals {np.degrees(figures['MNE true']):.0f}° off in the mean)"
        raise InputError(item.files["prediction"][0], found, "triangles that face outwards", "Reverse their corners.")
    shown = Shown(first.vertices, first.triangles, np.array([0, 0, 1.0]), np.array([0, 1.0, 0]))
    return Outcome(item.name, item.subject, item.group, figures, scan_to_mesh(first.vertices, second), shown)


def _wild_columns(outcome: Outcome) -> tuple[str, ...]:
    return (outcome.group, "all")


def _lab_columns(outcome: Outcome) -> tuple[str, ...]:
    """The angle's column has images of the first focal length only, as in the benchmark."""
    _, focal, view = outcome.name.split("_")
    angle = "0°" if view == "00" else "30°" if int(view) < 9 else "60°"
    return (*((angle,) if focal == "0" else ()), outcome.group, "all")


def _tables(columns: tuple[str, ...], columns_of: Callable, published: dict[str, tuple[Row, ...]], title: str):
    def tables(outcomes: Sequence[Outcome], options: Options) -> tuple[Table, ...]:
        found = []
        for key, what, decimals in METRICS:
            rows = []
            for name, number in (("ours", key), *((("ours, true angle", "MNE true"),) if key == "MNE" else ())):
                cells: dict[str, float | str | None] = {}
                for column in columns:
                    chosen = [outcome for outcome in outcomes if column in columns_of(outcome)]
                    cells[column] = mean_cells(chosen, number, options.seed)[0] if chosen else None
                interval = mean_cells(outcomes, number, options.seed)[2]
                extra = {"95 % CI of all": interval_text(interval, decimals), "images": len(outcomes)}
                rows.append(Row(name, cells | extra))
            names = (*columns, "95 % CI of all", "images", "done")
            found.append(Table(f"{title}: {what}", names, (*rows, *published[key]), decimals))
        return tuple(found)

    return tables


_NOTES = (
    "Predictions are projected onto the image by their makers; only depth is solved (a median where the original "
    "searches with SLSQP). No rotation, no ICP.",
    "MNE compares face normals after the benchmark's mapping n -> (n+1)/|n+1|, which squeezes angles; the true angle "
    "is a row of its own and not comparable with published ones.",
    "'done' is the share of the benchmark's images for which the published methods gave a result.",
    "The sources differ: HRN's table 1 gives Deep3D 3.80 mm and 0.092 rad in the wild, 5.28 and 0.118 in the lab; the "
    "benchmark's files have 5.50 and 0.119, 5.28 and 0.118 for it (Deep3DFaceRec).",
    "Where a ray from the axis meets a surface more than once, the outermost hit counts; the original keeps its ray "
    "tracer's last.",
)
WILD_PROTOCOL = Protocol(
    "facescape-wild",
    "FaceScape, in the wild",
    find_wild,
    score_wild,
    _tables((*WILD_BINS, "all"), _wild_columns, {"CD": WILD_CD, "MNE": WILD_MNE, "CR": WILD_CR}, "FaceScape wild"),
    (
        *_NOTES,
        "Columns are ranges of yaw in degrees. The benchmark does not say which images are of one person; intervals are "
        "over images.",
    ),
    curve_of="truth to prediction, pooled; groups: yaw in degrees",
)
LAB_PROTOCOL = Protocol(
    "facescape-lab",
    "FaceScape, in the lab",
    find_lab,
    score_lab,
    _tables(LAB_COLUMNS, _lab_columns, {"CD": LAB_CD, "MNE": LAB_MNE, "CR": LAB_CR}, "FaceScape lab"),
    (*_NOTES, "Columns of angles hold the images of the longest focal length only, as in the benchmark."),
    curve_of="truth to prediction, pooled; groups: focal length in px",
)
