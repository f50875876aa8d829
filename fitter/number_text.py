"""Tables of numbers as text, one line per row: what an OBJ file mostly is.

Python's own formatting took two seconds for a mesh of 300,000 vertices, a tenth of the whole fit to a scan.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from fitter.threads import in_threads

LARGEST = 2.0**62
"""Of a number in units of its last decimal: what an integer holds."""
ROWS = 50_000
"""Rows that a thread writes at a time."""
POINT, MINUS, ZERO, LINE_END = (ord(character) for character in ".-0\n")


def decimal_lines(keyword: str, table: np.ndarray, decimals: int) -> bytes:
    """One line per row of `table` [N, C]: the keyword, then each number after a blank, with `decimals` digits.

    Rounded to the nearest, ties to even; what rounds to zero has no sign.

    Raises:
        ValueError: A number is not finite, or too large to be written so.
    """

    def scaled(rows: slice) -> np.ndarray:
        numbers = np.rint(np.asarray(table[rows], np.float64) * 10.0**decimals)
        if not (np.abs(numbers) < LARGEST).all():
            raise ValueError(f"{keyword!r}: numbers that are not finite, or beyond {LARGEST / 10.0**decimals:.3g}")
        return numbers.astype(np.int64)

    return _shared_out(lambda rows: _lines(keyword, scaled(rows), [" "] * table.shape[1], decimals), len(table))


def integer_lines(keyword: str, table: np.ndarray, separators: Sequence[str]) -> bytes:
    """One line per row of integers `table` [N, C]: the keyword, then each number after its column's separator."""
    return _shared_out(
        lambda rows: _lines(keyword, np.ascontiguousarray(table[rows], np.int64), separators, 0), len(table)
    )


def _shared_out(lines: Callable[[slice], bytes], count: int) -> bytes:
    """The lines of rows 0 to `count`, written by as many threads as torch uses."""
    cuts = [*range(0, count, ROWS), count]
    return b"".join(in_threads(lines, [slice(start, end) for start, end in itertools.pairwise(cuts)]))


def _lines(keyword: str, rows: np.ndarray, separators: Sequence[str], decimals: int) -> bytes:
    """The lines of integers [N, C] that have a point before their last `decimals` digits."""
    codes = [np.frombuffer(text.encode("ascii"), np.uint8) for text in (keyword, *separators)]
    digits = max(len(str(abs(int(extreme)))) for extreme in (rows.min(), rows.max()))
    # A sign and a point besides.
    longest = sum(len(code) for code in codes) + rows.shape[1] * (max(digits, decimals + 1) + 2) + 1
    ends = np.cumsum([len(code) for code in codes])
    buffer = np.empty(len(rows) * longest, np.uint8)
    return buffer[: _write(rows, np.concatenate(codes), ends, decimals, buffer)].tobytes()


@njit(cache=True, nogil=True)
def _write(rows, codes, ends, decimals, buffer):
    """Write the lines, and say how many characters they have; code k of the text is `codes[ends[k - 1]:ends[k]]`."""
    at = 0
    for row in range(rows.shape[0]):
        for character in codes[: ends[0]]:
            buffer[at] = character
            at += 1
        for column in range(rows.shape[1]):
            for character in codes[ends[column] : ends[column + 1]]:
                buffer[at] = character
                at += 1
            at = _number(rows[row, column], decimals, buffer, at)
        buffer[at] = LINE_END
        at += 1
    return at


@njit(cache=True, nogil=True)
def _number(value, decimals, buffer, at):
    """Write an integer with a point before its last `decimals` digits; returns where it ends."""
    if value < 0:
        buffer[at] = MINUS
        at += 1
        value = -value
    count, rest = 1, value // 10
    while rest > 0:
        count, rest = count + 1, rest // 10
    count = max(count, decimals + 1)
    end = at + count + (1 if decimals > 0 else 0)
    place = end - 1
    for digit in range(count):
        if decimals > 0 and digit == decimals:
            buffer[place] = POINT
            place -= 1
        buffer[place] = ZERO + value % 10
        value //= 10
        place -= 1
    return end
