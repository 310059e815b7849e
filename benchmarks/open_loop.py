"""Requests that arrive when they arrive, whether or not earlier ones are done.

A closed loop sends the next request when the last is answered and so never sees a queue.
Here arrivals are drawn beforehand (a Poisson process) and what a request waits for a free
client is told apart from what its call takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["OfferedLoad", "offer"]

_LEAD_S = 0.05  # from the start of the clients to the clock's zero


@dataclass(frozen=True)
class OfferedLoad:
    """What became of the requests, in the order of their arrival.

    Args:
        arrivals_s: When each arrived, `(n,)`.
        queueing_s: What it waited until a client took it up, `(n,)`; how late the system
            wakes a client counts as waiting too.
        service_s: What its call took, `(n,)`.
    """

    arrivals_s: npt.NDArray[np.float64]
    queueing_s: npt.NDArray[np.float64]
    service_s: npt.NDArray[np.float64]


def offer(
    call: Callable[[int], object], *, rate_per_s: float, seconds: float, clients: int, seed: int
) -> OfferedLoad:
    """Offers a fixed mean rate of requests and returns their times.

    Args:
        call: Answers the request of that number; called by several threads.
        rate_per_s: Mean rate of arrivals.
        seconds: For how long.
        clients: Threads; each takes up the next request as soon as it is free.
        seed: Of the arrivals.

    Raises:
        Exception: What the first call that failed raised; no request after it is begun.
    """
    random = np.random.default_rng(seed)
    n = round(rate_per_s * seconds)
    arrivals = np.cumsum(random.exponential(1 / rate_per_s, n))
    begun, ended = np.zeros(n), np.zeros(n)
    turn, numbers = threading.Lock(), iter(range(n))
    failures: list[BaseException] = []
    zero = time.perf_counter() + _LEAD_S

    def client() -> None:
        while True:
            with turn:
                number = next(numbers, None)
            if number is None or failures:
                return
            time.sleep(max(0.0, zero + arrivals[number] - time.perf_counter()))
            begun[number] = time.perf_counter()
            try:
                call(number)
            except BaseException as error:  # noqa: BLE001  # raised again where it can be seen
                failures.append(error)
                return
            ended[number] = time.perf_counter()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return OfferedLoad(arrivals, begun - zero - arrivals, ended - begun)
