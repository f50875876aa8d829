"""Work shared out to threads, for functions that spend most of their time outside of the interpreter."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_NAME = "hrn-work"


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `function` for every item, in their order, on as many threads as torch uses.

    The first error is raised. Called from one of these threads, it works in that thread alone. Not for functions with
    parallel loops of Numba: where only its simplest threading layer is there, two such loops at once end the process.
    """
    items = list(items)
    count = min(torch.get_num_threads(), len(items))
    if count < 2 or threading.current_thread().name.startswith(_NAME):
        return [function(item) for item in items]
    return list(_pool(torch.get_num_threads()).map(function, items))


@lru_cache(maxsize=4)
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix=_NAME)


if hasattr(os, "register_at_fork"):
    # A forked process (a data loader's worker) has the pools but not their threads, and would wait for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)
