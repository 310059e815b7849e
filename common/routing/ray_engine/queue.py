"""The bounded queue of calls that wait for a replica, and the watch over them.

A call that was taken ends in one of four ways: with a reply, with DeadlineError as soon as
nobody waits for it any more, with ModelError when replicas died of it too often, or with
ModelError when no replica can be started. A call whose replica dies goes to the front of
the queue, so that nothing is lost.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import DeadlineError, ModelError, OverloadError
from common.routing.engine import Call, EngineLoad
from common.task import Result

__all__ = ["CallQueue", "Ticket", "Worker"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.05  # how soon a cancellation is seen: it is an event of the caller's, not ours
_MOST_ATTEMPTS = 3
_NEWEST_SHARE = 0.2  # weight of the newest service time in the moving mean


@dataclass(eq=False)
class Ticket:
    """A call that was taken.

    Args:
        call: The call.
        future: What its caller waits for.
        attempts: How many times it was begun.
        number: Of the present attempt, where a replica works on it.
        unwanted_s: Moment since when nobody waits for it.
        begun_s: Moment when a replica took the present attempt.
    """

    call: Call
    future: Future[list[Result]] = field(default_factory=Future)
    attempts: int = 0
    number: int | None = None
    unwanted_s: float = math.inf
    begun_s: float | None = None

    @property
    def model(self) -> str:
        """Identity of the model that is asked."""
        return self.call.model.profile.identity

    def settle(self, outcome: list[Result] | BaseException) -> None:
        """Gives the future its outcome, if it has none yet."""
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        if self.future.cancelled():
            self.future.set_running_or_notify_cancel()  # those who wait for it learn it

    def look(self) -> bool:
        """Ends the future of a call that nobody waits for; returns whether it is over."""
        if not self.future.done():
            try:
                self.call.request.check()
            except DeadlineError as error:
                begun_s = self.begun_s
                worked_s = 0.0 if begun_s is None else time.monotonic() - begun_s
                self.call.work.seconds = worked_s
                self.settle(error)
        return self.future.done()


class Worker(Protocol):
    """What takes calls out of the queue: the keeper of one replica."""

    @property
    def open_models(self) -> frozenset[str]:
        """Identities of the models that are open in its replica."""
        ...

    def give_up(self, number: int) -> None:
        """Tells the replica that nobody waits for an attempt any more."""
        ...

    def end_replica(self) -> None:
        """Kills the replica, which works on and on for nobody."""
        ...


class CallQueue:
    """Calls that wait for a replica, and those that one works on.

    Args:
        room: How many calls may wait beside one for each worker.
        patience_s: How long a model may work on after its call has been given up, before
            its replica is killed.
    """

    def __init__(self, room: int, *, patience_s: float) -> None:
        self._room = room
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Worker, Ticket] = {}
        self._idle: dict[Worker, None] = {}
        self._n_workers = 0
        self._failing: dict[Worker, str] = {}
        self._service_s: float | None = None
        self._closing = False
        self._watch = threading.Thread(target=self._look_after, name="tandem-watch", daemon=True)
        self._watch.start()

    def expect_worker(self) -> None:
        """Counts one more worker that is going to take calls."""
        with self._changed:
            self._n_workers += 1

    def put(self, call: Call) -> Future[list[Result]]:
        """Takes a call.

        Raises:
            OverloadError: As many calls wait as may, or the queue is closing.
        """
        ticket = Ticket(call)
        with self._changed:
            taken = len(self._waiting) + len(self._running)
            if self._closing or taken >= self._n_workers + self._room:
                raise self._no_room()
            self._waiting.append(ticket)
            hopeless = self._reason_not_to_wait()
            self._changed.notify_all()
        if hopeless is not None:
            self._fail_waiting(hopeless)
        return ticket.future

    def take(self, worker: Worker, *, wait_s: float) -> Ticket | None:
        """Returns the next call for `worker`; None after `wait_s` without one, or at the end.

        A call whose model is open in an idle replica is left to that one.
        """
        end_s = time.monotonic() + wait_s
        with self._changed:
            self._failing.pop(worker, None)
            self._idle[worker] = None
            try:
                while (ticket := self._pick(worker)) is None:
                    left_s = end_s - time.monotonic()
                    if left_s <= 0 or self._ended():
                        return None
                    self._changed.wait(left_s)
            finally:
                del self._idle[worker]
            self._waiting.remove(ticket)
            self._running[worker] = ticket
            ticket.attempts += 1
            ticket.begun_s = time.monotonic()
            return ticket

    def done(self, worker: Worker, outcome: list[Result] | BaseException, service_s: float) -> None:
        """Gives the outcome of the call that `worker` took to its caller."""
        with self._changed:
            ticket = self._running.pop(worker)
            before_s = service_s if self._service_s is None else self._service_s
            self._service_s = before_s + _NEWEST_SHARE * (service_s - before_s)
            self._changed.notify_all()
        ticket.call.work.seconds = service_s
        ticket.settle(outcome)

    def drop(self, worker: Worker) -> None:
        """Leaves the call that `worker` took: its future has ended without it."""
        with self._changed:
            del self._running[worker]
            self._changed.notify_all()

    def give_back(self, worker: Worker, reason: str, *, begun: bool) -> None:
        """Puts the call that `worker` took to the front, since its replica has died of `reason`.

        After three attempts that had begun it fails: it may be what kills the replicas.
        """
        with self._changed:
            ticket = self._running.pop(worker)
            ticket.number = ticket.begun_s = None
            ticket.attempts -= not begun
            again = ticket.attempts < _MOST_ATTEMPTS and not ticket.future.done()
            if again:
                self._waiting.appendleft(ticket)
            self._changed.notify_all()
        if not again:
            ticket.settle(_died(ticket, reason))

    def not_started(self, worker: Worker, reason: str) -> None:
        """Says that the replica of `worker` could not be started several times over.

        Where no other one runs, calls do not wait for it: they fail until it has started.
        """
        with self._changed:
            self._failing[worker] = reason
            hopeless = self._reason_not_to_wait()
        if hopeless is not None:
            self._fail_waiting(hopeless)

    def pause(self, wait_s: float) -> None:
        """Waits before the next attempt to start a replica; not while closing."""
        end_s = time.monotonic() + wait_s
        with self._changed:
            while not self._closing and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)

    @property
    def ended(self) -> bool:
        """Whether the queue is closing and nothing waits any more."""
        with self._changed:
            return self._ended()

    @property
    def closing(self) -> bool:
        """Whether no more calls are taken."""
        with self._changed:
            return self._closing

    def load(self) -> EngineLoad:
        """Returns how many calls run and wait, and what one takes."""
        with self._changed:
            return EngineLoad(len(self._running), len(self._waiting), self._service_s)

    def close(self) -> None:
        """Takes no more calls; those taken go on."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Takes no more calls and gives up those taken."""
        with self._changed:
            self._closing = True
            taken = [*self._waiting, *self._running.values()]
            self._waiting.clear()
            self._changed.notify_all()
        for ticket in taken:
            ticket.settle(_abandoned())

    def _ended(self) -> bool:
        return self._closing and not self._waiting and not self._running

    def _pick(self, worker: Worker) -> Ticket | None:
        others = [idle.open_models for idle in self._idle if idle is not worker]
        for ticket in self._waiting:
            if ticket.model in worker.open_models:
                return ticket
            if not any(ticket.model in models for models in others):
                return ticket
        return None

    def _reason_not_to_wait(self) -> str | None:
        if self._n_workers and len(self._failing) == self._n_workers:
            return next(iter(self._failing.values()))
        return None

    def _fail_waiting(self, reason: str) -> None:
        with self._changed:
            failed = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for ticket in failed:
            ticket.settle(_not_started(reason))

    def _no_room(self) -> OverloadError:
        turns = math.ceil((len(self._waiting) + len(self._running)) / max(self._n_workers, 1))
        if self._closing:
            found, remedy = "that it is closing", "Send the request to another one."
        else:
            found, remedy = f"{len(self._waiting)} calls waiting", "Send the request again later."
        return OverloadError(
            "engine",
            expected="room for one more call",
            found=found,
            remedy=remedy,
            retry_after_s=1.0 if self._service_s is None else turns * self._service_s,
        )

    def _look_after(self) -> None:
        """Ends the futures of unwanted calls, and in the end the replicas that go on for them."""
        while True:
            with self._changed:
                if self._ended():
                    return
                busy = bool(self._waiting or self._running)
                self._changed.wait(_LOOK_S if busy else None)
                waiting, running = list(self._waiting), list(self._running.items())
            # Outside the lock: a future that ends calls functions of its caller's.
            over = [ticket for ticket in waiting if ticket.look()]
            if over:
                self._take_out(over)
            for worker, ticket in running:
                if ticket.look():
                    self._end_work(worker, ticket)

    def _take_out(self, over: list[Ticket]) -> None:
        with self._changed:
            for ticket in over:
                with suppress(ValueError):  # a worker has taken it meanwhile, and drops it
                    self._waiting.remove(ticket)
            self._changed.notify_all()

    def _end_work(self, worker: Worker, ticket: Ticket) -> None:
        now_s = time.monotonic()
        if ticket.unwanted_s == math.inf:
            ticket.unwanted_s = now_s
            if ticket.number is not None:
                worker.give_up(ticket.number)
        elif ticket.number is not None and now_s > ticket.unwanted_s + self._patience_s:
            ticket.unwanted_s = now_s
            _log.warning("a model goes on though its call was given up: its replica is killed")
            worker.end_replica()


def _died(ticket: Ticket, reason: str) -> ModelError:
    return ModelError(
        "model call",
        expected="a replica that lives until the answer",
        found=f"{ticket.attempts} that died meanwhile ({reason})",
        remedy="Look at the machines' memory; the model may need a larger placement.",
    )


def _abandoned() -> DeadlineError:
    return DeadlineError(
        "model call",
        expected="a program that waits for the answer",
        found="one that ends",
        remedy="Wait for the answer before the program ends.",
    )


def _not_started(reason: str) -> ModelError:
    return ModelError(
        "model call",
        expected="a replica that answers",
        found=f"none that can be started ({reason})",
        remedy="Compare the placement with what the machines have, and their software with this.",
    )
