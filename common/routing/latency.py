"""How long a model is likely to take, from what was measured in this process lately."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from common.models.base import ModelProfile

__all__ = ["Latencies"]

_NEWEST_SHARE = 0.2  # weight of the newest time in the moving mean


class Latencies:
    """Moving means of the times of calls, by model and size of batch.

    A mean that is no longer fed is forgotten: otherwise a model once slow would be passed
    over for ever and never be measured again.

    Args:
        forget_after_s: Seconds after which a mean without a new time counts no more.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, forget_after_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._forget_after_s = forget_after_s
        self._clock = clock
        self._lock = threading.Lock()
        # model -> bit length of the number of tasks -> mean seconds and when it was last fed
        self._means: dict[str, dict[int, tuple[float, float]]] = {}

    def record(self, profile: ModelProfile, n_tasks: int, seconds: float) -> None:
        """Takes the time of one call that succeeded, waiting included."""
        size, now_s = n_tasks.bit_length(), self._clock()
        with self._lock:
            sizes = self._means.setdefault(profile.identity, {})
            mean_s, fed_s = sizes.get(size, (seconds, now_s))
            if now_s - fed_s > self._forget_after_s:
                mean_s = seconds
            sizes[size] = (mean_s + _NEWEST_SHARE * (seconds - mean_s), now_s)

    def expected_s(self, profile: ModelProfile, n_tasks: int) -> float | None:
        """Returns the seconds that a call is likely to take at least; None if unknown.

        A batch takes no less than a smaller one; where nothing was measured lately, no less
        than what the profile says of a single task.
        """
        size, now_s = n_tasks.bit_length(), self._clock()
        with self._lock:
            sizes = self._means.get(profile.identity, {})
            live = [
                mean_s
                for measured, (mean_s, fed_s) in sizes.items()
                if measured <= size and now_s - fed_s <= self._forget_after_s
            ]
        if live:
            return max(live)
        return None if profile.latency_ms is None else profile.latency_ms / 1000
