"""Where models run: the Engine protocol, and threads of this process behind it.

An engine takes a `Call` and returns a future at once. It refuses what it has no room for,
never starts a call whose deadline has passed, and fails the future at the deadline even
where a model does not look at the time. A model sees the request that it works for through
`common.request.current_request` and ends early at its next `check_wanted`. It must not call
the engine that it runs on: it may wait for the thread that it holds itself.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from common.errors import DeadlineError, OverloadError, SettingsError
from common.models.base import Model
from common.request import RequestContext, serving
from common.task import Result, Task

__all__ = ["Call", "Engine", "EngineLoad", "LocalEngine", "RemoteEngine", "Work"]

_NEWEST_SHARE = 0.2  # weight of the newest service time in the moving mean
_IDLE_S = 5.0  # without a deadline ahead the watch ends, so that an engine let go is let go


@dataclass
class Work:
    """What a model has done for a call, waiting left out; the engine notes it before it answers.

    Args:
        seconds: How long it has worked; 0 where it never began, None where nobody knows.
        n_tasks: How many tasks it got at once; None for those of the call.
    """

    seconds: float | None = None
    n_tasks: int | None = None


@dataclass(frozen=True)
class Call:
    """One model asked for the answers to some tasks.

    Args:
        model: The model.
        tasks: At least one task, each with one part of the model's modality.
        request: Whose deadline and cancellation hold for it.
        idempotency_key: Equal for every attempt of one call; it may begin more than once.
        work: Where an engine that measures it notes the model's work.
    """

    model: Model
    tasks: tuple[Task, ...]
    request: RequestContext
    idempotency_key: str
    work: Work = field(default_factory=Work, compare=False, repr=False)


class Engine(Protocol):
    """Runs calls, several at a time."""

    def submit(self, call: Call) -> Future[list[Result]]:
        """Takes a call and returns the future of one result per task, in order.

        The future fails with what the model raised, or with DeadlineError when the
        deadline passes or a call that waits is given up.

        Raises:
            OverloadError: As many calls wait as may; nothing was started.
        """
        ...

    def close(self) -> None:
        """Takes no more calls and returns when those taken have ended."""
        ...


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """Runs calls in other processes, and opens there what is given by name."""

    def open(self, spec: str | Path, part_name: str) -> Model:
        """Returns a model that only those processes hold.

        Args:
            spec: As `common.models.catalogue.open_model` takes it.
            part_name: The part that it is to answer.

        Raises:
            BackboneError: It is absent there or damaged.
        """
        ...


@dataclass(frozen=True)
class EngineLoad:
    """How busy an engine is at one moment.

    Args:
        running: Calls whose model is at work.
        waiting: Calls that wait for a thread.
        service_s: Moving mean of what a call takes without waiting; None before the first.
    """

    running: int
    waiting: int
    service_s: float | None


@dataclass(eq=False)
class _Place:
    """A call that was taken, until it has ended; the watch takes the call out of a late one."""

    call: Call | None
    deadline_s: float
    future: Future[list[Result]]
    begun_s: float = math.inf


class LocalEngine:
    """Threads of this process. Models release the interpreter lock inside their kernels.

    Args:
        workers: How many calls run at a time.
        queue: How many more may wait for their turn.

    Raises:
        SettingsError: A number is out of its range.
    """

    def __init__(self, workers: int = 4, *, queue: int = 64) -> None:
        if workers < 1 or queue < 0:
            raise SettingsError(
                "engine",
                expected="at least one worker, and a queue of 0 or more",
                found=f"{workers} workers, a queue of {queue}",
                remedy="Leave them out for the defaults.",
            )
        self._workers = workers
        self._room = workers + queue
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tandem")
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for the watch
        self._freed = threading.Condition(lock)  # for those who wait until a call ends
        self._places: set[_Place] = set()
        self._running = 0
        self._service_s: float | None = None
        self._closing = False
        self._watch: threading.Thread | None = None
        self._next_look_s = math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, call: Call) -> Future[list[Result]]:
        """Takes a call, to run as soon as a thread is free.

        Raises:
            OverloadError: `queue` calls wait already, or the engine is closing.
        """
        place = _Place(call, call.request.deadline_s, Future())
        with self._changed:
            if self._closing or len(self._places) >= self._room:
                raise self._no_room()
            self._places.add(place)
            if place.deadline_s < self._next_look_s:
                self._look_at(place.deadline_s)
            self._pool.submit(self._serve, place)
        return place.future

    def run(self, call: Call) -> list[Result]:
        """Takes a call and returns its results.

        Where it could start at once and has no deadline, it runs on the caller's own thread:
        two switches between threads are most of what a small call costs.

        Raises:
            OverloadError: `queue` calls wait already, or the engine is closing.
            Exception: What the model raised.
        """
        place = _Place(None, math.inf, Future())
        with self._changed:
            at_once = len(self._places) < self._workers and not self._closing
            if at_once and call.request.deadline_s == math.inf:
                self._places.add(place)
                self._running += 1
            else:
                at_once = False
        if not at_once:
            return self.submit(call).result()
        place.begun_s = time.monotonic()
        try:
            return _predict(call)
        finally:
            self._leave(place, call)

    def load(self) -> EngineLoad:
        """Returns how busy the engine is now."""
        with self._changed:
            waiting = len(self._places) - self._running
            return EngineLoad(self._running, waiting, self._service_s)

    def close(self) -> None:
        """Takes no more calls and returns when those taken have ended."""
        with self._changed:
            self._closing = True
        self._pool.shutdown()
        with self._changed:
            self._freed.wait_for(lambda: not self._places)
            watch = self._watch
            self._changed.notify_all()
        if watch is not None:
            watch.join()

    def _serve(self, place: _Place) -> None:
        call = self._begin(place)
        if call is None:
            return
        try:
            results = _predict(call)
        except BaseException as error:  # noqa: BLE001  # the future carries it to the caller
            self._leave(place, call)
            _settle(place.future, error)
        else:
            self._leave(place, call)
            _settle(place.future, results)
        if place.future.cancelled():
            place.future.set_running_or_notify_cancel()

    def _begin(self, place: _Place) -> Call | None:
        """Returns the call to run; none where it came too late or was cancelled while waiting."""
        with self._changed:
            self._freed.wait_for(lambda: self._running < self._workers)
            wanted, now_s = not place.future.cancelled(), time.monotonic()
            if wanted and place.call is not None and now_s < place.deadline_s:
                self._running += 1
                place.begun_s = now_s
                return place.call
            self._places.discard(place)
            if place.call is not None:
                place.call.work.seconds = 0.0
        if wanted:
            _settle(place.future, _late())
        else:
            place.future.set_running_or_notify_cancel()  # those who wait for it learn it
        return None

    def _leave(self, place: _Place, call: Call) -> None:
        service_s = call.work.seconds = time.monotonic() - place.begun_s
        with self._changed:
            self._places.discard(place)
            self._running -= 1
            self._freed.notify_all()
            before_s = service_s if self._service_s is None else self._service_s
            self._service_s = before_s + _NEWEST_SHARE * (service_s - before_s)

    def _no_room(self) -> OverloadError:
        """Names the time in which what was taken is worked off at the present pace."""
        turns = math.ceil(len(self._places) / self._workers)
        if self._closing:
            found, remedy = "that it is closing", "Send the request to another one."
        else:
            waiting = len(self._places) - self._running
            found, remedy = f"{waiting} calls waiting", "Send the request again later."
        return OverloadError(
            "engine",
            expected="room for one more call",
            found=found,
            remedy=remedy,
            retry_after_s=1.0 if self._service_s is None else turns * self._service_s,
        )

    def _look_at(self, moment_s: float) -> None:
        """Has the watch look at `moment_s`; the lock is held."""
        self._next_look_s = moment_s
        if self._watch is None:
            self._watch = threading.Thread(
                target=self._watch_deadlines, name="tandem-deadlines", daemon=True
            )
            self._watch.start()
        self._changed.notify_all()

    def _watch_deadlines(self) -> None:
        """Fails the futures of late calls; the set that it looks through is small: `room`."""
        while True:
            with self._changed:
                now_s = time.monotonic()
                late = [place for place in self._places if place.deadline_s <= now_s]
                for place in late:
                    if place.call is not None:
                        place.call.work.seconds = max(0.0, now_s - place.begun_s)
                    place.call, place.deadline_s = None, math.inf  # its tasks are let go
                self._next_look_s = min((p.deadline_s for p in self._places), default=math.inf)
                if not late and not self._wait_for_the_next(now_s):
                    self._watch = None
                    return
            for place in late:
                _settle(place.future, _late())

    def _wait_for_the_next(self, now_s: float) -> bool:
        """Waits until there may be a late call; False where the watch is not needed now."""
        if self._closing and not self._places:
            return False
        woken = self._changed.wait(min(self._next_look_s - now_s, _IDLE_S))
        return woken or self._next_look_s < math.inf


def _predict(call: Call) -> list[Result]:
    call.request.check()
    with serving(replace(call.request, idempotency_key=call.idempotency_key)):
        return call.model.predict(call.tasks)


def _settle(future: Future[list[Result]], outcome: list[Result] | BaseException) -> None:
    with suppress(InvalidStateError):  # the watch has ended it, or its caller cancelled
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _late() -> DeadlineError:
    return DeadlineError(
        "model call",
        expected="an answer before the deadline",
        found="that the deadline has passed",
        remedy="Allow more time, or send less at once.",
    )
