"""Sites of a joint training as threads that hand frames over, for tests without processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from common.protocol.wire import FrameWire


class Mailboxes:
    """A queue from each site to each other; what goes through `lose` is replaced by nothing."""

    def __init__(self, n_sites, *, lose=lambda source, target, number: False) -> None:
        pairs = [(a, b) for a in range(n_sites) for b in range(n_sites)]
        self.queues = {pair: Queue() for pair in pairs}
        self.counts = dict.fromkeys(pairs, 0)
        self.frames = []
        self._lose = lose

    def wire(self, rank):
        return FrameWire(
            rank,
            site=f"site{rank}",
            send=lambda target, frame: self._send(rank, target, frame),
            receive=lambda source, seconds: self.queues[source, rank].get(timeout=60),
        )

    def _send(self, source, target, frame):
        lost = self._lose(source, target, self.counts[source, target])
        self.counts[source, target] += 1
        self.frames.append(frame)
        self.queues[source, target].put(None if lost else frame)


def at_once(*functions):
    """Runs each site's part in a thread of its own; returns results or errors in order."""
    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(function) for function in functions]
        return [future.exception() or future.result() for future in futures]
