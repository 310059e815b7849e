"""The keeper of one replica: a thread that starts it, asks it, and replaces it when it dies.

A replica is asked one call at a time. One that has not been heard of for a second is first
asked whether it is there, so that no call is spent on a machine that has gone. A replica
that dies is replaced after a pause that doubles from one failure to the next and starts
anew with the next answer.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from common.errors import ModelError, SettingsError
from common.models.base import Model
from common.routing.ray_engine.queue import CallQueue, Ticket
from common.routing.ray_engine.replica import Order, ReplicaFacts, Reply
from common.task import Result
from common.versions import software_versions

__all__ = ["Keeper", "ReplicaHealth", "Replicas", "reason_of"]

_log = logging.getLogger(__name__)
_numbers = itertools.count()

_HEARD_S = 1.0
_LOOK_S = 0.2
_IDLE_LOOK_S = 10.0
_REACH_S = 10.0  # an actor that Ray calls unavailable is given this long to come back
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_FAILED_STARTS = 3  # after so many the replica counts as one that cannot be started
_REASONS = {
    "ActorDiedError": "its process or machine died",
    "ActorUnavailableError": "it could not be reached",
    "ActorUnschedulableError": "no machine has room for its placement",
    "GetTimeoutError": "it took too long",
    "OutOfMemoryError": "its machine ran out of memory",
}


@dataclass(frozen=True)
class ReplicaHealth:
    """How one replica is at one moment.

    Args:
        state: "starting" also before the next attempt to start it.
        host: Name of its machine, once it has started.
        pid: Its process there.
        open_models: Identities of the models open in it, the latest used last.
        replaced: How many replicas before it have died or could not be started.
        reason: Why the last of them did, if any.
    """

    state: Literal["starting", "idle", "running", "ended"]
    host: str | None = None
    pid: int | None = None
    open_models: tuple[str, ...] = ()
    replaced: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Replicas:
    """How the replicas of one pool are made.

    Args:
        ray: The module.
        spawn: Starts one and returns the handle of its actor.
        source: Returns what a replica opens a model from.
        start_s: Seconds that one may take to start.
        open_s: Seconds that it may take to open a model.
    """

    ray: ModuleType
    spawn: Callable[[], Any]
    source: Callable[[Model], Any]
    start_s: float
    open_s: float


class Keeper:
    """Keeps one replica alive and has it answer the calls of a queue.

    Args:
        queue: The queue.
        replicas: How to make a replica.
    """

    def __init__(self, queue: CallQueue, replicas: Replicas) -> None:
        self._queue = queue
        self._replicas = replicas
        self._ray = replicas.ray
        self._actor: Any = None
        self._facts: ReplicaFacts | None = None
        self._open: tuple[str, ...] = ()
        self._heard_s = 0.0
        self._failures = 0
        self._failed_starts = 0
        self._replaced = 0
        self._reason: str | None = None
        self._state: Literal["starting", "idle", "running", "ended"] = "starting"
        self._thread = threading.Thread(target=self._run, name="tandem-keeper", daemon=True)

    def start(self) -> None:
        """Begins to keep a replica."""
        self._queue.expect_worker()
        self._thread.start()

    def wait(self) -> None:
        """Returns when the queue has ended and the replica is gone."""
        self._thread.join()

    @property
    def open_models(self) -> frozenset[str]:
        """Identities of the models that are open in the replica."""
        return frozenset(self._open)

    def health(self) -> ReplicaHealth:
        """Returns how the replica is now."""
        facts = self._facts
        return ReplicaHealth(
            self._state,
            facts.host if facts else None,
            facts.pid if facts else None,
            self._open,
            self._replaced,
            self._reason,
        )

    def give_up(self, number: int) -> None:
        """Tells the replica that nobody waits for an attempt any more."""
        actor = self._actor
        if actor is not None:
            actor.give_up.options(concurrency_group="control").remote(number)

    def end_replica(self) -> None:
        """Kills the replica, which works on and on for nobody."""
        actor = self._actor
        if actor is not None:
            self._ray.kill(actor)

    def _run(self) -> None:
        while not self._queue.ended:
            if self._actor is None and not self._begin():
                continue
            ticket = self._queue.take(self, wait_s=_IDLE_LOOK_S)
            if ticket is not None:
                self._state = "running"
                self._serve(ticket)
                self._state = "idle" if self._actor is not None else "starting"
            elif not self._is_there():
                self._lose("it was gone")
        self._state = "ended"
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None

    def _begin(self) -> bool:
        """Starts a replica, after a pause where the last one failed; False where it cannot."""
        self._queue.pause(_pause_s(self._failures))
        if self._queue.ended:
            return False
        actor = None
        try:
            actor = self._replicas.spawn()
            self._facts = self._facts_of(actor)
            _require_same_software(self._facts.software)
        except Exception as error:  # noqa: BLE001  # whatever it is, there is a next attempt
            if actor is not None:
                self._ray.kill(actor)
            self._failed_to_start(reason_of(error))
            return False
        self._actor, self._open = actor, ()
        self._heard_s = time.monotonic()
        self._failed_starts = 0
        self._state = "idle"
        return True

    def _facts_of(self, actor: Any) -> ReplicaFacts:
        asked = actor.facts.options(concurrency_group="control").remote()
        end_s = time.monotonic() + self._replicas.start_s
        while time.monotonic() < end_s and not self._queue.ended:
            if self._ray.wait([asked], timeout=_LOOK_S)[0]:
                break
        facts: ReplicaFacts = self._ray.get(asked, timeout=0)
        return facts

    def _failed_to_start(self, reason: str) -> None:
        self._facts = None
        self._failures += 1
        self._failed_starts += 1
        self._replaced += 1
        self._reason = reason
        _log.warning("a replica could not be started: %s", reason)
        if self._failed_starts >= _FAILED_STARTS or self._queue.closing:
            self._queue.not_started(self, reason)

    def _serve(self, ticket: Ticket) -> None:
        """Has the replica answer, or puts the call back where the replica has died."""
        if ticket.look():
            self._queue.drop(self)
            return
        if time.monotonic() > self._heard_s + _HEARD_S and not self._is_there():
            self._lose("it was gone")
            self._queue.give_back(self, "it was gone", begun=False)
            return
        begun_s = time.monotonic()
        try:
            reply = self._ask(ticket)
        except self._ray.exceptions.RayTaskError as error:
            reply = Reply(self._open, error=_cause_of(error))
        except self._ray.exceptions.RayError as error:
            reason = reason_of(error)
            self._lose(reason)
            self._queue.give_back(self, reason, begun=True)
            return
        except Exception as error:  # noqa: BLE001  # the caller gets it
            reply = Reply(self._open, error=error)
        self._failures = 0
        self._heard_s = time.monotonic()
        self._open = reply.open_models
        ticket.number = None
        self._queue.done(self, _outcome(reply, self._facts), time.monotonic() - begun_s)

    def _ask(self, ticket: Ticket) -> Reply:
        while True:
            try:
                return self._ask_once(ticket)
            except self._ray.exceptions.ActorUnavailableError:
                # The reply may be lost and the replica alive: it remembers what it answered.
                if not self._is_there(_REACH_S):
                    raise

    def _ask_once(self, ticket: Ticket) -> Reply:
        if ticket.model not in self._open:
            source = self._replicas.source(ticket.call.model)
            opened: Reply = self._ray.get(
                self._actor.open.remote(ticket.model, source), timeout=self._replicas.open_s
            )
            self._open = opened.open_models
            if opened.error is not None:
                return opened
        number = next(_numbers)
        ticket.number = number
        asked = self._actor.answer.remote(_order(ticket, number))
        if ticket.look():  # the watch may have looked before the attempt had a number
            self.give_up(number)
        reply: Reply = self._ray.get(asked)
        return reply

    def _is_there(self, wait_s: float = 5.0) -> bool:
        end_s = time.monotonic() + wait_s
        while (left_s := end_s - time.monotonic()) > 0:
            asked = self._actor.facts.options(concurrency_group="control").remote()
            try:
                self._ray.get(asked, timeout=left_s)
            except self._ray.exceptions.ActorUnavailableError:
                time.sleep(0.1)
            except self._ray.exceptions.RayError:
                return False
            else:
                self._heard_s = time.monotonic()
                return True
        return False

    def _lose(self, reason: str) -> None:
        self._ray.kill(self._actor)
        self._actor, self._open, self._facts = None, (), None
        self._failures += 1
        self._replaced += 1
        self._reason = reason
        self._state = "starting"
        if not self._queue.closing:
            _log.warning("a replica is replaced: %s", reason)


def _pause_s(failures: int) -> float:
    return min(_FIRST_PAUSE_S * 2.0 ** (failures - 1), _LONGEST_PAUSE_S) if failures else 0.0


def _order(ticket: Ticket, number: int) -> Order:
    call = ticket.call
    return Order(
        number,
        call.idempotency_key,
        ticket.model,
        call.tasks,
        call.request.trace_id,
        call.request.remaining_s(),
    )


def _outcome(reply: Reply, facts: ReplicaFacts | None) -> list[Result] | Exception:
    """Returns the results, or the model's error with a note where it was raised."""
    if reply.error is None:
        return reply.results or []
    if facts is not None and reply.place:
        reply.error.add_note(f"raised on {facts.host}, process {facts.pid}: {reply.place}")
    return reply.error


def _cause_of(error: Any) -> Exception:
    """Returns what Ray wraps, unless it is of Ray: what was carried could not be read there."""
    cause = error.cause
    if isinstance(cause, Exception) and not type(cause).__module__.startswith("ray"):
        return cause
    return ModelError(
        "model",
        expected="one that a replica can read",
        found=f"a copy that it cannot ({type(cause).__name__})",
        remedy="Install the model's own code on every machine, or give it by name or folder.",
    )


def reason_of(error: Exception) -> str:
    """Names what happened in words of ours: Ray's messages hold paths and addresses."""
    if isinstance(error, SettingsError):
        return str(error)
    return _REASONS.get(type(error).__name__, type(error).__name__)


def _require_same_software(found: Mapping[str, str]) -> None:
    here = software_versions()
    other = sorted(name for name in here.keys() | found.keys() if here.get(name) != found.get(name))
    if other:
        raise SettingsError(
            "software of a replica",
            expected="the versions of this process",
            found=f"others of {', '.join(other)}",
            remedy="Install the same constraints.txt on every machine.",
        )
