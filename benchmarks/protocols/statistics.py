"""Sums over items as the papers' tables have them, with bootstrap intervals over subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.metrics import RESAMPLES, Interval, bootstrap_interval
from benchmarks.protocols.types import Outcome

BINS = 4000


def of_group(outcomes: Sequence[Outcome], group: str | None) -> list[Outcome]:
    """The outcomes of one group, or all."""
    return [outcome for outcome in outcomes if group is None or outcome.group == group]


def groups_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Names of the groups, in order of appearance."""
    return list(dict.fromkeys(outcome.group for outcome in outcomes))


def pooled(outcomes: Sequence[Outcome]) -> np.ndarray:
    """All distances together, as NoW pools them: a scan with more vertices weighs more."""
    return np.concatenate([outcome.distances for outcome in outcomes])


def pooled_cells(outcomes: Sequence[Outcome], seed: int) -> dict[str, float | str]:
    """Median, mean and standard deviation of pooled distances, and the median's interval over subjects."""
    distances = pooled(outcomes).astype(np.float64)
    return {
        "images": len(outcomes),
        "median": float(np.median(distances)),
        "mean": float(distances.mean()),
        "std": float(distances.std()),
        "95 % CI of the median": interval_text(pooled_median_interval(outcomes, seed)),
    }


def pooled_median_interval(outcomes: Sequence[Outcome], seed: int) -> Interval:
    """Bootstrap interval over subjects of the pooled median; resamples are counted in fine bins, not sorted anew."""
    distances = pooled(outcomes)
    value = float(np.median(distances))
    subjects = sorted({outcome.subject for outcome in outcomes})
    top = float(np.quantile(distances, 0.999))
    if len(subjects) < 2 or top <= 0:
        return Interval(value, value, value)
    edges = np.append(np.linspace(0, top, BINS), np.inf)
    counts = np.zeros((len(subjects), BINS))
    for outcome in outcomes:
        counts[subjects.index(outcome.subject)] += np.histogram(outcome.distances, edges)[0]
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), RESAMPLES)
    below = np.cumsum(draws.astype(np.float64) @ counts, axis=1)
    medians = edges[(below >= 0.5 * below[:, -1:]).argmax(1)]
    low, high = np.quantile(medians, (0.025, 0.975))
    return Interval(value, min(float(low), value), max(float(high), value))


def mean_cells(outcomes: Sequence[Outcome], key: str, seed: int) -> tuple[float, float, Interval]:
    """Mean over the items of one number, its sample standard deviation, and the mean's interval over subjects."""
    values = np.array([outcome.numbers[key] for outcome in outcomes])
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    interval = bootstrap_interval(values, np.array([outcome.subject for outcome in outcomes]), seed=seed)
    return float(values.mean()), spread, interval


def interval_text(interval: Interval, decimals: int = 2) -> str:
    """`1.10-1.38`; nothing where it is one point, as of a single subject."""
    if interval.low == interval.high:
        return ""
    return f"{interval.low:.{decimals}f}–{interval.high:.{decimals}f}"
