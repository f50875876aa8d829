"""What couples a texel of a map with itself and its eight neighbours, as one field of small matrices.

Where a map is sampled bilinearly, a quadratic energy of the samples is one of the texels, and texels that share no
sample do not meet in it. Put together once, it is applied without going to the samples, of which there are ten to forty
times as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Couplings:
    """A sum over samples of weight times (weight of one texel) times (weight of another), for each pair that meets."""

    own: Tensor
    """[..., R, R] of a texel with itself."""
    right: Tensor
    """[..., R, R] with the next texel of its row."""
    down: Tensor
    """[..., R, R] with the next texel of its column."""
    diagonal: Tensor
    """[..., R, R] with the texel one further in both; just as much couples the other two of these four."""

    def __add__(self, other: Couplings) -> Couplings:
        return Couplings(
            self.own + other.own, self.right + other.right, self.down + other.down, self.diagonal + other.diagonal
        )


@dataclass(frozen=True)
class Stencil:
    """A symmetric operator on maps [C, R, R]."""

    rows: Tensor
    """[C, 9, C, R, R]: what each texel takes from its neighbours, row by row from the upper left."""

    @staticmethod
    def of(couplings: Sequence[Couplings]) -> Stencil:
        """The sum of couplings of symmetric matrices [C, C]."""
        total = couplings[0]
        for one in couplings[1:]:
            total = total + one
        diagonal = total.diagonal
        parts = (
            _moved(diagonal, 1, 1),
            _moved(total.down, 1, 0),
            _moved(diagonal, 1, 0),
            _moved(total.right, 0, 1),
            total.own,
            total.right,
            _moved(diagonal, 0, 1),
            total.down,
            diagonal,
        )
        return Stencil(torch.stack(parts, 1))

    @property
    def own(self) -> Tensor:
        """[C, C, R, R] the part that keeps to a texel."""
        return self.rows[:, 4]

    def apply(self, grid: Tensor) -> Tensor:
        """[C, R, R] -> [C, R, R]."""
        height, width = grid.shape[-2:]
        padded = pad(grid, (1, 1, 1, 1))
        around = torch.stack([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)])
        return (self.rows * around).flatten(1, 2).sum(1)


def _moved(part: Tensor, down: int, right: int) -> Tensor:
    """The same field one row further down or one column to the right; zero where it came from."""
    height, width = part.shape[-2:]
    return pad(part, (right, 0, down, 0))[..., :height, :width]
