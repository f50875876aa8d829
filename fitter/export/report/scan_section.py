"""The report's part on a scan: how the face was found, the scan beside the levels, distances."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from fitter.export.records import face_valid_share
from fitter.export.report.parts import image, three_turns
from fitter.export.report.scan_pictures import ScanStudio
from fitter.result.types import FitResult, LevelResiduals

PARTS = {"all": "whole face", "skin": "without eyes, nostrils, inside of the mouth"}


def scan_facts(result: FitResult) -> str:
    """One line on the scan for the head of the page."""
    scan = result.session.scan
    noise = f"noise {scan.noise_mm:.2f} mm" if scan.noise_mm > 0 else "no noise found"
    return (
        f"{scan.path.name}, {len(scan.triangles):,} triangles once cleaned, edges of {scan.edge_mm:.2g} mm, {noise}, "
        f"in {scan.unit}"
    )


def scan_section(result: FitResult, studio: ScanStudio) -> str:
    """Everything on the scan; `studio` draws `result`."""
    rows = "".join(
        f'{three_turns(pictures, label)}<div style="height:10px"></div>' for label, pictures in studio.clay_rows()
    )
    sheet = image(studio.error_sheet, "", alt="the scan coloured by its distance to M0, M1 and M2")
    return (
        f'<h2>The scan</h2><p class="explain">{escape(found_in_words(result))} Below, the cleaned scan and the three '
        "levels from the same three sides: a feature of the scan should sit at the same place in all of them.</p>\n"
        f"{rows}\n"
        '<h3>How far the scan is from the fit</h3><p class="explain">Each point of the scan, coloured by its distance '
        "to the closest point of the fit. Dark eyes and lips' lines are usual: scanners see eyeballs badly, and the "
        "inside of the mouth not at all. A fold of the fit does not show here, as another part of it may lie close: "
        "look for folds in the rows above.</p>\n"
        f'{sheet}<div style="height:14px"></div>{_table(result)}'
    )


def found_in_words(result: FitResult) -> str:
    """How the face was found in the scan, and how sure that is."""
    alignment = result.scan.alignment
    method, score = alignment.get("method"), _number(alignment.get("score"))
    runner_up, certain = _number(alignment.get("runner_up")), bool(alignment.get("certain"))
    if method == "landmarks":
        source = _landmark_source(result)
        text = f"The face was placed by landmarks ({source}) and then by its surface"
        end = (
            "most landmarks agree with the surface"
            if certain
            else "the landmarks do not agree well with the surface, so look whether it sits right"
        )
        return f"{text} (misfit {score:.2f}; 0 would be the model's own face, more than 0.5 no face): {end}."
    text = "The scan stood where the model stands, and the search found no better pose"
    if method != "in place":
        text = "The face was found by its shape alone, in any pose"
    beside = f"misfit {score:.2f}; 0 would be the model's own face, more than 0.5 no face"
    if math.isfinite(runner_up):
        beside += f"; the best other pose has {runner_up:.2f}"
    end = (
        "such a lead was never wrong in our tests" if certain else "that is not certain, so look whether it sits right"
    )
    return f"{text} ({beside}): {end}."


def _landmark_source(result: FitResult) -> str:
    given = result.session.scan.landmarks
    count = 0 if result.scan.landmark_mm is None else len(result.scan.landmark_mm["M1"])
    if given is None:
        return f"{count} carried over from the photographs"
    return f"{count} of {given.source}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cells(numbers: LevelResiduals) -> str:
    millimetres = (numbers.median_mm, numbers.mean_mm, numbers.p90_mm)
    degrees = (numbers.normal_median, numbers.normal_mean)
    shown = [f"{value:.3f}" if math.isfinite(value) else "–" for value in millimetres]
    shown += [f"{value:.1f}" if math.isfinite(value) else "–" for value in degrees]
    return "".join(f'<td class="number">{text}</td>' for text in [*shown, f"{numbers.count:,}"])


def _table(result: FitResult) -> str:
    outcome = result.scan
    rows = []
    for level, parts in outcome.residuals.items():
        for index, (part, label) in enumerate(PARTS.items()):
            lead = f'<td rowspan="{len(PARTS)}"><b>{escape(level)}</b></td>' if index == 0 else ""
            rows.append(f"<tr{' class=first' if index == 0 else ''}>{lead}<td>{label}</td>{_cells(parts[part])}</tr>\n")
    head = (
        '<tr><th>level</th><th>part</th><th class="number">median, mm</th><th class="number">mean, mm</th>'
        '<th class="number">90 % below, mm</th><th class="number">normals, median °</th>'
        '<th class="number">normals, mean °</th><th class="number">points</th></tr>'
    )
    facts = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in _facts(result))
    return (
        '<p class="explain">Points spread evenly over the scan within 80 mm of the nose tip, other than those that the '
        "fit used.</p>\n"
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>\n'
        f'<div class="scroll" style="margin-top:18px"><table>{facts}</table></div>\n'
    )


def _facts(result: FitResult) -> list[tuple[str, str]]:
    outcome = result.scan
    facts = []
    if outcome.landmark_mm is None:
        facts.append(("Landmarks", "none: whether lips, lids and brows lie on the right place was not measured"))
    else:
        levels = "; ".join(
            f"{level} {np.median(found):.2f} mm median, {found.max():.2f} mm at worst"
            for level, found in outcome.landmark_mm.items()
        )
        facts.append(
            ("Landmarks", f"{levels} (of {len(outcome.landmark_mm['M1'])} points, the same that the fit used)")
        )
    share = face_valid_share(result)
    facts.append(("Measured", f"{100 * share:.0f} % of the face; the rest is the model's (valid.png says where)"))
    folded = outcome.flipped_triangles
    where = f"of {outcome.counted_triangles:,} of the face, lids, nostrils and mouth aside"
    facts.append(("Folded over", f"{folded or 'no'} {'triangle' if folded == 1 else 'triangles'} {where}"))
    return facts
