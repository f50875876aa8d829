"""`python -m benchmarks NAME …`: each benchmark by name; `NAME --help` tells its settings."""

from __future__ import annotations

import importlib
import sys

from fitter.errors import InputError

COMMANDS = {
    "sessions": ("benchmarks.sessions.command", "accuracy of the photograph path on generated subjects, and its gate"),
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
