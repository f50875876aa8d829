"""Accuracy, time and memory of whole fits of a captured subject with a scan.

    python -m benchmarks.captures CAPTURE --scan SCAN [--scan-landmarks FILE] [--cases three five …]

CAPTURE is a folder with five calibrated photographs (view_0 … view_4, yaw -60 … 60°) in millimetres. Every case runs
`hrn fit` as a process of its own, so its seconds and its peak memory are the user's; distances are those of `hrn compare`
over the scan's vertices within 80 mm of the nose tip whose normal points forward.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.records import headed, result_path, write_record
from benchmarks.sensor import SMALL, STUDIO, Sensor
from fitter.compare import compare_fit
from fitter.compare.run import load_fit
from fitter.compare.scan import load_scan, load_scan_landmarks
from fitter.texture.colour import linear_to_srgb, srgb_to_linear


@dataclass(frozen=True)
class Case:
    """One fit."""

    name: str
    views: tuple[int, ...]
    alignment: str = "raw"
    options: tuple[str, ...] = ()
    exposure: float | None = None
    """Factor in linear light, with camera noise; None uses the photographs as they are."""
    sensor: Sensor = SMALL


THREE, FIVE = (1, 2, 3), (0, 1, 2, 3, 4)
KNOWN = ("--unit", "mm")
CASES = (
    Case("five", FIVE, options=KNOWN),
    Case("three", THREE, options=KNOWN),
    Case("two", (2, 3), options=KNOWN),
    Case("three_uncalibrated", THREE, "similarity", ("--cameras", "none", "--rig")),
    Case("three_noise", THREE, options=KNOWN, exposure=1.0),
    Case("three_dark", THREE, options=KNOWN, exposure=1.0 / 3.0),
    Case("three_light", THREE, options=KNOWN, exposure=2.0),
    Case("three_studio", THREE, options=KNOWN, exposure=1.0, sensor=STUDIO),
    Case("three_studio_dark", THREE, options=KNOWN, exposure=1.0 / 3.0, sensor=STUDIO),
    Case("three_studio_light", THREE, options=KNOWN, exposure=2.0, sensor=STUDIO),
    Case("one_view_1", (1,), "similarity", KNOWN),
    Case("one_view_2", (2,), "similarity", KNOWN),
    Case("one_view_3", (3,), "similarity", KNOWN),
    Case("three_mv_hrn", THREE, options=(*KNOWN, "--config", "mv_hrn")),
    Case("three_draft", THREE, options=(*KNOWN, "--config", "draft")),
    Case("three_without_report", THREE, options=(*KNOWN, "--no-report")),
)


def expose(source: Path, target: Path, factor: float, sensor: Sensor, seed: int) -> None:
    """Write a photograph `factor` times brighter in linear light, with shot and read noise and clipping, 8 bits."""
    import torch
    from PIL import Image

    encoded = np.asarray(Image.open(source).convert("RGB"), np.float64) / 255.0
    linear = srgb_to_linear(torch.from_numpy(encoded)).numpy() * factor
    seen = sensor.expose(linear, np.random.default_rng(seed))
    shown = linear_to_srgb(torch.from_numpy(seen)).numpy()
    Image.fromarray(np.round(shown * 255.0).astype(np.uint8)).save(target)


def prepared(capture: Path, case: Case, folder: Path) -> Path:
    """The folder to fit: the capture itself, or a copy with other exposures."""
    if case.exposure is None:
        return capture
    folder.mkdir(parents=True)
    for path in sorted(capture.iterdir()):
        if path.suffix == ".png":
            seed = len(path.name) + ord(path.stem[-1])
            expose(path, folder / path.name, case.exposure, case.sensor, seed)
        elif path.suffix in (".pts", ".json"):
            shutil.copy(path, folder / path.name)
    return folder


def run_case(case: Case, capture: Path, scan, scan_landmarks, work: Path, device: str) -> dict:
    """Fit and compare one case."""
    source = prepared(capture, case, work / f"{case.name}-photographs")
    out = work / case.name
    views = [f"view_{number}" for number in case.views]
    command = [sys.executable, "-m", "fitter", "fit", str(source), "--out", str(out), "--device", device]
    command += [*case.options, "--views", *views]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        return {"case": case.name, "failed": output.strip().splitlines()[-1] if output.strip() else "no output"}
    comparison = compare_fit(load_fit(out), scan, scan_landmarks=scan_landmarks)
    levels = {}
    for level in ("M0", "M1", "M2"):
        score = comparison.get(level, case.alignment).score
        levels[level] = {
            "median_mm": round(float(score.median), 4),
            "mean_mm": round(float(score.mean), 4),
            "p90_mm": round(float(score.p90), 4),
            "normal_median_degrees": round(float(score.normal_median), 3),
        }
    timings = json.loads((out / "timings.json").read_text("utf-8"))
    return {
        "case": case.name,
        "views": list(case.views),
        "alignment": case.alignment,
        "levels": levels,
        "seconds_whole_command": round(seconds, 1),
        "timings": timings,
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| case | alignment | M0 mm | M1 mm | M2 mm | M0 ° | M1 ° | M2 ° | s | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['case']} | failed: {row['failed']} |")
            continue
        level = row["levels"]
        distances = " | ".join(f"{level[k]['median_mm']:.3f}" for k in ("M0", "M1", "M2"))
        normals = " | ".join(f"{level[k]['normal_median_degrees']:.2f}" for k in ("M0", "M1", "M2"))
        tail = f"{row['seconds_whole_command']} | {row['peak_memory_mb']}"
        lines.append(f"| {row['case']} | {row['alignment']} | {distances} | {normals} | {tail} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--scan-landmarks", type=Path)
    parser.add_argument("--cases", nargs="*", choices=[case.name for case in CASES])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", type=Path, help="keep the fitted folders here")
    options = parser.parse_args(arguments)
    scan = load_scan(options.scan, unit="mm")
    landmarks = load_scan_landmarks(options.scan_landmarks, "mm") if options.scan_landmarks else None
    chosen = [case for case in CASES if not options.cases or case.name in options.cases]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for case in chosen:
            rows.append(run_case(case, options.capture, scan, landmarks, work, options.device))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    record = headed("captures", {"subject": options.capture.name, "rows": rows}, options.device)
    path = result_path(f"captures-{options.capture.name}", options.device)
    if path.exists() and options.cases:
        known = {row["case"]: row for row in json.loads(path.read_text("utf-8"))["rows"]}
        known.update({row["case"]: row for row in rows})
        record["rows"] = [known[case.name] for case in CASES if case.name in known]
    write_record(path, record)
    print("\n" + table(record["rows"]))


if __name__ == "__main__":
    main()
