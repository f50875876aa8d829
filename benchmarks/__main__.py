"""`python -m benchmarks NAME …`: each benchmark by name; `NAME --help` tells its settings."""

from __future__ import annotations

import importlib
import sys

from fitter.errors import InputError

COMMANDS = {
    "sessions": ("benchmarks.sessions.command", "accuracy of the photograph path on generated subjects, and its gate"),
    "ablation": ("benchmarks.ablation", "what each stage and energy gives"),
    "tuning": ("benchmarks.tuning", "whether other weights would be better, on generated subjects alone"),
    "errors": ("benchmarks.sessions.error_maps", "pictures of where the photograph path errs"),
    "captures": ("benchmarks.captures", "accuracy, time and memory of whole fits of a real capture with a scan"),
    "scans": ("benchmarks.scans", "accuracy and time of the scan path, against non-rigid ICP"),
    "scan_detail": ("benchmarks.scan_detail", "fine detail of scans where the truth is known"),
    "scan_alignment": ("benchmarks.scan_alignment", "finding the face in a scan in any pose"),
    "render": ("benchmarks.render", "speed of the renderer and its silhouettes, against deodr or nvdiffrast"),
    "speed": ("benchmarks.speed", "seconds of a whole fit, against a former version"),
    "speed_metrics": ("benchmarks.speed_metrics", "speed of the metrics on one core"),
    "report": ("benchmarks.report", "docs/results.md from the result files"),
}


def main() -> int:
    """Run one benchmark; a bad input is one line and exit code 2."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        width = max(len(name) for name in COMMANDS)
        print("python -m benchmarks NAME [settings]\n", file=sys.stderr)
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:<{width}}  {what}", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(COMMANDS[sys.argv[1]][0]).main(sys.argv[2:]) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
