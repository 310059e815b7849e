"""Timing in turn."""

from __future__ import annotations

import pytest

from benchmarks.interleaved import interleave, ratio, spread


def test_every_side_is_called_once_in_each_round_and_the_order_turns() -> None:
    calls: list[str] = []
    sides = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    seconds = interleave(sides, rounds=2, warm_up=1)
    assert calls == list("abcbcacab")
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_taken_within_rounds() -> None:
    slow, fast = [2.0, 4.0, 20.0], [1.0, 2.0, 10.0]  # the machine slowed down, for both
    found = ratio(slow, fast)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_a_spread_is_in_milliseconds() -> None:
    found = spread([0.001, 0.002, 0.003])
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(1.5)
