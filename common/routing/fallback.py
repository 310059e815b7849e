"""Asks the models for one part in turn until one answers, and remembers how each did.

The next model is asked when one fails or is left alone because it failed lately. The same
model is asked again only after a failure that another try may mend, and only while its
budget of retries lasts. What is the caller's own affair ends the matter at once: unusable
input, a deadline, a full queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.errors import AccessError, DeadlineError, InputError, ModelError, OverloadError
from common.models.base import Model
from common.request import RequestContext
from common.routing.cache import ResultCache
from common.routing.engine import Call, Engine, LocalEngine
from common.routing.health import Health
from common.routing.latency import Latencies
from common.routing.policy import Candidates
from common.routing.preference import Context, LearnedPreference
from common.task import Result, Task

__all__ = ["Fallback", "Inquiry", "Reply"]

_CALLERS_AFFAIR = (InputError, AccessError, OverloadError, DeadlineError)
_MAY_MEND = (ModelError, ConnectionError)  # a worker that died, a connection that broke
_MOST_ATTEMPTS = 3  # of one call at one model


@dataclass(frozen=True)
class Inquiry:
    """One part's tasks and the models that may answer them.

    Args:
        candidates: The models, best first.
        tasks: At least one task, each with one part.
        request: Whose deadline and cancellation hold.
        context: What a learned preference looks at.
        key: Idempotency key of the inquiry.
    """

    candidates: Candidates
    tasks: tuple[Task, ...]
    request: RequestContext
    context: Context
    key: str


@dataclass(frozen=True)
class Reply:
    """What the first model that answered said.

    Args:
        model: The model.
        results: One for each task, in order.
        cached: Whether each was stored earlier.
        reason: Why this model answered, failures before it included.
    """

    model: Model
    results: Sequence[Result]
    cached: Sequence[bool]
    reason: str


@dataclass
class _Trail:
    """What happened to the models before the one that answers."""

    steps: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    cooldowns_s: list[float] = field(default_factory=list)

    def fail(self, model: Model, error: Exception) -> None:
        self.steps.append(f"{model.profile.name} failed ({type(error).__name__})")
        self.failures.append(error)

    def leave_alone(self, model: Model, why: str, left_s: float) -> None:
        self.steps.append(f"{model.profile.name} was left alone ({why})")
        self.cooldowns_s.append(left_s)


class _LeftAloneError(Exception):
    """The model's circuit is open, or another call is probing it; never leaves this file."""


class Fallback:
    """Asks models in turn; any number of threads may use it.

    Args:
        engine: Where models run.
        health: Which models are left alone, and who may retry.
        latencies: Takes the times of calls that succeeded or came too late.
        cache: Where results of deterministic models are kept; None for nowhere.
        preference: Learns from the outcomes; None where nothing does.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        health: Health,
        *,
        latencies: Latencies,
        cache: ResultCache | None,
        preference: LearnedPreference | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = engine.run if isinstance(engine, LocalEngine) else _waited(engine)
        self._health = health
        self._latencies = latencies
        self._cache = cache
        self._preference = preference
        self._clock = clock

    def ask(self, inquiry: Inquiry) -> Reply:
        """Returns the answers of the first model that gives them.

        Raises:
            InputError: The input is unusable.
            OverloadError: The engine has no room, or every model is left alone for now.
            DeadlineError: The deadline has passed, or the caller gave up.
            ModelError: Every model failed.
        """
        trail = _Trail()
        for model in inquiry.candidates.models:
            try:
                results, cached = self._results(model, inquiry, trail)
            except _CALLERS_AFFAIR:
                raise  # the next model would get the same input, as late or into the same queue
            except _LeftAloneError:
                continue
            except Exception as error:  # noqa: BLE001  # any model's failure leads to the next
                trail.fail(model, error)
                continue
            reason = inquiry.candidates.reason
            if trail.steps:
                reason = f"{model.profile.name} answered after " + ", ".join(trail.steps)
            return Reply(model, results, cached, reason)
        raise _unanswered(trail) from (trail.failures[-1] if trail.failures else None)

    def _results(
        self, model: Model, inquiry: Inquiry, trail: _Trail
    ) -> tuple[list[Result], list[bool]]:
        """Returns results, each stored before or computed now in one call with the others."""
        if self._cache is None or not model.profile.deterministic:
            results = self._attempts(model, inquiry.tasks, inquiry, trail)
            return results, [False] * len(results)
        fetched = self._cache.get_or_compute_many(
            model.profile,
            inquiry.tasks,
            lambda missing: self._attempts(model, tuple(missing), inquiry, trail),
            check=inquiry.request.check,
            own=(*_CALLERS_AFFAIR, _LeftAloneError),
        )
        return [one.result for one in fetched], [one.source != "computed" for one in fetched]

    def _attempts(
        self, model: Model, tasks: tuple[Task, ...], inquiry: Inquiry, trail: _Trail
    ) -> list[Result]:
        """Calls the model, and again after what may mend, while the budget of retries lasts."""
        attempt = 1
        while True:
            try:
                return self._attempt(model, tasks, inquiry, trail, retry=attempt > 1)
            except _MAY_MEND as error:
                if attempt == _MOST_ATTEMPTS or not self._health.may_retry(model.profile.identity):
                    raise
                trail.fail(model, error)
                attempt += 1

    def _attempt(
        self,
        model: Model,
        tasks: tuple[Task, ...],
        inquiry: Inquiry,
        trail: _Trail,
        *,
        retry: bool,
    ) -> list[Result]:
        profile, request = model.profile, inquiry.request
        admission = self._health.admit(profile.identity, retry=retry)
        if admission is None:
            trail.leave_alone(model, *self._health.why_not(profile.identity))
            raise _LeftAloneError
        begun_s = self._clock()
        with admission:
            call = Call(model, tasks, request, f"{inquiry.key}/{profile.name}")
            try:
                results = self._run(call)
                _check_count(model, results, len(tasks))
            except DeadlineError:
                if not request.given_up.is_set():
                    worked_s = self._note_time(call, begun_s, finished=False)
                    if worked_s >= self._health.rules.hung_after_s:
                        admission.verdict = False
                raise
            except _CALLERS_AFFAIR:
                raise
            except Exception:
                admission.verdict = False
                self._learn(model, inquiry.context, 0.0)
                raise
            admission.verdict = True
        self._note_time(call, begun_s, finished=True)
        self._learn(model, inquiry.context, 1.0)
        return results

    def _note_time(self, call: Call, begun_s: float, *, finished: bool) -> float:
        """Notes and returns how long the model worked; where no engine tells, with waiting."""
        work, profile = call.work, call.model.profile
        seconds = self._clock() - begun_s if work.seconds is None else work.seconds
        if finished or work.seconds:  # of a call cut off, waiting would tell nothing
            n_tasks = work.n_tasks or len(call.tasks)
            self._latencies.record(profile, n_tasks, seconds, finished=finished)
        return seconds

    def _learn(self, model: Model, context: Context, quality: float) -> None:
        preference = self._preference
        if preference is not None and (quality == 0.0 or preference.learn_from == "calls"):
            preference.record(model.profile, context, quality)


def _waited(engine: Engine) -> Callable[[Call], list[Result]]:
    return lambda call: engine.submit(call).result()


def _check_count(model: Model, results: Sequence[Result], n_tasks: int) -> None:
    if not isinstance(results, list) or len(results) != n_tasks:
        raise ModelError(
            f"model {model.profile.name}",
            expected=f"a list of {n_tasks} results",
            found=f"{type(results).__name__}, or another number of them",
            remedy="Return one result for each task, in order.",
        )


def _unanswered(trail: _Trail) -> OverloadError | ModelError:
    found = "; ".join(trail.steps)
    if not trail.failures:
        return OverloadError(
            "model router",
            expected="a model that has not failed too often lately",
            found=found,
            remedy="Send the request again later, or add a fallback model.",
            retry_after_s=min(trail.cooldowns_s),
        )
    return ModelError(
        "model router",
        expected="an answer from one of the models for the part",
        found=found,
        remedy="See the model's own error above, or add a fallback model.",
    )
