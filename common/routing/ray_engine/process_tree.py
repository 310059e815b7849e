"""The processes that a process has started, and theirs: seen, waited for, ended (Linux)."""

from __future__ import annotations

import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["ProcessWatch", "children_of"]


def children_of(pid: int) -> set[int]:
    """Returns the processes that `pid` has started and that have not ended."""
    return set(_children().get(pid, ()))


class ProcessWatch:
    """Holds on to processes and all that they have started, so that none is mistaken later.

    Args:
        pids: The processes.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        children = _children()
        family, new = set(pids), set(pids)
        while new := {child for pid in new for child in children.get(pid, ())} - family:
            family |= new
        self._handles: list[int] = []
        for pid in family:
            with suppress(ProcessLookupError):
                self._handles.append(os.pidfd_open(pid))

    def end(self, *, wait_s: float) -> int:
        """Waits until they have ended; after `wait_s` it kills those that have not.

        Returns:
            How many were killed.
        """
        poll, left = select.poll(), set(self._handles)
        for handle in left:
            poll.register(handle, select.POLLIN)  # readable once its process has ended
        end_s = time.monotonic() + wait_s
        while left and (left_s := end_s - time.monotonic()) > 0:
            for handle, _ in poll.poll(left_s * 1000):
                poll.unregister(handle)
                left.discard(handle)
        for handle in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in self._handles:
            os.close(handle)
        self._handles = []
        return len(left)


def _children() -> dict[int, list[int]]:
    """Returns the children of each process (proc_pid_stat(5): state, then parent)."""
    found: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(parent)].append(int(stat.parent.name))
    return found
