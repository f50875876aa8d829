"""What a session is fitted from: which of five photographs, with or without their cameras, by which preset."""

from __future__ import annotations

from dataclasses import dataclass

VIEWS = 5
"""Photographs of a capture, spread over yaw -60 … 60°."""


@dataclass(frozen=True)
class Case:
    """One fit of a capture."""

    name: str
    views: tuple[int, ...]
    """Places in the order of the photographs' names."""
    calibrated: bool = True
    """Whether the fit is told the cameras."""
    preset: str = "auto"
    """As `hrn fit --config`."""

    @property
    def configuration(self) -> str:
        """Name of the preset that is used."""
        if self.preset != "auto":
            return self.preset
        return "photo" if len(self.views) == 1 else "session"


FIVE, THREE, TWO = (0, 1, 2, 3, 4), (1, 2, 3), (1, 3)
SINGLES = tuple(Case(f"one_{view}", (view,)) for view in FIVE)
"""Every photograph alone; the front is `one_2`."""
CASES = (
    *SINGLES,
    Case("two", TWO),
    Case("three", THREE),
    Case("five", FIVE),
    Case("two_uncalibrated", TWO, calibrated=False),
    Case("three_uncalibrated", THREE, calibrated=False),
    Case("five_uncalibrated", FIVE, calibrated=False),
)
AVERAGE = "average_of_singles"
"""HRN's table 4, "naive average": the mean of the single views' shapes. It needs all of `SINGLES`."""


def chosen_cases(names: list[str] | None) -> tuple[Case, ...]:
    """The cases called `names` (`one` means all singles), or all of them, in the order of `CASES`."""
    if names is None:
        return CASES
    wanted = {part for name in names for part in ([case.name for case in SINGLES] if name == "one" else [name])}
    return tuple(case for case in CASES if case.name in wanted)
