"""How a data set is made, whom to tell, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from priors.dataset.assemble import ShardLimits
from priors.dataset.session_work import SessionOutcome


@dataclass(frozen=True)
class DatasetOptions:
    """How a data set is made."""

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test among the subjects."""
    unit: str | None = None
    """Of scans and cameras, where a session does not say; None finds it."""
    model: str = "open"
    seed: int = 0
    provider: str | None = None
    """Landmark detector for photographs without landmarks."""
    model_file: Path | None = None
    limits: ShardLimits = field(default_factory=ShardLimits)
    workers: int | None = None
    """Processes; None takes half of the cores, 0 fits in this process."""
    threads: int = 2
    """Of each process. Part of what decides the bytes, so it does not follow the machine."""
    sheets: bool = True
    keep: bool = False
    """Whether to leave the work files."""
    strict: bool = False
    """Whether a session or photograph that cannot be used is an error."""
    again: bool = False
    """Whether to try sessions once more that failed before."""


@dataclass(frozen=True)
class Progress:
    """Whom to tell what; every part may be left out."""

    checked: Callable[[int, int], None] = lambda done, total: None
    """Sessions whose files were read."""
    fitted: Callable[[SessionOutcome | None, int, int], None] = lambda outcome, done, total: None
    """A session is done; once with None before the first."""
    written: Callable[[float], None] = lambda fraction: None


@dataclass(frozen=True)
class DatasetSummary:
    """What was made."""

    samples: int
    sessions: int
    failures: dict[str, str]
    fitted: int
    """Sessions that were fitted now; the others were there."""
    finished_before: bool = False
