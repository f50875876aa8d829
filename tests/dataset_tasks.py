"""What worker processes do in the tests; apart, so that they need not import more."""

from __future__ import annotations

import os
import signal
import time


def square(number: int) -> tuple[int, int, str]:
    """A task's work, as a worker does it."""
    return number, number * number, os.environ["OMP_NUM_THREADS"]


def misbehave(task: str):
    """Another task's work: fails, dies or waits, as asked."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "full":
        raise OSError(28, "No space left on device", "work/x")
    if task == "wait":
        time.sleep(60)
    return os.getpid()
