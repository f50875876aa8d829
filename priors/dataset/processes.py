"""Sessions side by side in processes of their own, each with a fixed number of threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fitter.errors import InputError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Read by torch, numpy and numba when they are imported, so they stand in the environment before a process starts."""


def default_workers() -> int:
    """Half of the cores that this process may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


@contextmanager
def thread_environment(threads: int) -> Iterator[None]:
    """Fix the number of threads for processes started inside.

    Sums depend on how many threads share them: without a fixed number the same session would give other bytes on
    another machine or beside another process.
    """
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"MKL_DYNAMIC": "FALSE", "OMP_DYNAMIC": "FALSE"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_in_processes(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    on_done: Callable[[Any], None],
    *,
    workers: int,
    threads: int,
    log_folder: Path,
) -> None:
    """Call `function` on every task in spawned processes, and `on_done` with each outcome as it comes.

    Args:
        function: Importable by name.
        tasks: What it is called with; sent one at a time.
        on_done: Called in this process.
        workers: Processes; 0 calls the function here instead.
        threads: Of each process.
        log_folder: Where the processes' own output goes.

    Raises:
        InputError: A process was ended from outside.
        BaseException: Whatever `function` or `on_done` raises; all processes are ended first.
    """
    if workers == 0:
        for task in tasks:
            on_done(function(task))
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(tasks))
    crew: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        with thread_environment(threads):
            for number in range(min(workers, len(tasks))):
                here, there = context.Pipe()
                log = log_folder / f"worker-{number}.log"
                process = context.Process(target=_serve, args=(function, there, log), daemon=True)
                process.start()
                there.close()
                crew[here] = process
                here.send(waiting.pop())
        while crew:
            for connection in wait(list(crew)):
                _take(connection, crew, waiting, on_done, log_folder)
    finally:
        for connection, process in crew.items():
            process.terminate()
            connection.close()
        for process in crew.values():
            process.join()


def _take(connection: Connection, crew: dict, waiting: list, on_done: Callable[[Any], None], logs: Path) -> None:
    """Take one outcome, and give the process its next task or let it go."""
    try:
        outcome = connection.recv()
    except (EOFError, ConnectionResetError):
        process = crew.pop(connection)
        process.join()
        raise InputError(
            "a worker process",
            f"that it was ended from outside (exit code {process.exitcode})",
            "enough memory for all of them",
            f"Run again with fewer --workers; what is done is kept. Its last words are in {logs}.",
        ) from None
    if isinstance(outcome, BaseException):
        raise outcome
    on_done(outcome)
    if waiting:
        connection.send(waiting.pop())
    else:
        connection.send(None)
        process = crew.pop(connection)
        process.join()
        connection.close()


def _serve(function: Callable[[Any], Any], connection: Connection, log: Path) -> None:
    """A process' life: tasks in, outcomes out, until None comes or the parent is gone."""
    # Ctrl-C reaches the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    while (task := connection.recv()) is not None:
        try:
            outcome = function(task)
        except Exception as error:
            import traceback

            traceback.print_exc()
            outcome = error
        connection.send(outcome)


def _follow_parent() -> None:
    """End this process when its parent has ended, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
