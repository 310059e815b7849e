"""Timing of several sides, step by step in turn, so that what else the machine does hits all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.paired import Interval

__all__ = ["interleave", "ratio", "spread"]


def interleave(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 1,
    wait: Callable[[], object] = lambda: None,
    pause_s: float = 0.0,
) -> dict[str, list[float]]:
    """Returns the seconds of each call, by side.

    Each round calls every side once; the order turns by one from round to round.

    Args:
        sides: What is called, by name.
        rounds: Timed calls of each side.
        warm_up: Calls before them that are not timed.
        wait: Returns when the device has finished; called before and after each call.
        pause_s: Time between calls, so that what a side still does after it has answered
            falls on no other.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            time.sleep(pause_s)
            wait()
            start = time.perf_counter()
            sides[name]()
            wait()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds: Sequence[float]) -> Interval:
    """Returns the median in milliseconds with the quartiles."""
    low, median, high = (1000 * float(q) for q in np.percentile(seconds, (25, 50, 75)))
    return Interval(median, low, high)


def ratio(of: Sequence[float], to: Sequence[float]) -> Interval:
    """Returns the median of the rounds' ratios of `of` to `to`, with their quartiles."""
    low, median, high = (float(q) for q in np.percentile(np.array(of) / np.array(to), (25, 50, 75)))
    return Interval(median, low, high)
