"""Settings of the HRN paper with several photographs of one instant: ESRC with two views, FaceScape with three.

The paper says that it follows NoW: seven landmarks, alignment, scan-to-mesh distances. It has no public code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.protocols.fg2018 import PICTURES, by_stem, seven_of
from benchmarks.protocols.files import MESHES, first_mesh, landmarks_beside, load_surface, need_folder, read_points
from benchmarks.protocols.published import ESRC_2VIEW, FACESCAPE_3VIEW
from benchmarks.protocols.scan_to_mesh import Target, score_scan
from benchmarks.protocols.statistics import pooled_cells
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Table
from fitter.capture.scan.read import MM_PER_UNIT, read_mesh
from fitter.errors import InputError

SCALES = "Rt_scale_dict.json"
"""FaceScape's {id: {expression: [scale, Rt]}}; the scale brings a model to millimetres."""
MARKS = (".lnd", ".pp", ".npy", ".txt")


def _entry(
    name: str, subject: str, scan: Path, marks: Path | None, stem: Path, images: Sequence[Path], settings: dict
) -> tuple[Item | None, tuple[str, str] | None, FitJob | None]:
    """The item, or why it is missing and what could make it."""
    if marks is None:
        return None, (name, f"no seven landmarks of the scan {scan.name}"), None
    mesh, seven = first_mesh(stem), landmarks_beside(stem)
    if mesh is None:
        return None, (name, "no prediction"), FitJob(name, tuple(images), stem, neutral=False) if images else None
    if seven is None:
        return None, (name, "a prediction without landmarks (.npy or .txt)"), None
    files = {"scan": (scan,), "scan_landmarks": (marks,), "prediction": (mesh,), "landmarks": (seven,)}
    return Item(name, subject, "all", files, settings), None, None


def _found(entries: Sequence[tuple], data: Path, expected: str, note: str = "") -> Found:
    if not entries:
        raise InputError(data, "no scans", expected, "Check the layout in docs/evaluation.md.")
    items, missing, jobs = (tuple(entry for entry in column if entry) for column in zip(*entries, strict=True))
    return Found(items, missing, jobs, (note,) if note else ())


def find_esrc(data: Path, predictions: Path, options: Options) -> Found:
    """One item per scan with a folder of photographs, `views/<scan>/`, or with a prediction."""
    scans = by_stem(need_folder(data / "scans", "scans/**/*.obj"), "*.obj")
    marks = by_stem(data, "*.lnd")
    entries, unasked = [], 0
    for stem, scan in sorted(scans.items()):
        images = _photographs(data / "views" / scan.stem)
        target = predictions / scan.stem
        if images or first_mesh(target):
            subject = scan.stem.split("_")[0].upper()
            settings = _settings(options, 1.0)
            entries.append(_entry(scan.stem, subject, scan, marks.get(stem), target, images, settings))
        else:
            unasked += 1
    left = f"{unasked} of {len(scans)} scans have neither photographs in views/ nor a prediction: not counted."
    return _found(
        entries, data, "scans/**/<SCAN>.obj with annotations <SCAN>.lnd and views/<SCAN>/*.jpg", left if unasked else ""
    )


def find_facescape(data: Path, predictions: Path, options: Options) -> Found:
    """One item per scan `meshes/<id>/<expression>.ply`; photographs as `views.json` names them."""
    meshes = need_folder(data / "meshes", "FaceScape's <id>/<expression>.ply under meshes/")
    scales = _json(data / SCALES)
    chosen = _json(data / "views.json") if (data / "views.json").is_file() else {}
    entries = []
    for scan in sorted(path for path in meshes.glob("*/*") if path.suffix.lower() in MESHES):
        subject, expression = scan.parent.name, scan.stem
        name = f"{subject}/{expression}"
        try:
            mm = float(scales[subject][expression.split("_")[0]][0])
        except (KeyError, IndexError, TypeError, ValueError):
            entries.append((None, (name, f"no scale in {SCALES}"), None))
            continue
        marks = next((path for suffix in MARKS if (path := scan.with_suffix(suffix)).is_file()), None)
        folder = data / "images" / subject / expression
        images = [folder / f"{view}.jpg" for view in chosen.get(name, ())]
        settings = _settings(options, mm)
        images = [image for image in images if image.is_file()]
        entries.append(_entry(name, subject, scan, marks, predictions / subject / expression, images, settings))
    return _found(entries, data, "meshes/<id>/<expression>.ply")


def _settings(options: Options, mm: float) -> dict:
    """What scoring needs to know: millimetres per unit of the scan (`mm`) and, without scale, of the prediction."""
    if options.unit is not None and not options.rigid:
        raise InputError("--unit", options.unit, "--rigid with it", "A similarity does not ask for a unit.")
    return {"rigid": options.rigid, "mm": mm, "unit": (options.unit or "mm") if options.rigid else None}


def _photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)


def _json(path: Path) -> dict:
    if not path.is_file():
        raise InputError(path, "no such file", "the file of FaceScape's toolkit", "See docs/evaluation.md.")
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "no readable JSON file", "the file of the data set") from error
    if not isinstance(document, dict):
        raise InputError(path, "no JSON object", "the file of the data set")
    return document


def score(item: Item) -> Outcome:
    """As NoW: landmarks, then least squares over the scan's cropped vertices, with or without scale."""
    mm, rigid = item.settings["mm"], item.settings["rigid"]
    scan = read_mesh(item.files["scan"][0])
    target = Target(mm * scan.vertices, scan.triangles, mm * seven_of(item.files["scan_landmarks"][0]))
    path = item.files["prediction"][0]
    eyes = float(np.linalg.norm(target.landmarks[3] - target.landmarks[0]))
    if not 50.0 <= eyes <= 150.0:
        raise InputError(item.files["scan_landmarks"][0], f"outer eye corners {eyes:.3g} mm apart", "50 to 150 mm")
    unit = MM_PER_UNIT[item.settings["unit"]] if rigid else 1.0
    marks = unit * read_points(item.files["landmarks"][0], 7)
    scored = score_scan(path, load_surface(path, unit), marks, target, rigid=rigid, metrical=rigid)
    return Outcome(item.name, item.subject, item.group, scored.numbers(), scored.distances, scored.shown)


def _tables(title: str, published: tuple[Row, ...]) -> Callable[[Sequence[Outcome], Options], tuple[Table, ...]]:
    def tables(outcomes: Sequence[Outcome], options: Options) -> tuple[Table, ...]:
        how = "rigid" if options.rigid else "similarity"
        cells = pooled_cells(outcomes, options.seed)
        cells["scans"] = cells.pop("images")
        rows = (Row(f"ours ({how})", cells), *published)
        return (Table(title, ("scans", "median", "mean", "std", "95 % CI of the median"), rows),)

    return tables


_NOTES = (
    "The paper's split, choice of views, crop and ICP are not public: unverified. Here: NoW's crop, seven landmarks, "
    "least-squares ICP, distances pooled over scans.",
    "The paper says rigid alignment; whether that includes scale is unverified. Default: with scale, as NoW; --rigid: "
    "without (predictions in mm, or as --unit says).",
    "Published rows are table 2 of the HRN paper.",
)
ESRC_PROTOCOL = Protocol(
    "esrc-2view",
    "ESRC, two views",
    find_esrc,
    score,
    _tables("ESRC, two views: scan-to-mesh distance, mm", ESRC_2VIEW),
    _NOTES,
    takes=frozenset({"rigid", "unit"}),
)
FACESCAPE_PROTOCOL = Protocol(
    "facescape-3view",
    "FaceScape, three views",
    find_facescape,
    score,
    _tables("FaceScape, three views: scan-to-mesh distance, mm", FACESCAPE_3VIEW),
    (*_NOTES, "Scans are brought to millimetres by the scale in Rt_scale_dict.json; that file is part of the toolkit."),
    takes=frozenset({"rigid", "unit"}),
)
