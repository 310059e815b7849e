"""Figures of prices do not depend on how many threads the processor lends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from threadpoolctl import threadpool_info

from common.errors import DeadlineError
from common.request import new_request, serving
from kits.finance.governance.arithmetic import arithmetic_library, repeatable_arithmetic

PROGRAM = """
from pathlib import Path
from kits.finance.governance.arithmetic import repeatable_arithmetic
from kits.finance.pipeline import view_market
with repeatable_arithmetic():
    market = view_market(Path({prices!r}), ticker="SP500")
print(repr((market.garch.period_volatility_mean, market.tail.value_at_risk)))
"""


def n_threads():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_one_thread_and_two_give_the_same_bits(bundled_inputs):
    """In processes of their own, which read their number of threads when they start."""
    program = PROGRAM.format(prices=str(bundled_inputs / "sp500.csv"))
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for n in ("1", "2")
    }
    assert len(found) == 1, found


def test_threads_take_turns_and_the_library_gets_its_own_back():
    """Nobody computes while another's limit ends."""
    with repeatable_arithmetic():
        pass  # loads the library
    before, inside, most = n_threads(), [], []

    def work():
        with repeatable_arithmetic():
            inside.append(1)
            most.append((len(inside), n_threads()))
            time.sleep(0.02)
            inside.pop()

    others = [threading.Thread(target=work) for _ in range(5)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert most == [(1, {1})] * 5
    assert n_threads() == before


def test_who_waits_can_be_called_off():
    """A request whose deadline has passed does not wait for its turn."""
    inside, leave = threading.Event(), threading.Event()

    def work():
        with repeatable_arithmetic():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    other.start()
    inside.wait(10)
    try:
        request = new_request(timeout_s=0.01)
        with serving(request), pytest.raises(DeadlineError), repeatable_arithmetic():
            pytest.fail("it did not wait")
    finally:
        leave.set()
        other.join()


def test_the_library_is_named_with_its_version():
    """As the record keeps it."""
    assert any(character.isdigit() for character in arithmetic_library())
