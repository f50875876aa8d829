"""The gate: three generated subjects through the whole photograph path, against the committed baseline."""

from __future__ import annotations

import pytest

pytest.importorskip("anny")
from benchmarks.sessions import command


def test_nothing_got_less_accurate(open_model, tmp_path, capsys):
    code = command.main(["--quick", "--gate", "--workers", "0", "--work", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
