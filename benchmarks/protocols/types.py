"""What a protocol is made of: things to score, what scoring gives, tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Options:
    """What a user may choose; part of every result's key."""

    unit: str | None = None
    """Unit of metrical predictions (`mm`, `cm`, `m`); None: the protocol's own."""
    rigid: bool = False
    """Without scale, where the protocol leaves it open."""
    template: Path | None = None
    """REALY: the predictions' template, T.obj with T.txt beside it."""
    seed: int = 0
    """Of the bootstrap."""

    def given(self) -> dict[str, object]:
        """Those of the choices that only some protocols have and that were made."""
        chosen = {"unit": self.unit, "rigid": self.rigid or None, "template": self.template}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class FitJob:
    """A prediction that this engine can make: photographs in, a mesh and its landmarks out."""

    name: str
    photographs: tuple[Path, ...]
    target: Path
    """The mesh to write, without suffix."""
    neutral: bool
    """Whether the truth has a neutral face, so that the prediction goes without expression."""
    landmarks: str = "seven"
    """What is written beside the mesh: `seven`, `ibug68` or `none`."""
    frame: str = "world"
    """`world` (mm), `camera` (of the photograph, in pupil distances) or `cube` (FaceScape's orthographic one)."""
    focal: float | None = None
    """Focal length that the data set states, px."""


@dataclass(frozen=True)
class Item:
    """One thing that is scored and has one result file: an image, a pair of photographs, a video."""

    name: str
    """Unique in the protocol; may hold slashes."""
    subject: str
    group: str
    """Row or bin of the table: a challenge, a yaw range, a video setting."""
    files: dict[str, tuple[Path, ...]]
    """Role -> files that the result depends on, by content."""
    settings: dict[str, Any] = field(default_factory=dict)
    """JSON-able values that it depends on, too."""


@dataclass(frozen=True)
class Found:
    """What a protocol found in its two folders."""

    items: tuple[Item, ...]
    missing: tuple[tuple[str, str], ...] = ()
    """(name, reason) of what the protocol asks for and nobody gave."""
    jobs: tuple[FitJob, ...] = ()
    """Missing predictions for which there are photographs."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A scored surface, for pictures."""

    vertices: np.ndarray
    """[V, 3] mm."""
    triangles: np.ndarray
    """[F, 3]."""
    forward: np.ndarray
    """[3] unit, where the face looks."""
    up: np.ndarray
    """[3] unit."""


@dataclass(frozen=True)
class Outcome:
    """What scoring one item gave."""

    name: str
    subject: str
    group: str
    numbers: dict[str, float]
    distances: np.ndarray
    """[V] mm on the shown surface; what pooled statistics and curves count."""
    shown: Shown | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    cells: dict[str, float | str | None]
    source: str = ""
    """Empty: measured here. Else where the figures were published."""


@dataclass(frozen=True)
class Table:
    """A table as the paper has it, ours first, the published rows below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    decimals: int = 2


@dataclass(frozen=True)
class Protocol:
    """A benchmark: how to find its parts, score one, and sum up."""

    name: str
    title: str
    find: Callable[[Path, Path, Options], Found]
    score: Callable[[Item], Outcome]
    tables: Callable[[Sequence[Outcome], Options], tuple[Table, ...]]
    notes: tuple[str, ...]
    """Footnotes of every result: which variant this is, and what is not verified."""
    curve_mm: float = 8.0
    """End of the cumulative error curve."""
    curve_of: str = "points pooled over items"
    """What the curve counts, where that is not what the table has."""
    takes: frozenset[str] = frozenset()
    """Which of the options `unit`, `rigid`, `template` mean something here."""
    version: int = 1
    """Raise it when numbers change, so that stored results are made anew."""
