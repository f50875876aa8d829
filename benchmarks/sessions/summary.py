"""What the rows of a run say together: means over subjects with bootstrap intervals, and the lines that must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics import Interval, bootstrap_interval
from benchmarks.sessions.cases import AVERAGE
from benchmarks.sessions.levels import LEVELS

DISTANCE, NORMAL = "mean_mm", "normal_median"
FUSED_GAIN = 0.15
"""How much better than the naive average the fused five views must be."""
TONE_SPREAD = 0.20
"""How much worse the darkest third may be than the lightest."""


@dataclass(frozen=True)
class Check:
    """A line that must hold."""

    text: str
    holds: bool
    found: str


def of_case(rows: Sequence[dict], case: str) -> list[dict]:
    """The rows of one case; `one` is all single views."""
    return [row for row in rows if row["case"] == case or (case == "one" and row["case"].startswith("one_"))]


def alignment_of(rows: Sequence[dict]) -> str:
    """Raw where the cameras were known in several views, similarity where the size is not."""
    return "raw" if all("raw" in row and not row["case"].startswith("one_") for row in rows) else "similarity"


def values(rows: Sequence[dict], level: str, key: str, alignment: str) -> np.ndarray:
    """One number of every row."""
    return np.array([row[alignment][level][key] for row in rows])


def interval(rows: Sequence[dict], level: str, key: str, alignment: str) -> Interval:
    """Mean over the rows, with its bootstrap interval over subjects."""
    return bootstrap_interval(values(rows, level, key, alignment), np.array([row["subject"] for row in rows]))


def thirds(rows: Sequence[dict]) -> tuple[list[str], list[str]]:
    """Names of the lightest and the darkest third of the generated subjects."""
    tones = sorted({(row["tone"], row["subject"]) for row in rows if row["tone"] is not None})
    count = max(1, len(tones) // 3)
    names = [name for _, name in tones]
    return names[:count], names[-count:]


def skins(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """Names of each person in the lightest and in the darkest skin, of those who were photographed in several."""
    tones: dict[str, set] = {}
    for row in rows:
        if row["tone"] is not None:
            tones.setdefault(row.get("person", row["subject"]), set()).add((row["tone"], row["subject"]))
    return [(min(found)[1], max(found)[1]) for found in tones.values() if len(found) > 1]


def persons_share(rows: Sequence[dict], case: str, own: dict[str, int]) -> str:
    """How much worse persons who are dark of their own are than light ones, when all of them have the lightest skin.

    Thirds of different persons differ in more than their skin; what they differ in here is not the skin's doing.

    Args:
        rows: Of persons who were photographed in several skins.
        case: Which photographs.
        own: Each person's own tone.
    """
    chosen = of_case(rows, case)
    lightest = min(row["tone"] for row in chosen)
    named = [dict(row, tone=own[row["person"]]) for row in chosen if row["tone"] == lightest]
    light, dark = (
        values([row for row in named if row["subject"] in names], "M2", DISTANCE, alignment_of(chosen)).mean()
        for names in thirds(named)
    )
    return f"{case} view{'s' * (case != 'one')} {dark:.3f} against {light:.3f} mm ({dark / light - 1:+.0%})"


def checks(rows: Sequence[dict]) -> list[Check]:
    """The lines, as far as the cases are there; of generated subjects only."""
    rows = [row for row in rows if row["tone"] is not None]
    found = []
    for case in ("five", "three"):
        chosen = of_case(rows, case)
        if chosen:
            found.append(_levels(chosen, case, ("M0", "M1"), DISTANCE))
            found.append(_levels(chosen, case, ("M1", "M2"), NORMAL))
    five, average = of_case(rows, "five"), of_case(rows, AVERAGE)
    if five and average:
        fused, naive = (values(part, "M2", DISTANCE, "similarity").mean() for part in (five, average))
        found.append(
            Check(
                f"five views at least {FUSED_GAIN:.0%} below the naive average of single views (M2, mean, similarity)",
                bool(fused <= (1 - FUSED_GAIN) * naive),
                f"{fused:.3f} against {naive:.3f} mm: {1 - fused / naive:.0%} below",
            )
        )
    two = of_case(rows, "two")
    for case in ("three", "five"):
        chosen = of_case(rows, case)
        if two and chosen:
            found.append(_better(chosen, two, case))
    pairs = skins(rows)
    light, dark = ([*names] for names in zip(*pairs, strict=True)) if pairs else thirds(rows)
    who = f"the same {len(pairs)} persons in the darkest skin" if pairs else "the darkest third"
    for case in ("one", "two", "three", "five"):
        chosen = of_case(rows, case)
        if chosen and light != dark:
            found.append(_tones(chosen, case, who, light, dark))
    return found


def _levels(rows: list[dict], case: str, levels: tuple[str, str], key: str) -> Check:
    """Whether the second level is better than the first on every subject."""
    first, second = (values(rows, level, key, "raw") for level in levels)
    what = "normals" if key == NORMAL else "distance"
    unit = "°" if key == NORMAL else " mm"
    better = int((second < first).sum())
    return Check(
        f"{levels[1]}'s {what} better than {levels[0]}'s on every subject ({case} views)",
        better == len(rows),
        f"{better} of {len(rows)}; mean {first.mean():.3f} to {second.mean():.3f}{unit}, "
        f"largest rise {(second - first).max():+.3f}{unit}",
    )


def _tones(rows: list[dict], case: str, who: str, light: list[str], dark: list[str]) -> Check:
    """Whether the subjects with the darkest skins are nearly as good as those with the lightest."""
    alignment = alignment_of(rows)
    first, last = (
        values([row for row in rows if row["subject"] in names], "M2", DISTANCE, alignment).mean()
        for names in (light, dark)
    )
    return Check(
        f"{who} within {TONE_SPREAD:.0%} of the lightest ({case} view{'s' * (case != 'one')}, M2, mean)",
        bool(last <= (1 + TONE_SPREAD) * first),
        f"{last:.3f} against {first:.3f} mm: {last / first - 1:+.0%}",
    )


def _better(rows: list[dict], two: list[dict], case: str) -> Check:
    """Whether more views beat two, beyond the interval of the differences subject by subject."""
    other = {row["subject"]: row for row in two}
    pairs = [(row, other[row["subject"]]) for row in rows if row["subject"] in other]
    gains = np.array([b["raw"]["M2"][DISTANCE] - a["raw"]["M2"][DISTANCE] for a, b in pairs])
    gain = bootstrap_interval(gains, np.array([row["subject"] for row, _ in pairs]))
    return Check(
        f"{case} views better than two beyond the bootstrap interval (M2, mean)",
        gain.low > 0,
        f"gain {gain.text(3)} mm",
    )


def case_table(rows: Sequence[dict], cases: Sequence[str]) -> str:
    """Markdown: per case, mean over subjects per level, with the interval of M2's distance."""
    lines = [
        "| photographs | alignment | M0 mm | M1 mm | M2 mm | 95 % | M0 ° | M1 ° | M2 ° | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        chosen = of_case(rows, case)
        if not chosen:
            continue
        alignment = alignment_of(chosen)
        distances = [interval(chosen, level, DISTANCE, alignment) for level in LEVELS]
        angles = [interval(chosen, level, NORMAL, alignment) for level in LEVELS]
        lines.append(
            f"| {case.replace('_', ' ')} | {alignment} | "
            + " | ".join(f"{entry.value:.3f}" for entry in distances)
            + f" | {distances[-1].low:.3f}–{distances[-1].high:.3f} | "
            + " | ".join(f"{entry.value:.2f}" for entry in angles)
            + f" | {np.mean([row['seconds'] for row in chosen]):.1f} |"
        )
    return "\n".join(lines)


def tone_table(rows: Sequence[dict], cases: Sequence[str]) -> str:
    """Markdown: M2's mean distance and normals per skin tone."""
    tones = sorted({row["tone"] for row in rows if row["tone"] is not None})
    lines = [
        "| skin tone | subjects | " + " | ".join(f"{case.replace('_', ' ')} mm, °" for case in cases) + " |",
        "|---|---|" + "---|" * len(cases),
    ]
    for tone in tones:
        cells = []
        for case in cases:
            chosen = [row for row in of_case(rows, case) if row["tone"] == tone]
            alignment = alignment_of(chosen)
            distance, angle = (values(chosen, "M2", key, alignment).mean() for key in (DISTANCE, NORMAL))
            cells.append(f"{distance:.3f}, {angle:.1f}")
        count = len({row["subject"] for row in rows if row["tone"] == tone})
        lines.append(f"| {tone} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check_lines(found: Sequence[Check]) -> str:
    """Markdown: one line each."""
    return "\n".join(f"- {'holds' if check.holds else 'MISSED'}: {check.text}: {check.found}" for check in found)
