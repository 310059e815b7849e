"""How long a model takes at least, from what was measured in this process lately."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from common.models.base import ModelProfile

__all__ = ["Latencies"]

_KEPT = 8  # newest times of a model and size of batch
_ENOUGH = 3  # fewer tell nothing: the first call of a model may load it


@dataclass
class _Times:
    """The newest times of a model for one size of batch."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    fed_s: float = 0.0


class Latencies:
    """The times of calls, by model and size of batch.

    A model is said to take as long as the fastest of its newest calls: one slow call
    is no reason to pass it over. Times that are no longer fed
    are forgotten: a model once slow would else never be measured again.

    Args:
        forget_after_s: Seconds without a new time after which the old ones count no more.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, forget_after_s: float = 20.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._forget_after_s = forget_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, dict[int, _Times]] = {}  # by identity, then size of batch

    def record(
        self, profile: ModelProfile, n_tasks: int, seconds: float, *, finished: bool = True
    ) -> None:
        """Takes the time of one call that succeeded, or was not finished at its deadline.

        Args:
            profile: The model that was called.
            n_tasks: How many tasks it got at once.
            seconds: How long it worked.
            finished: Where it was not, it counts as twice as long: a model that is always
                cut off would else never be known to be slow.
        """
        seconds = seconds if finished else 2 * seconds
        size, now_s = n_tasks.bit_length(), self._clock()
        with self._lock:
            times = self._times.setdefault(profile.identity, {}).setdefault(size, _Times())
            if now_s - times.fed_s > self._forget_after_s:
                times.seconds.clear()
            times.seconds.append(seconds)
            times.fed_s = now_s

    def expected_s(self, profile: ModelProfile, n_tasks: int) -> float | None:
        """Returns the seconds that a call is likely to take at least; None if unknown.

        A batch takes no less than a smaller one; where too little was measured lately, no
        less than what the profile says of a single task.
        """
        size, now_s = n_tasks.bit_length(), self._clock()
        with self._lock:
            known = [
                min(times.seconds)
                for measured, times in self._times.get(profile.identity, {}).items()
                if measured <= size
                and len(times.seconds) >= _ENOUGH
                and now_s - times.fed_s <= self._forget_after_s
            ]
        if known:
            return max(known)
        return None if profile.latency_ms is None else profile.latency_ms / 1000
