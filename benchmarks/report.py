"""`python -m benchmarks report`: docs/results.md from the files in benchmarks/results.

What a person says about the figures (the largest errors that remain) stands in benchmarks/results/largest-errors.md
and is taken over as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ablation, captures, tuning
from benchmarks.records import RESULTS, read_record
from benchmarks.sensor import SMALL, STUDIO
from benchmarks.sessions.cases import AVERAGE, CASES
from benchmarks.sessions.command import TONE_CASES
from benchmarks.sessions.summary import case_table, persons_share, tone_table
from benchmarks.subjects.skin import usual_tone
from fitter.atomic import write_text

SENSOR_NAMES = {"studio": "full-frame camera's", "small": "small camera's"}
TARGET = Path(__file__).resolve().parents[1] / "docs" / "results.md"
HEAD = """# Results

Made by `python -m benchmarks report` from the files in `benchmarks/results`; do not edit. Distances are in millimetres,
angles in degrees; intervals are 95 % bootstraps over subjects. How each figure is measured stands at the top of the
module that the command names, and in [evaluation](evaluation.md)."""


def _made_by(record: dict[str, Any], command: str) -> str:
    note = f" Mind: {record['note']}." if "note" in record else ""
    return f"`{command}`, {record['date']}, version {record['version']}, {record['device']}.{note}"


def sessions(record: dict[str, Any]) -> str:
    """Accuracy of the photograph path on generated subjects."""
    rows = record["rows"]
    count = len({row["subject"] for row in rows})
    cases = ["one", AVERAGE, *(case.name for case in CASES if not case.name.startswith("one_"))]
    lines = [
        "## Photographs of generated subjects",
        "",
        f"{count} persons whose geometry the model cannot span, {record['size_px']} px, path-traced, with a "
        f"{SENSOR_NAMES[record.get('sensor', 'small')]} noise; mean distance of the true surface (within 80 mm of the "
        "nose tip, facing forward, without eyes, nostrils, inside of the mouth, ears) to each level, and median normal angle, mean over the persons. `average of singles` is the mean of the five "
        "single views' shapes, the naive average of HRN's table 4.",
        "",
        case_table(rows, cases),
        "",
        "M2 per skin tone (0 very light, 6 very dark), mean distance and median normal angle:",
        "",
        tone_table(rows, [case for case in TONE_CASES if any(row["case"].startswith(case) for row in rows)]),
        "",
        "What must hold:",
        "",
        *_checked(record),
        "",
        _made_by(record, f"python -m benchmarks sessions --seeds {_seeds(rows)}"),
    ]
    return "\n".join(lines)


def skin_tones(record: dict[str, Any]) -> str:
    """The same generated persons in light and in dark skins."""
    rows = record["rows"]
    persons = list(dict.fromkeys(row["person"] for row in rows))
    tones = sorted({row["tone"] for row in rows})
    cases = [case for case in TONE_CASES if any(row["case"].startswith(case) for row in rows)]
    own = {person: usual_tone(int(person.split()[-1])) for person in persons}
    lines = [
        "## The same persons in several skins",
        "",
        f"{len(persons)} persons, each with every tone ({', '.join(map(str, tones))}; 0 very light, 6 very dark): shape, "
        "light and cameras are the same, so what differs is the skin's doing.",
        "",
        tone_table(rows, cases),
        "",
        *_checked(record),
        "",
        "Persons of different tones, above, differ in age and furrows too. With the lightest skin on all of them, the "
        "persons of the darkest third against those of the lightest: "
        + ", ".join(persons_share(rows, case, own) for case in cases)
        + ".",
        "",
        _made_by(
            record,
            f"python -m benchmarks sessions --seeds {_seeds(rows)} "
            f"--tones {' '.join(map(str, tones))} --cases {' '.join(dict.fromkeys(row['case'] for row in rows))}",
        ),
    ]
    return "\n".join(lines)


def _seeds(rows: list[dict]) -> str:
    """Of the generated persons, as the command takes them."""
    return " ".join(dict.fromkeys(row.get("person", row["subject"]).split()[-1] for row in rows))


def _checked(record: dict[str, Any]) -> list[str]:
    """One line of Markdown for each check."""
    return [
        f"- {'holds' if check['holds'] else '**missed**'}: {check['line']}: {check['found']}"
        for check in record["checks"]
    ]


def james(record: dict[str, Any]) -> str:
    """A real subject with a scan."""
    return "\n".join(
        [
            f"## Photographs of {record['subject'].capitalize()}",
            "",
            "A real head (textured scan, rendered); median distance of the scan's vertices, median normal angle; seconds "
            f"and memory of the whole command. `noise`, `dark`, `light`: with a small camera's noise "
            f"({SMALL.full_well:,.0f} electrons at white), at the same light, a third and twice; `studio`: with a "
            f"full-frame camera's ({STUDIO.full_well:,.0f}).",
            "",
            captures.table(record["rows"]),
            "",
            _made_by(record, "python -m benchmarks captures CAPTURE --scan SCAN --scan-landmarks FILE"),
        ]
    )


def ablations(record: dict[str, Any]) -> str:
    """What each part gives."""
    rows = record["rows"]
    missing = " and ".join(f"`{name}`" for name in record["not_here"])
    return "\n".join(
        [
            "## Ablation",
            "",
            f"{len(record['subjects'])} generated subjects. HRN's table 3 with its recipe (`mv_hrn`) on the photograph "
            f"from the front, after similarity alignment; the rows {missing} need networks that are not part of this "
            "version:",
            "",
            ablation.table(rows, ablation.PAPER, "similarity"),
            "",
            "Our own parts left out in turn, three calibrated photographs, as they lie:",
            "",
            ablation.table(rows, ablation.OWN, "raw"),
            "",
            _made_by(record, "python -m benchmarks ablation"),
        ]
    )


def scans(record: dict[str, Any]) -> str:
    """The scan path on real scans."""
    lines = [
        "## Scans",
        "",
        "Median distance of samples that the fit did not use to each level, without eyes, nostrils and inside of the "
        "mouth; `nricp` is `trimesh.registration.nricp_amberg` from the same alignment. Seconds: reading, finding the "
        "face, fitting, fusing and writing the folder without a report, in a process that has fitted before.",
        "",
        "| scan | M0 | M1 | M2 | M2 without smoothing | nricp | seconds | seconds of nricp |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in record["scans"]:
        levels = [entry["levels"][level]["skin"]["median_mm"] for level in ("M0", "M1", "M2")]
        peer = entry.get("nricp_amberg", {})
        # Older records have no files among the seconds.
        seconds = sum(entry.get(f"seconds_{part}", 0.0) for part in ("load", "fit", "files"))
        cells = [*levels, entry["m2_without_smoothing"]["median_mm"], peer.get("median_mm", float("nan"))]
        lines.append(
            f"| {entry['scan']} | "
            + " | ".join(f"{value:.3f}" for value in cells)
            + f" | {seconds:.1f} | {peer.get('seconds', float('nan')):.1f} |"
        )
    command, large = record.get("command"), record.get("large")
    if command:
        lines += [
            "",
            f"The whole command, imports and files included: {command['seconds']:.0f} s for {command['scan']}",
        ]
        lines[-1] += f", {large['seconds']:.0f} s for {large['triangles']:,} triangles" if large else ""
        memory = (large or command)["peak_memory_mb"]
        lines[-1] += f" ({memory} MB)."
    held = record.get("held_out_landmarks")
    if held:
        lines += [
            "",
            "M1's distance at landmarks held out, median of each set (every fifth of the inner ones of the first scan): "
            + ", ".join(f"{one['median_mm']:.2f}" for one in held)
            + f" mm; median of all of them {record['held_out_median_mm']:.2f} mm. These are the landmarks where the fit "
            "expects the person to set them who set the others (`m1_as_marked` in landmarks3d.json); the model's own are "
            f"{record['held_out_own_median_mm']:.2f} mm off.",
        ]
    return "\n".join([*lines, "", _made_by(record, "python -m benchmarks scans SCAN…")])


def scan_detail(record: dict[str, Any]) -> str:
    """Fine detail of scans where the truth is known."""
    lines = [
        "## Fine detail of scans",
        "",
        "Generated faces thinned to three densities, with noise; M1 and M2 against the undecimated, noise-free surface, "
        "mean over the faces. `kept` is the share of the detail's amplitude above two texels (least over the faces).",
        "",
        "| edges mm | noise mm | M1 mm | M2 mm | M1 ° | M2 ° | kept | kept by the scan |",
        "|---|---|---|---|---|---|---|---|",
    ]
    trials = record["trials"]
    for edge, noise in dict.fromkeys((trial["edge"], trial["noise"]) for trial in trials):
        chosen = [trial for trial in trials if (trial["edge"], trial["noise"]) == (edge, noise)]
        means = [
            np.mean([t[level][key] for t in chosen]) for key in ("median_mm", "normal_median") for level in ("M1", "M2")
        ]
        kept = [min(t[key]["share"] for t in chosen) if key in chosen[0] else None for key in ("kept", "kept_by_scan")]
        lines.append(
            f"| {edge} | {noise} | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.2f} | {means[3]:.2f} | "
            + " | ".join("" if value is None else f"{value:.2f}" for value in kept)
            + " |"
        )
    return "\n".join([*lines, "", _made_by(record, "python -m benchmarks scan_detail")])


def scan_alignment(record: dict[str, Any]) -> str:
    """Finding the face in a scan."""
    lines = [
        "## Alignment of scans",
        "",
        "| trial | runs | right | certain and wrong | seconds |",
        "|---|---|---|---|---|",
    ]
    for entry in record["summary"]:
        right = "" if entry["right"] is None else entry["right"]
        seconds = f"{entry['seconds']:.2f}"
        lines.append(f"| {entry['trial']} | {entry['runs']} | {right} | {entry['certain_and_wrong']} | {seconds} |")
    return "\n".join([*lines, "", "`python -m benchmarks scan_alignment SCAN…`"])


def speeds(record: dict[str, Any]) -> str:
    """A whole fit against the former version."""
    return "\n".join(
        [
            "## A whole fit, against the former version",
            "",
            f"`hrn fit {' '.join(record['arguments'])}`: {record['medians']['former']:.1f} s before, "
            f"{record['medians']['now']:.1f} s now (medians of {len(record['seconds']['now'])} runs in turns): "
            f"{record['former_over_now']:.2f} times as fast.",
            "",
            _made_by(record, "python -m benchmarks speed --former CHECKOUT"),
        ]
    )


def render(record: dict[str, Any]) -> str:
    """The renderer against its peer, and how much of the silhouettes' gradient each passes on."""
    sizes = list(record["peer_over_ours"])
    lines = [
        f"## Renderer, {record['device']}",
        "",
        f"70,688 triangles, textured, with silhouettes, forward and backward, against {record['peer']} on the same scene "
        f"(medians of {len(record['passes'])} passes; least and most in brackets). The gradient of the silhouette is the "
        "share of the true one, and the relative error in brackets.",
        "",
        "| | " + " | ".join(f"{size} px: ms | {record['peer']}'s time over it | gradient" for size in sizes) + " |",
        "|---" * (1 + 3 * len(sizes)) + "|",
    ]
    last = record["passes"][-1]
    for name in last[sizes[0]]["ms"]:
        cells = []
        for size in sizes:
            cells.append(f"{np.median([one[size]['ms'][name]['total'] for one in record['passes']]):.1f}")
            ratio = record["peer_over_ours"][size].get(name)
            cells.append(f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})" if ratio else "")
            found = last[f"silhouette_gradient_{size}"].get(name)
            cells.append(f"{100 * found['recovered']:.1f} % ({100 * found['relative_error']:.1f} %)" if found else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _made_by(record, "python -m benchmarks render")])


def metrics(record: dict[str, Any]) -> str:
    """Speed of the metrics."""
    closest, now = record["closest points"], record["NoW, one image"]
    return "\n".join(
        [
            "## Metrics",
            "",
            f"Closest points of {closest['points']:,} points on {closest['triangles']:,} triangles: "
            f"{closest['query seconds']:.2f} s (tree: {closest['build seconds']:.2f} s); the whole NoW pipeline per image: "
            f"{now['seconds per image']:.2f} s, on one core.",
            "",
            "`python -m benchmarks speed_metrics`",
        ]
    )


def james_on_gpu(record: dict[str, Any]) -> str:
    """The same captures on a GPU; distances differ in the third digit at most, so seconds are what it is about."""
    lines = [
        f"## Photographs of {record['subject'].capitalize()} on a GPU ({record['device']})",
        "",
        "Seconds of the solvers, of fusing textures and maps, of writing the folder, and of the whole command (which begins "
        "with a process, imports and compiled kernels, and writes on the CPU).",
        "",
        "| case | M1 mm | M2 mm | solvers s | fusion s | writing s | whole command s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        steps = row["timings"]["steps"]
        distances = [row["levels"][level]["median_mm"] for level in ("M1", "M2")]
        cells = [*(f"{d:.3f}" for d in distances), f"{steps['fit']:.1f}", f"{steps['fuse']:.1f}"]
        cells += [f"{row['timings']['writing']:.1f}", f"{row['seconds_whole_command']:.1f}"]
        lines.append(f"| {row['case']} | " + " | ".join(cells) + " |")
    command = "python -m benchmarks captures CAPTURE --scan SCAN --scan-landmarks FILE --device cuda"
    return "\n".join([*lines, "", _made_by(record, command)])


def weights(record: dict[str, Any]) -> str:
    """What other weights would have given, on generated subjects."""
    lines = [
        "## Other weights",
        "",
        f"Each number of the preset `session` by itself, smaller and larger, on {len(record['subjects'])} generated "
        f"subjects ({', '.join(record['cases'])} views, cameras known): change of M2's mean distance (geometric mean over "
        "subjects, with its interval) and of its median normal angle; `better` and `worse` where the interval tells.",
        "",
        tuning.table(record["rows"]),
        "",
    ]
    return "\n".join([*lines, _made_by(record, "python -m benchmarks tuning")])


SECTIONS: tuple[tuple[str, Callable[[dict], str]], ...] = (
    ("sessions", sessions),
    ("skin-tones", skin_tones),
    ("captures-james", james),
    ("captures-james-*", james_on_gpu),
    ("ablation", ablations),
    ("tuning", weights),
    ("scans", scans),
    ("scan-detail", scan_detail),
    ("scan-alignment", scan_alignment),
    ("speed", speeds),
    ("render", render),
    ("render-*", render),
    ("speed-metrics", metrics),
)


def document(results: Path = RESULTS) -> str:
    """The text of docs/results.md; a section without its file is left out, one with several (GPUs) is repeated."""
    parts = [HEAD]
    for name, section in SECTIONS:
        parts += [section(read_record(path)) for path in sorted(results.glob(f"{name}.json"))]
        if name == "tuning" and (results / "largest-errors.md").is_file():
            parts.append((results / "largest-errors.md").read_text("utf-8").strip())
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=TARGET)
    options = parser.parse_args(arguments)
    write_text(options.out, document())
    print(f"-> {options.out}")
    return 0
