"""`python -m benchmarks speed --former CHECKOUT`: seconds of a whole fit, this version against a former one.

Both run `hrn fit` in processes of their own, in turns, on the same input and machine; the ratio of the medians is what
counts. Peers are in `render` (deodr) and `scans` (non-rigid ICP of trimesh).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.records import RESULTS, headed, write_record
from fitter.errors import InputError

HERE = Path(__file__).resolve().parents[1]


def seconds_of(checkout: Path, arguments: list[str], out: Path) -> float:
    """Wall-clock seconds of one `hrn fit` by the source in `checkout`.

    Raises:
        InputError: The fit failed.
    """
    command = [sys.executable, "-m", "fitter", "fit", *arguments, "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InputError(checkout, f"a fit that failed ({' '.join(last)})", "a fit", "Run it by hand.")
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--former", type=Path, required=True, help="a checkout of the former version (git worktree)")
    parser.add_argument(
        "--runs", type=int, default=5, help="of each version; the first, which warms caches, is left out"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("fit", nargs="*", default=["--builtin", "astronaut"], help="arguments of hrn fit, after --")
    options = parser.parse_args(arguments)
    former = options.former.resolve()
    if not (former / "fitter" / "__main__.py").is_file():
        raise InputError(former, "no package fitter", "a checkout of this project", "git worktree add FOLDER COMMIT")
    fit = [str(Path(part).resolve()) if Path(part).exists() else part for part in options.fit]
    taken: dict[str, list[float]] = {"now": [], "former": []}
    with tempfile.TemporaryDirectory() as work:
        for run in range(options.runs + 1):
            for name, checkout in (("former", former), ("now", HERE)):
                seconds = seconds_of(checkout, fit, Path(work) / f"{name}-{run}")
                if run > 0:
                    taken[name].append(round(seconds, 2))
                print(f"{'warm-up' if run == 0 else run} {name}: {seconds:.1f} s", flush=True)
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    ratio = medians["former"] / medians["now"]
    print(f"former {medians['former']:.1f} s, now {medians['now']:.1f} s: {ratio:.2f} times as fast")
    described = [Path(part).name if Path(part).exists() else part for part in fit]
    record = {"arguments": described, "seconds": taken, "medians": medians, "former_over_now": round(ratio, 3)}
    write_record(options.out, headed("speed", record))
    return 0
