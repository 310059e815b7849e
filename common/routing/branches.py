"""Work that runs side by side: each piece as soon as what it needs is there, all or nothing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any

from common.request import RequestContext, serving

__all__ = ["LinkedEvent", "run_branches"]

_LOOK_S = 0.02  # how often who waits for a linked event looks whether the others have come


def run_branches(
    needs: Mapping[str, Collection[str]],
    work: Callable[[str, Mapping[str, Any]], Any],
    request: RequestContext,
) -> dict[str, Any]:
    """Runs every piece of work on threads of its own and returns the outcomes by name.

    The first error ends all: it is raised at once, pieces that wait are not begun, and
    those under way are given up (they end at their next `check_wanted`). The caller's own
    request is left as it is.

    Args:
        needs: Name of each piece to the names of those whose outcomes it needs; no circles.
        work: Called with a name and the outcomes so far.
        request: Whose deadline holds; the pieces see a branch of it as the current one.

    Raises:
        DeadlineError: The deadline has passed, or the caller gave up.
    """
    branch = replace(request, given_up=LinkedEvent(request.given_up.is_set))
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    outcomes: dict[str, Any] = {}
    running: dict[Future[Any], str] = {}
    threads = ThreadPoolExecutor(len(needs), thread_name_prefix="branch")
    try:
        while sorter.is_active():
            branch.check()
            for name in sorter.get_ready():
                running[threads.submit(_within, branch, work, name, dict(outcomes))] = name
            left_s = branch.remaining_s()
            done = wait(running, None if left_s == math.inf else left_s, FIRST_COMPLETED).done
            for future in done:
                name = running.pop(future)
                outcomes[name] = future.result()
                sorter.done(name)
    except BaseException:
        branch.give_up()
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    threads.shutdown()
    return outcomes


def _within(
    request: RequestContext,
    work: Callable[[str, Mapping[str, Any]], Any],
    name: str,
    outcomes: Mapping[str, Any],
) -> Any:
    with serving(request):
        request.check()
        return work(name, outcomes)


class LinkedEvent(threading.Event):
    """Is set when it is set itself, or what it is linked to has come about.

    Args:
        come: Tells whether it has.
    """

    def __init__(self, come: Callable[[], bool]) -> None:
        super().__init__()
        self._come = come

    def is_set(self) -> bool:
        """Returns whether it was set, or what it is linked to has come about."""
        return super().is_set() or self._come()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until `is_set`, `timeout` seconds at most; returns whether it is."""
        until_s = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left_s := until_s - time.monotonic()) > 0:
            super().wait(min(left_s, _LOOK_S))
        return self.is_set()
