"""NoW (Sanyal et al. 2019) and its metrical variant (Zielonka et al. 2022), after soubhiksanyal/now_evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.protocols.files import first_mesh, landmarks_beside, load_surface, need_folder, read_points
from benchmarks.protocols.published import NOW
from benchmarks.protocols.scan_to_mesh import Target, score_scan
from benchmarks.protocols.statistics import groups_of, of_group, pooled_cells
from benchmarks.protocols.types import FitJob, Found, Item, Options, Outcome, Protocol, Row, Table
from fitter.capture.scan.read import MM_PER_UNIT, read_mesh
from fitter.errors import InputError

LISTS = ("imagepathsvalidation.txt", "imagepathstest.txt")
CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")


def image_list(data: Path) -> list[str]:
    """Lines `subject/challenge/file.jpg` of the first list that is there."""
    need_folder(data, "NoW's data folder")
    path = next((data / name for name in LISTS if (data / name).is_file()), None)
    if path is None:
        raise InputError(data, "no list of images", " or ".join(LISTS), "Check the layout in docs/evaluation.md.")
    lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    wrong = next((line for line in lines if len(Path(line).parts) != 3), None)
    if wrong is not None or not lines:
        raise InputError(path, repr(wrong) if wrong else "no lines", "lines subject/challenge/file.jpg")
    return lines


def first_of(folder: Path, pattern: str) -> Path | None:
    """The first file in alphabetical order: NoW's code takes the first that glob gives."""
    return next(iter(sorted(folder.glob(pattern))), None)


def find(data: Path, predictions: Path, options: Options, metrical: bool = False) -> Found:
    """Items of NoW's layout: one per image that has a scan, its landmarks and a prediction."""
    items, missing, jobs = [], [], []
    lines = image_list(data)
    need_folder(data / "scans", "NoW's scans/<subject>/*.obj")
    need_folder(data / "scans_lmks_onlypp", "NoW's scans_lmks_onlypp/<subject>/*.pp")
    for line in lines:
        subject, challenge, file = Path(line).parts
        stem = predictions / subject / challenge / Path(file).stem
        name = f"{subject}/{challenge}/{Path(file).stem}"
        scan = first_of(data / "scans" / subject, "*.obj")
        marks = first_of(data / "scans_lmks_onlypp" / subject, "*.pp")
        mesh, seven = first_mesh(stem), landmarks_beside(stem)
        if scan is None or marks is None:
            missing.append((name, f"no {'scan' if scan is None else 'scan landmarks'} of {subject}"))
            continue
        if mesh is None or seven is None:
            missing.append((name, "no prediction" if mesh is None else "a prediction without landmarks (.npy or .txt)"))
            photograph = data / "NoW_Dataset" / line
            if mesh is None and photograph.is_file():
                jobs.append(FitJob(name, (photograph,), stem, neutral=True))
            continue
        files = {"scan": (scan,), "scan_landmarks": (marks,), "prediction": (mesh,), "landmarks": (seven,)}
        settings = {"metrical": metrical, "unit": (options.unit or "m") if metrical else None}
        items.append(Item(name, subject, challenge, files, settings))
    return Found(tuple(items), tuple(missing), tuple(jobs))


def score(item: Item) -> Outcome:
    """One image: see `score_scan`. Scans are in mm; metrical predictions in the unit given (official: metres)."""
    scan = read_mesh(item.files["scan"][0])
    target = Target(scan.vertices, scan.triangles, read_points(item.files["scan_landmarks"][0], 7))
    metrical = item.settings["metrical"]
    mm = MM_PER_UNIT[item.settings["unit"]] if metrical else 1.0
    path = item.files["prediction"][0]
    marks = read_points(item.files["landmarks"][0], 7) * mm
    scored = score_scan(path, load_surface(path, mm), marks, target, rigid=metrical, metrical=metrical)
    return Outcome(item.name, item.subject, item.group, scored.numbers(), scored.distances, scored.shown)


def tables(outcomes: Sequence[Outcome], options: Options, metrical: bool = False) -> tuple[Table, ...]:
    """All images together, then each challenge; distances pooled over images, as NoW pools them."""
    order = [name for name in CHALLENGES if name in groups_of(outcomes)]
    order += [name for name in groups_of(outcomes) if name not in order]
    rows = [Row("ours", pooled_cells(outcomes, options.seed))]
    rows += [Row(f"ours, {name}", pooled_cells(of_group(outcomes, name), options.seed)) for name in order]
    if not metrical:
        rows += NOW
    columns = ("images", "median", "mean", "std", "95 % CI of the median")
    title = "NoW, metrical: scan-to-mesh distance, mm" if metrical else "NoW: scan-to-mesh distance, mm"
    return (Table(title, columns, tuple(rows)),)


_COMMON = (
    "Published rows are of the test set (80 subjects, whose scans are not public); ours are of the list in DATA, "
    "usually the validation set. The two sets' figures are not interchangeable.",
    "Alignment: similarity of seven landmarks (no reflection), then least squares over all cropped scan vertices.",
    "Images without a prediction are counted and left out, as in the official code.",
)

NOW_PROTOCOL = Protocol("now", "NoW", find, score, tables, _COMMON)
METRICAL_PROTOCOL = replace(
    NOW_PROTOCOL,
    name="now-metrical",
    title="NoW, metrical variant",
    takes=frozenset({"unit"}),
    find=lambda data, predictions, options: find(data, predictions, options, metrical=True),
    tables=lambda outcomes, options: tables(outcomes, options, metrical=True),
    notes=(
        "Alignment: rotation and translation only; predictions are in metres unless --unit says otherwise (official "
        "default).",
        "No published figures of the metrical variant could be verified; none are printed.",
        _COMMON[2],
    ),
)
