"""The FG 2018 challenge on ESRC 2D/3D data (Feng et al. 2018), after patrikhuber/fg2018-competition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.crops import FG2018_FACTOR
from benchmarks.metrics import root_mean_square, scan_to_mesh
from benchmarks.protocols.files import first_mesh, landmarks_beside, load_surface, need_folder, read_points
from benchmarks.protocols.scan_to_mesh import Target, cropped, start_on_landmarks
from benchmarks.protocols.statistics import groups_of, interval_text, mean_cells, of_group, pooled
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Table
from fitter.capture.scan.landmarks import SEVEN_POINTS, read_scan_landmarks
from fitter.capture.scan.read import read_mesh
from fitter.errors import InputError

IMAGES = "Subset_2D_FG2018"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif")
QUALITIES = ("HQ", "LQ")


def by_stem(root: Path, pattern: str) -> dict[str, Path]:
    """Lower-case stem -> file, over all folders below: the data set mixes cases (F1001, f1011)."""
    return {path.stem.lower(): path for path in sorted(root.rglob(pattern), reverse=True)}


def neutral_scan(subject: str, scans: dict[str, Path]) -> Path | None:
    """`<subject>_N.obj`, else the first neutral scan whose name begins so (F1013_NH_2, M1006_2_N)."""
    exact = scans.get(f"{subject.lower()}_n")
    others = sorted(stem for stem in scans if stem.startswith(f"{subject.lower()}_") and "_n" in stem)
    return exact or next((scans[stem] for stem in others), None)


def seven_of(path: Path) -> np.ndarray:
    """[7, 3] mm of a scan's annotation (`.lnd`, `.pp`, text, `.npy`).

    Raises:
        InputError: The file does not hold all seven points.
    """
    marks = read_scan_landmarks(path)
    # Sorted by iBUG number there; the seven come in the challenge's order, with the nose after the eyes.
    row_of = {number: row for row, number in enumerate(marks.indices.tolist())}
    if not all(number in row_of for number in SEVEN_POINTS):
        raise InputError(path, f"{len(marks.points)} points", "the seven points of FG 2018")
    return marks.points[[row_of[number] for number in SEVEN_POINTS]]


def find(data: Path, predictions: Path, options: Options) -> Found:
    """One item per image of Subset_2D_FG2018/{HQ,LQ}."""
    need_folder(data / IMAGES, f"{IMAGES}/HQ and {IMAGES}/LQ")
    scans, marks = by_stem(need_folder(data / "scans", "scans/**/*.obj"), "*.obj"), by_stem(data, "*.lnd")
    items, missing, jobs = [], [], []
    for quality in QUALITIES:
        folder = data / IMAGES / quality
        for image in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES):
            subject = image.stem.split("_")[0].upper()
            name, stem = f"{quality}/{image.stem}", predictions / quality / image.stem
            scan = neutral_scan(subject, scans)
            if scan is None or scan.stem.lower() not in marks:
                missing.append((name, f"no neutral scan with annotation of {subject}"))
                continue
            mesh, seven = first_mesh(stem), landmarks_beside(stem)
            if mesh is None or seven is None:
                reason = "no prediction" if mesh is None else "a prediction without landmarks (.npy or .txt)"
                missing.append((name, reason))
                if mesh is None:
                    jobs.append(FitJob(name, (image,), stem, neutral=True))
                continue
            files = {
                "scan": (scan,),
                "scan_landmarks": (marks[scan.stem.lower()],),
                "prediction": (mesh,),
                "landmarks": (seven,),
            }
            items.append(Item(name, subject, quality, files))
    if not items and not missing:
        raise InputError(data / IMAGES, "no photographs", f"{IMAGES}/HQ/<SUBJECT>_….jpg and LQ")
    return Found(tuple(items), tuple(missing), tuple(jobs))


def score(item: Item) -> Outcome:
    """Landmarks only, no ICP: distances of the scan's vertices in the ball to the aligned prediction."""
    scan = read_mesh(item.files["scan"][0])
    target = Target(scan.vertices, scan.triangles, seven_of(item.files["scan_landmarks"][0]))
    path = item.files["prediction"][0]
    predicted, marks = load_surface(path), read_points(item.files["landmarks"][0], 7)
    points, shown = cropped(target, FG2018_FACTOR, path)
    pose = start_on_landmarks(path, predicted, marks, target, scale=True, metrical=False)
    distances = scan_to_mesh(points, predicted, pose)
    figures = {
        "rmse": root_mean_square(distances),
        "median": float(np.median(distances)),
        "mean": float(distances.mean()),
        "scale": pose.scale,
    }
    return Outcome(item.name, item.subject, item.group, figures, distances, shown)


def tables(outcomes: Sequence[Outcome], options: Options) -> tuple[Table, ...]:
    """3D-RMSE per image, averaged; pooled median beside it. HQ and LQ apart and together."""
    rows = []
    for group in [None, *(name for name in QUALITIES if name in groups_of(outcomes))]:
        chosen = of_group(outcomes, group)
        mean, spread, interval = mean_cells(chosen, "rmse", options.seed)
        cells = {"images": len(chosen), "3DRMSE": mean, "std": spread, "95 % CI of the mean": interval_text(interval)}
        rows.append(Row("ours" + (f", {group}" if group else ""), cells | {"median": float(np.median(pooled(chosen)))}))
    columns = ("images", "3DRMSE", "std", "95 % CI of the mean", "median")
    return (Table("FG 2018: 3DRMSE after seven-landmark alignment, mm", columns, tuple(rows)),)


FG2018_PROTOCOL = Protocol(
    "fg2018",
    "FG 2018 challenge (ESRC)",
    find,
    score,
    tables,
    (
        "Alignment: similarity of seven landmarks, no ICP; ball of 1.2 × the mean of eye and nose lengths "
        "(patrikhuber/fg2018-competition). That the organisers average the images' root mean squares is unverified.",
        "A mirrored landmark alignment, which the official code allows, is refused.",
        "No published figures are printed: none could be verified.",
        "The curve pools points of all images; the table's figure is per image.",
        "Names of scans, annotations and images are matched without regard to case.",
    ),
)
