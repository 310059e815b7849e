"""One thread flies for a key; the others follow."""

from __future__ import annotations

import pytest

from common.routing.cache.flights import Flights


def _nothing():
    return None


def test_the_first_flies_and_the_others_follow():
    flights = Flights()
    flown, followed = flights.join(["a", "b"])
    assert (set(flown), set(followed)) == ({"a", "b"}, set())
    again, followed = flights.join(["b", "c"])
    assert (set(again), set(followed)) == ({"c"}, {"b"})
    flown["b"].bring(3)
    flights.leave(flown)
    assert followed["b"].follow(_nothing) == 3


def test_a_failure_reaches_the_followers():
    flights = Flights()
    flown, _ = flights.join(["a"])
    _, followed = flights.join(["a"])
    flown["a"].fail(RuntimeError("broken"))
    flights.leave(flown)
    with pytest.raises(RuntimeError, match="broken"):
        followed["a"].follow(_nothing)


def test_a_flight_that_is_given_up_brings_nothing_and_the_next_flies():
    flights = Flights()
    flown, _ = flights.join(["a"])
    _, followed = flights.join(["a"])
    flights.leave(flown)
    assert followed["a"].follow(_nothing) is None
    assert set(flights.join(["a"])[0]) == {"a"}


def test_a_follower_looks_whether_it_is_still_wanted():
    flights = Flights()
    flights.join(["a"])
    _, followed = flights.join(["a"])

    def gone():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        followed["a"].follow(gone)
