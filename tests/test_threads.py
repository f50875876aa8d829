"""Work in threads: order, errors, threads that ask for threads."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

from fitter.threads import in_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_keep_their_order(three_threads):
    def slow_first(number: int) -> tuple[int, str]:
        time.sleep(0.05 if number == 0 else 0.001)
        return number, threading.current_thread().name

    found = in_threads(slow_first, range(8))
    assert [number for number, _ in found] == list(range(8))
    assert len({name for _, name in found}) > 1
    assert in_threads(slow_first, []) == []


def test_the_first_error_is_raised(three_threads):
    def fails(number: int) -> int:
        if number >= 2:
            raise ValueError(f"item {number}")
        return number

    with pytest.raises(ValueError, match="item 2"):
        in_threads(fails, range(5))


def test_threads_do_not_wait_for_themselves(three_threads):
    """More outer tasks than threads, each with inner ones: they would wait for each other for ever."""
    found = in_threads(lambda outer: sum(in_threads(lambda inner: outer * inner, range(4))), range(9))
    assert found == [6 * outer for outer in range(9)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_has_threads_of_its_own(three_threads):
    assert in_threads(str, range(4)) == list("0123")
    child = os.fork()
    if child == 0:
        os._exit(0 if in_threads(str, range(4)) == list("0123") else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process waits for threads that it does not have")
    assert os.waitstatus_to_exitcode(status) == 0
