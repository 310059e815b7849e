"""An open loop offers what was drawn, answers each request once, and tells waiting from work."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from benchmarks.open_loop import offer


def test_each_request_is_answered_once_at_or_after_its_arrival():
    lock, numbers = threading.Lock(), []

    def call(number):
        with lock:
            numbers.append(number)

    load = offer(call, rate_per_s=2000, seconds=0.1, clients=3, seed=0)
    assert sorted(numbers) == list(range(200))
    assert (load.queueing_s >= 0).all()
    assert (load.service_s >= 0).all()
    assert (np.diff(load.arrivals_s) >= 0).all()


def test_equal_seeds_draw_equal_arrivals():
    loads = [offer(int, rate_per_s=2000, seconds=0.05, clients=2, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(loads[0].arrivals_s, loads[1].arrivals_s)
    assert not np.array_equal(loads[0].arrivals_s, loads[2].arrivals_s)


def test_a_client_that_is_busy_shows_as_waiting_and_not_as_service():
    """One client, 20 ms of work, arrivals every 5 ms: the wait grows, the work does not."""
    load = offer(lambda _: time.sleep(0.02), rate_per_s=200, seconds=0.15, clients=1, seed=0)
    assert load.service_s.min() >= 0.02
    assert load.queueing_s[-1] > 10 * 0.02


def test_a_call_that_fails_ends_the_load_and_is_no_quick_answer():
    asked = []

    def call(number):
        asked.append(number)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        offer(call, rate_per_s=2000, seconds=0.1, clients=3, seed=0)
    assert len(asked) <= 3
