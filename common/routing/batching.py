"""Calls that wait for one model at the same time are put into one call of it.

A model answers many tasks in little more time than one. So where calls of a model wait while
it is at work, the next call takes all of them, up to a number of tasks: no call ever waits
for others to come (as group commit does for transactions: DeWitt et al. 1984, section 5.2).

A batch is run under the latest deadline of its calls, and given up when all of them are;
each call's own deadline still fails its future. Where a batch fails, or a model gives another
number of results than it got tasks, its calls are run one by one, so that nobody gets
another's error or another's result. The last digit of a result may depend on what stood
beside its task.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Self

from common.errors import DeadlineError, OverloadError, SettingsError
from common.models.base import ModelProfile
from common.request import RequestContext
from common.routing.branches import LinkedEvent
from common.routing.engine import Call, Engine, Work
from common.task import Result, digest_of

__all__ = ["BatchingEngine"]

_IDLE_S = 5.0  # without a deadline ahead the watch ends


@dataclass(eq=False)
class _Waiting:
    """A call and the future that its caller holds."""

    call: Call
    future: Future[list[Result]] = field(default_factory=Future)
    begun_s: float = math.inf  # when it was given to the engine behind


@dataclass(eq=False)
class _Lane:
    """The calls of one model."""

    running: int = 0
    alone: deque[_Waiting] = field(default_factory=deque)  # of batches that failed
    waiting: deque[_Waiting] = field(default_factory=deque)


class BatchingEngine:
    """An engine in front of another that gets batches; closing it closes both.

    Args:
        engine: Where batches run.
        batched: Which models get batches; the others get each call by itself. Those that
            are not deterministic, or no quicker for many tasks, should not.
        tasks: Most tasks of one batch.
        lanes: Batches of one model that run at a time.
        queue: Calls of all models that may wait here; more are refused at once.

    Raises:
        SettingsError: A number is out of its range.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        batched: Callable[[ModelProfile], bool] = lambda profile: profile.deterministic,
        tasks: int = 32,
        lanes: int = 1,
        queue: int = 256,
    ) -> None:
        if tasks < 1 or lanes < 1 or queue < 0:
            raise SettingsError(
                "batching engine",
                expected="at least one task and one lane, and a queue of 0 or more",
                found=f"{tasks} tasks, {lanes} lanes, a queue of {queue}",
                remedy="Leave them out for the defaults.",
            )
        self._engine, self._batched, self._tasks = engine, batched, tasks
        self._n_lanes, self._queue = lanes, queue
        self._changed = threading.Condition()
        self._lanes: dict[int, _Lane] = {}
        self._live: set[_Waiting] = set()
        self._n_waiting = 0
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

    @property
    def waiting(self) -> int:
        """Calls that wait for a batch."""
        return self._n_waiting

    def submit(self, call: Call) -> Future[list[Result]]:
        """Takes a call, to run at once or in the model's next batch.

        Raises:
            OverloadError: As many calls wait as may, or the engine is closing.
        """
        if not self._batched(call.model.profile):
            return self._engine.submit(call)
        one = _Waiting(call)
        with self._changed:
            lane = self._lanes.setdefault(id(call.model), _Lane())
            at_once = lane.running < self._n_lanes
            if self._closing or (not at_once and self._n_waiting >= self._queue):
                raise self._no_room()
            self._keep(one)
            if at_once:
                lane.running += 1
            else:
                lane.waiting.append(one)
                self._n_waiting += 1
        if at_once:
            self._run(lane, [one])
        return one.future

    def close(self) -> None:
        """Takes no more calls and returns when those taken have ended."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: not self._live)
            watch = self._watch
            self._changed.notify_all()
        if watch is not None:
            watch.join()
        self._engine.close()

    def _run(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        """Gives batch after batch to the engine behind until one is under way.

        In a loop: were each batch that ends at once to start the next, a long queue would
        be as deep a recursion.
        """
        while batch:
            now_s = time.monotonic()
            for one in batch:
                one.begun_s = min(one.begun_s, now_s)
            joined = _joined(batch)
            try:
                running = self._engine.submit(joined)
            except BaseException as error:  # noqa: BLE001  # the futures carry it to their callers
                for one in batch:
                    self._settle(one, error)
            else:
                if not running.done():
                    running.add_done_callback(partial(self._done, lane, batch, joined.work))
                    return
                self._share(lane, batch, joined.work, running)
            batch = self._next(lane)

    def _done(
        self, lane: _Lane, batch: Sequence[_Waiting], work: Work, done: Future[list[Result]]
    ) -> None:
        self._share(lane, batch, work, done)
        self._run(lane, self._next(lane))

    def _share(
        self, lane: _Lane, batch: Sequence[_Waiting], work: Work, done: Future[list[Result]]
    ) -> None:
        """Gives each call of a batch its own results, or has the calls run one by one."""
        error = done.exception()
        if len(batch) == 1:
            self._settle(batch[0], done.result() if error is None else error)
        elif error is None and _one_each(done.result(), batch):
            results = iter(done.result())
            n_tasks = len(done.result())
            for one in batch:
                one.call.work.seconds, one.call.work.n_tasks = work.seconds, n_tasks
                self._settle(one, list(islice(results, len(one.call.tasks))))
        else:
            with self._changed:
                lane.alone.extend(batch)

    def _next(self, lane: _Lane) -> list[_Waiting]:
        """Returns the next batch of the lane's model; without one the lane is free."""
        unwanted: list[_Waiting] = []
        with self._changed:
            batch = self._take(lane, unwanted)
            if not batch:
                lane.running -= 1
                if lane.running == 0:
                    self._lanes = {key: x for key, x in self._lanes.items() if x is not lane}
        for one in unwanted:
            self._settle(one, _late("that the caller gave up"))
        return batch

    def _take(self, lane: _Lane, unwanted: list[_Waiting]) -> list[_Waiting]:
        """Returns the calls of the next batch, the others in `unwanted`; the lock is held."""
        while lane.alone:
            one = lane.alone.popleft()
            if _wanted(one):
                return [one]
            unwanted.append(one)
        batch: list[_Waiting] = []
        room = self._tasks
        while lane.waiting and (not batch or len(lane.waiting[0].call.tasks) <= room):
            one = lane.waiting.popleft()
            self._n_waiting -= 1
            if _wanted(one):
                batch.append(one)
                room -= len(one.call.tasks)
            else:
                unwanted.append(one)
        return batch

    def _keep(self, one: _Waiting) -> None:
        """Remembers a call until its future is settled; the lock is held."""
        self._live.add(one)
        deadline_s = one.call.request.deadline_s
        if deadline_s < self._next_look_s:
            self._next_look_s = deadline_s
            if self._watch is None:
                self._watch = threading.Thread(
                    target=self._watch_deadlines, name="batch-deadlines", daemon=True
                )
                self._watch.start()
            self._changed.notify_all()

    def _settle(self, one: _Waiting, outcome: list[Result] | BaseException) -> None:
        """Gives the future its outcome, unless it has one, and lets go of the call."""
        with suppress(InvalidStateError):  # the watch has ended it, or its caller cancelled
            if isinstance(outcome, BaseException):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome)
        with self._changed:
            if one not in self._live:
                return
            self._live.discard(one)
            if one.future.cancelled():
                one.future.set_running_or_notify_cancel()  # those who wait for it learn it
            if self._closing and not self._live:
                self._changed.notify_all()

    def _watch_deadlines(self) -> None:
        """Fails the futures of late calls; few are live at a time."""
        while True:
            with self._changed:
                now_s = time.monotonic()
                late = [x for x in self._live if x.call.request.deadline_s <= now_s]
                moments = (x.call.request.deadline_s for x in self._live)
                self._next_look_s = min((x for x in moments if x > now_s), default=math.inf)
                if not late and not self._wait(now_s):
                    self._watch = None
                    return
            for one in late:
                if one.call.work.seconds is None:  # the engine behind knows it better
                    one.call.work.seconds = max(0.0, now_s - one.begun_s)
                self._settle(one, _late("that the deadline has passed"))

    def _wait(self, now_s: float) -> bool:
        """Waits until there may be a late call; False where the watch is not needed now."""
        if self._closing and not self._live:
            return False
        woken = self._changed.wait(min(self._next_look_s - now_s, _IDLE_S))
        return woken or self._next_look_s < math.inf

    def _no_room(self) -> OverloadError:
        found = "that it is closing" if self._closing else f"{self._n_waiting} calls waiting"
        return OverloadError(
            "engine",
            expected="room for one more call",
            found=found,
            remedy="Send the request again later.",
        )


def _wanted(one: _Waiting) -> bool:
    """Returns whether somebody waits: no deadline has passed, nobody cancelled or gave up."""
    return not one.future.done() and not one.call.request.given_up.is_set()


def _one_each(results: object, batch: Sequence[_Waiting]) -> bool:
    n_tasks = sum(len(one.call.tasks) for one in batch)
    return isinstance(results, list) and len(results) == n_tasks


def _joined(batch: Sequence[_Waiting]) -> Call:
    """Returns one call for all: under the latest deadline, with a key of all their keys."""
    calls = [one.call for one in batch]
    if len(calls) == 1:
        return calls[0]
    request = RequestContext(
        calls[0].request.trace_id,
        max(call.request.deadline_s for call in calls),
        LinkedEvent(lambda: not any(_wanted(one) for one in batch)),
    )
    return Call(
        model=calls[0].model,
        tasks=tuple(task for call in calls for task in call.tasks),
        request=request,
        idempotency_key=digest_of(*(call.idempotency_key.encode() for call in calls)),
    )


def _late(found: str) -> DeadlineError:
    return DeadlineError(
        "model call",
        expected="an answer before the deadline, for a caller who waits",
        found=found,
        remedy="Allow more time, or send less at once.",
    )
