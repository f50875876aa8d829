"""Generate captures of subjects; see the package's docstring for the command."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.sensor import SENSORS
from benchmarks.subjects.head import EXPRESSIONS
from benchmarks.subjects.mitsuba_scene import available
from benchmarks.subjects.photograph import CaptureSettings, capture
from benchmarks.subjects.pigment import TONES


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subjects", description="Generate captures.")
    parser.add_argument("out", type=Path, help="folder that holds the captures; what is there is not made again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one person each")
    parser.add_argument("--renderer", choices=("mitsuba", "quick"), default="mitsuba")
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--size", type=int, default=640, help="px")
    parser.add_argument("--samples", type=int, default=121, help="paths per pixel, the square of a prime number")
    parser.add_argument("--sensor", choices=tuple(SENSORS), default="studio", help="whose noise the photographs have")
    parser.add_argument("--edge", type=float, default=0.4, help="the subject's edges in the face, mm")
    parser.add_argument("--expression", choices=tuple(EXPRESSIONS), default="neutral")
    parser.add_argument(
        "--tone", type=int, choices=range(len(TONES)), help="0 very light … 6 very dark; default: by seed"
    )
    parser.add_argument("--posed", action="store_true", help="a world frame that is not the model's")
    arguments = parser.parse_args()
    if arguments.renderer == "mitsuba" and not available():
        parser.error("Mitsuba is not installed: pip install 'hrn-fitter[bench]', or --renderer quick")
    for seed in arguments.seeds:
        began = time.perf_counter()
        settings = CaptureSettings(
            seed=seed,
            renderer=arguments.renderer,
            views=arguments.views,
            size=arguments.size,
            samples=arguments.samples,
            sensor=arguments.sensor,
            edge_mm=arguments.edge,
            expression=arguments.expression,
            tone=arguments.tone,
            posed=arguments.posed,
        )
        print(f"{capture(arguments.out, settings)}  {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
