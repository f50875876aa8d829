"""The gate of continuous integration: a run against a committed baseline."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sessions.levels import LEVELS
from benchmarks.sessions.summary import alignment_of, of_case, values

RELATIVE = 0.05
"""Rise of a mean that is let through: other processors round differently, and the fit follows."""
ABSOLUTE = {"mean_mm": 0.005, "normal_median": 0.1}
"""And this much on top, in mm and degrees."""


def averages(rows: Sequence[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Case -> level -> mean over the subjects of distance (mm) and normal angle (degrees): what a baseline holds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        chosen = of_case(rows, case)
        alignment = alignment_of(chosen)
        found[case] = {
            level: {key: round(float(values(chosen, level, key, alignment).mean()), 4) for key in ABSOLUTE}
            for level in LEVELS
        }
    return found


def regressions(found: dict, baseline: dict) -> list[str]:
    """One line per figure of the baseline that a run exceeds or lacks; empty where the gate is open."""
    lines = []
    for case, levels in baseline.items():
        for level, numbers in levels.items():
            for key, before in numbers.items():
                now = found.get(case, {}).get(level, {}).get(key)
                if now is None:
                    lines.append(f"{case}, {level}, {key}: {before} before, not measured now")
                elif not now <= before * (1 + RELATIVE) + ABSOLUTE[key]:
                    lines.append(f"{case}, {level}, {key}: {before} before, {now} now")
    return lines
