"""One computation for all who want its result: threads of this process, and other processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import ModelError, OverloadError, StoreError
from common.models.base import ModelProfile
from common.routing.cache.flights import Flight, Flights
from common.routing.cache.leases import Leases
from common.routing.cache.redis_store import RedisStore
from common.routing.cache.store import ResultStore, row_of
from common.task import Result, Task

__all__ = ["Fetched", "Job", "SharedComputation", "one_each"]

_FIRST_LOOK_S, _LAST_LOOK_S = 0.002, 0.05  # between looks at what another process computes
_STORE_FAILURES = (OverloadError, StoreError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A result, and where it came from.

    Args:
        result: The result.
        source: "stored" before; "shared": another caller computed it meanwhile; "computed"
            for this caller.
        age_s: Seconds since it was stored; 0 where it was not.
    """

    result: Result
    source: Literal["stored", "shared", "computed"]
    age_s: float = 0.0


@dataclass(frozen=True)
class Job:
    """What one caller wants, and how to get it.

    Args:
        profile: Whose results.
        tasks: What is asked, by key.
        compute: Returns one result per task, in order.
        check: Called while waiting; raises where the answer is no longer wanted.
        own: Failures that are this caller's only: who waited tries for itself.
    """

    profile: ModelProfile
    tasks: Mapping[str, Task]
    compute: Callable[[Sequence[Task]], Sequence[Result]]
    check: Callable[[], None]
    own: tuple[type[Exception], ...]


class SharedComputation:
    """Looks results up, and has those that are absent computed once.

    A caller computes and stores what it has taken on before it waits for anything, and
    holds nothing while it waits: so no two callers wait for each other.

    Args:
        store: Where results are kept. Where it fails they are computed all the same.
        leases: Who computes what, among processes.
    """

    def __init__(self, store: ResultStore | RedisStore, leases: Leases) -> None:
        self.unstored = 0
        self._store = store
        self._leases = leases
        self._flights: Flights[Result] = Flights()
        self._counting = threading.Lock()

    def run(self, job: Job) -> dict[str, Fetched]:
        """Returns the result of each task of a job, by key.

        Raises:
            ModelError: A result holds what a message cannot carry, or there is not one for
                each task.
            Exception: What the job's `check` or `compute` raises.
        """
        fetched = self._find(job.tasks.keys(), "stored")
        while missing := [key for key in job.tasks if key not in fetched]:
            job.check()
            flown, followed = self._flights.join(missing)
            try:
                fetched |= self._fly(job, flown)
            finally:
                self._flights.leave(flown)
            for key, flight in followed.items():
                brought = flight.follow(job.check)
                if brought is not None:
                    fetched[key] = Fetched(brought, "shared")
        return fetched

    def _fly(self, job: Job, flown: Mapping[str, Flight[Result]]) -> dict[str, Fetched]:
        """Computes what nobody else does, then waits for what other processes compute."""
        if not flown:
            return {}
        mine = self._lease(job, flown.keys())
        try:
            fetched = self._find(mine, "stored")  # since the first look
            _bring(fetched, flown)
            left = [key for key in mine if key not in fetched]
            if left:
                fetched |= self._compute(job, left, flown)
        finally:
            self._release(mine)
        elsewhere = self._await_others(flown.keys() - set(mine), job.check)
        _bring(elsewhere, flown)
        return fetched | elsewhere

    def _compute(
        self, job: Job, keys: Sequence[str], flown: Mapping[str, Flight[Result]]
    ) -> dict[str, Fetched]:
        try:
            results = one_each(job.compute([job.tasks[key] for key in keys]), keys)
            pairs = list(zip(keys, results, strict=True))
            rows = [row_of(job.profile, key, result) for key, result in pairs]
        except job.own:
            raise
        except Exception as error:
            for key in keys:
                flown[key].fail(error)
            raise
        fetched = {key: Fetched(result, "computed") for key, result in pairs}
        _bring(fetched, flown)  # before it is stored: nobody need wait for the disk
        stored = 0
        try:
            stored = self._store.write(rows, holder=self._leases.holder)
            self._leases.forget(keys)
        except _STORE_FAILURES as error:
            _log.warning("results were not stored (%s)", type(error).__name__)
        with self._counting:
            self.unstored += len(rows) - stored
        return fetched

    def _lease(self, job: Job, keys: Collection[str]) -> list[str]:
        """Takes the leases that are free; where the store fails, as if all were."""
        adapter = job.profile.adapter_digest or ""
        try:
            return self._leases.take([(key, job.profile.digest, adapter) for key in keys])
        except _STORE_FAILURES as error:
            _log.warning("computing without leases (%s)", type(error).__name__)
            return list(keys)

    def _release(self, keys: Collection[str]) -> None:
        try:
            self._leases.drop(keys)
        except _STORE_FAILURES as error:
            _log.warning("leases are left to run out (%s)", type(error).__name__)

    def _find(
        self, keys: Collection[str], source: Literal["stored", "shared"]
    ) -> dict[str, Fetched]:
        try:
            found = self._store.find(keys)
        except _STORE_FAILURES as error:
            _log.warning("results were not looked up (%s)", type(error).__name__)
            return {}
        return {key: Fetched(one.result, source, one.age_s) for key, one in found.items()}

    def _await_others(self, keys: Collection[str], check: Callable[[], None]) -> dict[str, Fetched]:
        """Waits until each key is stored by another process, or no longer computed there."""
        fetched: dict[str, Fetched] = {}
        waiting, pause_s = set(keys), _FIRST_LOOK_S
        while waiting:
            check()
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LAST_LOOK_S)
            fetched |= self._find(waiting, "shared")
            waiting -= fetched.keys()
            try:
                waiting -= self._leases.free(sorted(waiting))
            except _STORE_FAILURES:
                break  # to compute it here
        return fetched


def one_each(results: Sequence[Result], asked: Sequence[object]) -> Sequence[Result]:
    """Returns the results of a model where there is one for each task.

    Raises:
        ModelError: There is not.
    """
    if len(results) != len(asked):
        raise ModelError(
            "model",
            expected=f"{len(asked)} results, one for each task",
            found=str(len(results)),
            remedy="Return one result per task, in order.",
        )
    return results


def _bring(fetched: Mapping[str, Fetched], flown: Mapping[str, Flight[Result]]) -> None:
    for key, one in fetched.items():
        flown[key].bring(one.result)
