"""`python -m benchmarks sessions`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.records import RESULTS, headed, read_record, write_record
from benchmarks.sensor import SENSORS
from benchmarks.sessions.cases import AVERAGE, CASES, Case, chosen_cases
from benchmarks.sessions.gate import averages, regressions
from benchmarks.sessions.run import Subject, run_subjects
from benchmarks.sessions.summary import case_table, check_lines, checks, tone_table
from benchmarks.subjects.mitsuba_scene import available
from benchmarks.subjects.photograph import CaptureSettings
from benchmarks.subjects.pigment import TONES
from benchmarks.subjects.skin import usual_tone
from fitter.errors import InputError
from fitter.model.cache import cache_folder
from fitter.optimise.config import Configuration, load_configuration
from priors.dataset.processes import default_workers

BASELINE = Path(__file__).parent.parent / "baselines" / "sessions-quick.json"
QUICK_SEEDS, QUICK_CASES = (0, 1, 4), ("one_2", "three")
QUICK_SIZE, QUICK_EDGE_MM = 448, 0.8
TONE_CASES = ("one", "two", "three", "five", "five_uncalibrated")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Shared by the benchmarks that fit sessions."""
    parser.add_argument("--seeds", type=int, nargs="+", help="generated subjects, one person each (default: 0 … 11)")
    parser.add_argument("--renderer", choices=("mitsuba", "quick"), default="mitsuba")
    parser.add_argument("--sensor", choices=tuple(SENSORS), default="studio", help="whose noise the photographs have")
    parser.add_argument(
        "--tones",
        type=int,
        nargs="+",
        choices=range(len(TONES)),
        help="every person in each of these skins, 0 very light … 6 very dark (default: each in its own)",
    )
    parser.add_argument("--size", type=int, default=640, help="of the generated photographs, px")
    parser.add_argument("--real", type=Path, metavar="CAPTURE", help="a real capture of five photographs instead")
    parser.add_argument("--scan", type=Path, help="of the real capture, mm")
    parser.add_argument("--scan-landmarks", type=Path, help="68 landmarks on that scan")
    parser.add_argument("--work", type=Path, help="captures and fits are kept here (default: in the cache folder)")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes side by side")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="result file (default: benchmarks/results/NAME.json)")


def subjects_of(arguments: argparse.Namespace, edge_mm: float = 0.4) -> list[Subject]:
    """The generated subjects, or the real one.

    Raises:
        InputError: A renderer or a real capture's scan is missing.
    """
    if arguments.real is not None:
        if arguments.scan is None:
            raise InputError(arguments.real, "no scan", "the scan of that person", "Give --scan and --scan-landmarks.")
        return [Subject(folder=arguments.real, scan=arguments.scan, scan_landmarks=arguments.scan_landmarks)]
    if arguments.renderer == "mitsuba" and not available():
        raise InputError(
            "--renderer mitsuba",
            "no Mitsuba here",
            "the package mitsuba",
            "pip install 'hrn-fitter[bench]', or --renderer quick (without shadows; not for figures).",
        )
    seeds = arguments.seeds if arguments.seeds is not None else range(12)
    settings = {
        "renderer": arguments.renderer,
        "size": arguments.size,
        "sensor": arguments.sensor,
        "edge_mm": edge_mm,
    }
    return [
        # A person's own tone is not named, so that its photographs are those of the other runs.
        Subject(CaptureSettings(seed=seed, tone=None if tone == usual_tone(seed) else tone, **settings))
        for seed in seeds
        for tone in arguments.tones or (None,)
    ]


def work_folder(arguments: argparse.Namespace) -> Path:
    """Where captures and fits are kept."""
    return arguments.work if arguments.work is not None else cache_folder() / "bench"


def presets(cases: tuple[Case, ...], replaced: dict[str, str] | None = None) -> dict[str, Configuration]:
    """The presets that the cases need; `replaced` names other files for some."""
    names = {case.configuration for case in cases}
    return {name: load_configuration((replaced or {}).get(name, name)) for name in sorted(names)}


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks sessions",
        description="Accuracy of the photograph path on generated subjects, or on a real capture with a scan.",
    )
    add_arguments(parser)
    parser.add_argument("--cases", nargs="+", choices=["one", *(case.name for case in CASES)])
    parser.add_argument("--config", help="run this YAML file instead of the preset session")
    parser.add_argument("--photo-config", help="run this YAML file instead of the preset photo")
    parser.add_argument("--quick", action="store_true", help="three subjects, small pictures of our own renderer")
    parser.add_argument("--gate", action="store_true", help="with --quick: exit code 1 where accuracy has got worse")
    parser.add_argument("--write-baseline", action="store_true", help="with --quick: make this run the baseline")
    options = parser.parse_args(arguments)
    if (options.gate or options.write_baseline) and not options.quick:
        parser.error("--gate and --write-baseline go with --quick")
    if options.quick:
        options.renderer, options.size, options.real = "quick", QUICK_SIZE, None
        options.seeds, options.tones, options.sensor = list(QUICK_SEEDS), None, "studio"
    cases = chosen_cases(list(QUICK_CASES) if options.quick else options.cases)
    replaced = {"session": options.config, "photo": options.photo_config}
    configurations = presets(cases, {name: path for name, path in replaced.items() if path})
    subjects = subjects_of(options, QUICK_EDGE_MM if options.quick else 0.4)
    rows = _run(options, subjects, cases, configurations)
    return _finish(options, rows, subjects)


def _run(options, subjects: list[Subject], cases: tuple[Case, ...], configurations) -> list[dict]:
    began, done = time.perf_counter(), 0

    def tell(rows: list[dict]) -> None:
        nonlocal done
        done += 1
        seconds = time.perf_counter() - began
        print(f"{done}/{len(subjects)} {rows[0]['subject']}: {len(rows)} fits measured, {seconds:.0f} s", flush=True)

    return run_subjects(
        subjects,
        cases,
        configurations,
        work_folder(options),
        workers=options.workers,
        threads=options.threads,
        device=options.device,
        on_rows=tell,
    )


def _finish(options, rows: list[dict], subjects: list[Subject]) -> int:
    names = ["one", *dict.fromkeys(row["case"] for row in rows if not row["case"].startswith("one_"))]
    found = checks(rows)
    if any(case in names for case in ("three", "five")):
        print("\n" + case_table(rows, names))
    if rows[0]["tone"] is not None:
        tones = [case for case in TONE_CASES if any(row["case"].startswith(case) for row in rows)]
        print("\n" + tone_table(rows, tones) + "\n\n" + check_lines(found))
    content = {
        "renderer": None if options.real is not None else options.renderer,
        "sensor": None if options.real is not None else options.sensor,
        "size_px": options.size,
        "configurations": {"session": options.config or "session", "photo": options.photo_config or "photo"},
        "checks": [{"line": check.text, "holds": check.holds, "found": check.found} for check in found],
        "rows": rows,
    }
    if options.quick:
        return _quick(options, rows)
    name = "sessions" if options.tones is None else "skin-tones"
    if options.real is not None:
        name = f"sessions-{subjects[0].name}"
    path = options.out or RESULTS / f"{name}.json"
    write_record(path, headed("sessions", content, options.device))
    print(f"\n{AVERAGE.replace('_', ' ')}: mean of the five single views' shapes\n-> {path}")
    return 0


def _quick(options, rows: list[dict]) -> int:
    found = averages(rows)
    if options.write_baseline:
        write_record(BASELINE, headed("sessions --quick", {"averages": found}, options.device))
        print(f"-> {BASELINE}")
    if not options.gate:
        return 0
    baseline = read_record(BASELINE)
    if baseline is None:
        raise InputError(BASELINE, "no such file", "the committed baseline", "Make it with --quick --write-baseline.")
    lines = regressions(found, baseline["averages"])
    for line in lines:
        print(f"WORSE: {line}")
    print("the gate is closed" if lines else "the gate is open: nothing got worse")
    return 1 if lines else 0
