"""The command `hrn`: subcommands, exit codes, and errors as one line."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from fitter import __version__
from fitter.errors import InputError

COMMANDS = {
    "fit": "fit a hierarchical face to one or more photographs of a person",
    "scan": "fit a hierarchical face to a 3D scan, with or without its photographs",
    "dataset": "turn scanned sessions into training pairs for learned priors",
    "compare": "measure a fit against a scan",
    "eval": "score predictions by a published protocol (NoW, MICC, FG2018, ESRC, REALY, FaceScape)",
    "landmarks": "make and draw face landmarks for photographs",
    "doctor": "tell which models, backends and optional parts are usable here",
    "model": "build the open face model, or describe a model",
}
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: hrn COMMAND [options]\n\n{rows}\n\nhrn COMMAND --help tells more.  hrn --version tells {__version__}."
    )


def _command(name: str) -> Callable[..., object]:
    """Import a command only when it is asked for, so that help is quick."""
    if name == "fit":
        from fitter.cli.fit import fit_command

        return fit_command
    if name == "scan":
        from fitter.cli.scan import scan_command

        return scan_command
    if name == "dataset":
        from fitter.cli.dataset import dataset_command

        return dataset_command
    if name == "compare":
        from fitter.cli.compare import compare_command

        return compare_command
    if name == "eval":
        from fitter.cli.eval import eval_command

        return eval_command
    if name == "landmarks":
        from fitter.cli.entries import landmarks_entry

        return landmarks_entry
    if name == "doctor":
        from fitter.cli.entries import doctor_entry

        return doctor_entry
    from fitter.cli.model import model_command

    return model_command


def run(arguments: Sequence[str]) -> int:
    """Run `hrn` with the given arguments; its exit code is 0: done, 1: our fault, 2: the input's, 130: interrupted."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(
            f"hrn: found the command '{name}'; expected one of {', '.join(COMMANDS)}. See hrn --help.", file=sys.stderr
        )
        return 2
    import tyro

    try:
        outcome = tyro.cli(_command(name), args=rest, prog=f"hrn {name}", description=COMMANDS[name])
    except InputError as error:
        print(f"hrn {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"hrn {name}: interrupted. Run the same command again to continue where it stopped.", file=sys.stderr)
        return INTERRUPTED
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """Entry point of the command; leaves the process."""
    # Imports make many objects that stay: to look for garbage among them again and again takes half a second.
    gc.set_threshold(100_000, 50, 50)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except SystemExit as leaving:  # tyro's, after help or a wrong option.
        _leave(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process at once: to take torch and the kernels down piece by piece takes most of a second."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
