"""Sites of a joint training as threads that hand frames over, for tests without processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from common.protocol.gradients.wire import FrameWire


class Died(BaseException):
    """What ends a site's thread, as a signal ends a process."""


class Mailboxes:
    """A queue from each site to each other.

    What goes through `lose` is replaced by nothing; the site `dies[0]` is gone when it
    sends its message `dies[1]`, counted over all that it sends.
    """

    def __init__(
        self, n_sites, *, lose=lambda source, target, number: False, dies=(None, 0)
    ) -> None:
        pairs = [(a, b) for a in range(n_sites) for b in range(n_sites)]
        self.queues = {pair: Queue() for pair in pairs}
        self.counts = dict.fromkeys(pairs, 0)
        self.frames = []
        self._lose, self._dies, self._n_sites = lose, dies, n_sites

    def wire(self, rank):
        return FrameWire(
            rank,
            site=f"site{rank}",
            send=lambda target, frame: self._send(rank, target, frame),
            receive=lambda source, seconds: self._receive(source, rank),
        )

    def _receive(self, source, target):
        frame = self.queues[source, target].get(timeout=60)
        if frame is _GONE:
            self.queues[source, target].put(_GONE)  # and so for all that is asked later
            raise ConnectionResetError
        return frame

    def _send(self, source, target, frame):
        if (source, self.sent(source)) == self._dies:
            for other in range(self._n_sites):
                self.queues[source, other].put(_GONE)
            raise Died
        lost = self._lose(source, target, self.counts[source, target])
        self.counts[source, target] += 1
        self.frames.append(frame)
        self.queues[source, target].put(None if lost else frame)

    def sent(self, source):
        return sum(self.counts[source, target] for target in range(self._n_sites))


_GONE = object()


def at_once(*functions):
    """Runs each site's part in a thread of its own; returns results or errors in order."""
    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(function) for function in functions]
        return [future.exception() or future.result() for future in futures]
