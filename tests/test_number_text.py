"""Tables of numbers as text, against Python's own formatting."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.number_text import decimal_lines, integer_lines


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_decimals_are_those_of_python(decimals):
    random = np.random.default_rng(decimals)
    table = random.normal(size=(500, 3)) * 10.0 ** random.integers(-8, 8, (500, 1))
    table[:3] = [[0.0, -0.0, -1e-12], [0.5, -0.5, 1.5], [-1.0, 99.0, -0.04]]
    rounded = np.round(table, decimals) + 0.0
    expected = "".join("vn" + "".join(f" {number:.{decimals}f}" for number in row) + "\n" for row in rounded)
    assert decimal_lines("vn", table, decimals).decode() == expected


def test_integers_with_their_separators():
    table = np.array([[0, 7, 10], [123456789, 1, 90]])
    assert integer_lines("f", table, [" ", "//", "/"]) == b"f 0//7/10\nf 123456789//1/90\n"
    assert integer_lines("f", table[:0], [" ", " ", " "]) == b""


def test_shares_of_the_threads_follow_one_another(monkeypatch):
    table = np.random.default_rng(0).normal(size=(1001, 3)) * 1e6
    expected = "".join("v" + "".join(f" {number:.3f}" for number in row) + "\n" for row in np.round(table, 3))
    monkeypatch.setattr("fitter.number_text.ROWS", 100)
    assert decimal_lines("v", table, 3).decode() == expected
    assert integer_lines("f", np.arange(1001)[:, None], [" "]).split()[1::2] == [b"%d" % row for row in range(1001)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e15])
def test_what_cannot_be_written_is_an_error(bad):
    with pytest.raises(ValueError, match="finite"):
        decimal_lines("v", np.array([[0.0, bad, 1.0]]), 6)
