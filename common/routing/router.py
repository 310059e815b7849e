"""Sends each part of a task to the right model and joins the answers.

    with ModelRouter({"text": ["first", "second"]}) as router:
        answer = router.execute({"type": "text", "text_prompt": "..."})["text"]
        answer.result, answer.reason, answer.rejected

How a model is chosen: `common.routing.policy`. What happens when one fails:
`common.routing.fallback` and `common.routing.health`. Where it runs, and what happens when
there is no room or no time: `common.routing.engine`. Chains of models: `common.routing.graph`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.errors import RoutingError, TaskError
from common.models.base import Model, ModelProfile
from common.models.catalogue import open_model
from common.protocol.messages.codec import task_from_dict
from common.request import RequestContext, current_request
from common.routing.answer import Answer, GraphResult, RoutedResult
from common.routing.branches import run_branches
from common.routing.cache import ResultCache
from common.routing.engine import Engine, LocalEngine, RemoteEngine
from common.routing.fallback import Fallback, Inquiry
from common.routing.graph import Graph, ModelStep
from common.routing.health import Health
from common.routing.latency import Latencies
from common.routing.policy import Candidates, Demand, Policy, choose
from common.routing.preference import LearnedPreference
from common.task import Part, Task

__all__ = ["Answer", "ModelRouter", "ModelSpec", "RoutedResult"]

ModelSpec = str | Path | Model


class ModelRouter:
    """Sends each part of a task to the right model and joins the answers.

    Any number of threads may use one router. Close it, or use it as a context, to end the
    threads of its own engine; an engine, cache or preference given to it stays open.

    Args:
        models: Part name ("text", "image", "series", ...) to a model or, in order of
            preference, to several: a bundled name, a folder, a hub id, or a Model object.
            The later ones answer when the earlier ones fail.
        cache: Where results of deterministic models are kept; without one, nowhere.
        engine: Where models run; threads of this process by default.
        policy: Bounds of cost and accuracy, and which of them comes first.
        health: When a model is left alone after failures.
        preference: What outcomes teach about which model to prefer; without it nothing is
            learned.

    Raises:
        RoutingError: There is no model at all.
        BackboneError: A named model is absent or damaged.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec | Sequence[ModelSpec]],
        *,
        cache: ResultCache | None = None,
        engine: Engine | None = None,
        policy: Policy | None = None,
        health: Health | None = None,
        preference: LearnedPreference | None = None,
    ) -> None:
        if not models:
            raise RoutingError(
                "model router",
                expected="at least one model",
                found="none",
                remedy='Pass models={"text": "minilm"}, for example.',
            )
        self.engine = engine or LocalEngine()
        self._owns_engine = engine is None
        opener = self.engine.open if isinstance(self.engine, RemoteEngine) else open_model
        self.models = {slot: _open_slot(slot, specs, opener) for slot, specs in models.items()}
        self.cache = cache
        self.policy = policy or Policy()
        self.health = health or Health()
        self.preference = preference
        self.latencies = Latencies()
        self._fallback = Fallback(
            self.engine,
            self.health,
            latencies=self.latencies,
            cache=cache,
            preference=preference,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads of the router's own engine once the calls taken have ended."""
        if self._owns_engine:
            self.engine.close()

    def execute(
        self,
        task: Task | Mapping[str, Any],
        *,
        request: RequestContext | None = None,
        idempotency_key: str | None = None,
    ) -> RoutedResult:
        """Answers one task, given as a Task or in the dictionary form of `messages.codec`.

        Args:
            task: The task.
            request: Whose deadline and cancellation hold; the current one without it.
            idempotency_key: Equal for repeats of one piece of work; drawn without it.

        Raises:
            TaskError: The task cannot be understood.
            RoutingError: A part has no model that takes it.
            DeadlineError: The deadline has passed, or would before any model answers.
            OverloadError: There is no room now, or every model for a part is cooling down.
            ModelError: Every model for a part failed.
        """
        return self.execute_many([task], request=request, idempotency_key=idempotency_key)[0]

    def execute_many(
        self,
        tasks: Sequence[Task | Mapping[str, Any]],
        *,
        request: RequestContext | None = None,
        idempotency_key: str | None = None,
    ) -> list[RoutedResult]:
        """Answers tasks with the same part names, each model called once for all of them.

        Where one part fails, the others are given up and nothing is returned.

        Args:
            tasks: The tasks.
            request: Whose deadline and cancellation hold; the current one without it.
            idempotency_key: Equal for repeats of one piece of work; drawn without it.

        Raises:
            TaskError: The tasks cannot be understood, or differ in their part names.
            RoutingError: A part has no model that takes it.
            DeadlineError: The deadline has passed, or would before any model answers.
            OverloadError: There is no room now, or every model for a part is cooling down.
            ModelError: Every model for a part failed.
        """
        whole = [_task(task) for task in tasks]
        if not whole:
            return []
        wanted = request or current_request()
        wanted.check()
        key = idempotency_key or secrets.token_hex(8)
        names = _common_part_names(whole)
        plans = {name: self._plan(name, whole, wanted) for name in names}

        def answer(name: str, request: RequestContext) -> list[Answer]:
            demand, candidates = plans[name]
            return self._answer(demand, candidates, _only(name, whole), request=request, key=key)

        if len(names) == 1:
            outcomes: Mapping[str, list[Answer]] = {names[0]: answer(names[0], wanted)}
        else:
            outcomes = run_branches(
                dict.fromkeys(names, ()), lambda name, _: answer(name, current_request()), wanted
            )
        return [
            RoutedResult({name: outcomes[name][i] for name in names}, task=task)
            for i, task in enumerate(whole)
        ]

    def run(
        self,
        graph: Graph,
        task: Task | Mapping[str, Any],
        *,
        request: RequestContext | None = None,
        idempotency_key: str | None = None,
    ) -> GraphResult:
        """Passes a task through a graph; all of its steps succeed, or nothing is returned.

        Args:
            graph: The steps.
            task: Its parts are the graph's inputs.
            request: Whose deadline and cancellation hold; the current one without it.
            idempotency_key: Equal for repeats of one piece of work; drawn without it.

        Raises:
            TaskError: The task or this router's models do not fit the graph; nothing ran.
            RoutingError: What reaches a slot is too long for its models, in a language that
                they do not read, or out of the policy's bounds.
            DeadlineError: The deadline has passed, or the caller gave up.
            OverloadError: There is no room now, or every model of a slot is cooling down.
            ModelError: Every model of a slot failed, or a step gave another type than it says.
            Exception: What a step's own function raised.
        """
        whole = _task(task)
        graph.check_task(whole)
        graph.check(self.profiles())
        key = idempotency_key or secrets.token_hex(8)

        def work(name: str, outcomes: Mapping[str, Any]) -> Any:
            step, known = graph.steps[name], {**whole.parts, **outcomes}
            if not isinstance(step, ModelStep):
                return graph.checked(name, step.run(**graph.arguments(name, known)))
            part = Task({step.slot: graph.part_of(step, known)}, whole.parameters)
            wanted = current_request()
            demand, candidates = self._plan(step.slot, [part], wanted)
            return self._answer(demand, candidates, (part,), request=wanted, key=f"{key}/{name}")[0]

        outcomes = run_branches(graph.needs, work, request or current_request())
        asked = [name for name, step in graph.steps.items() if isinstance(step, ModelStep)]
        answers = {name: outcomes[name] for name in asked}
        return GraphResult(outcomes[graph.gives], answers, graph.explain(answers), whole)

    def explain(self, task: Task | Mapping[str, Any]) -> dict[str, Candidates]:
        """Returns for each part the models that would be asked, in order, and why; asks none.

        Raises:
            TaskError: The task cannot be understood.
            RoutingError: A part has no model that takes it.
        """
        whole = _task(task)
        request = current_request()
        return {name: self._plan(name, [whole], request)[1] for name in sorted(whole.parts)}

    def judge(self, answer: Answer, quality: float) -> None:
        """Tells the learned preference how good an answer was, 0 to 1; without one, nobody.

        Raises:
            InputError: The quality is out of its range.
        """
        if self.preference is not None:
            self.preference.record(answer.profile, answer.context, quality)

    def profiles(self) -> dict[str, tuple[ModelProfile, ...]]:
        """Returns the profiles of the models, by slot."""
        return {slot: tuple(m.profile for m in models) for slot, models in self.models.items()}

    def _plan(
        self, part_name: str, tasks: Sequence[Task], request: RequestContext
    ) -> tuple[Demand, Candidates]:
        parts = tuple(task.parts[part_name] for task in tasks)
        _require_one_modality(part_name, parts)
        demand = Demand(part_name, parts, request.remaining_s())
        candidates = choose(
            demand,
            self.models.get(part_name, ()),
            policy=self.policy,
            latencies=self.latencies,
            preference=self.preference,
        )
        return demand, candidates

    def _answer(
        self,
        demand: Demand,
        candidates: Candidates,
        tasks: tuple[Task, ...],
        *,
        request: RequestContext,
        key: str,
    ) -> list[Answer]:
        name = f"{key}/{demand.part_name}"
        reply = self._fallback.ask(Inquiry(candidates, tasks, request, demand.context, name))
        profile = reply.model.profile
        return [
            Answer(
                result=result,
                task=task,
                reason=reply.reason,
                rejected=candidates.rejected,
                cached=cached,
                profile=profile,
                context=demand.context,
            )
            for task, result, cached in zip(tasks, reply.results, reply.cached, strict=True)
        ]


def _open_slot(
    slot: str, specs: ModelSpec | Sequence[ModelSpec], opener: Callable[[str | Path, str], Model]
) -> tuple[Model, ...]:
    several = [specs] if isinstance(specs, str | Path | Model) else specs
    return tuple(opener(spec, slot) if isinstance(spec, str | Path) else spec for spec in several)


def _task(task: Task | Mapping[str, Any]) -> Task:
    return task if isinstance(task, Task) else task_from_dict(task)


def _common_part_names(tasks: Sequence[Task]) -> list[str]:
    names = sorted(tasks[0].parts)
    if any(task.parts.keys() != tasks[0].parts.keys() for task in tasks):
        raise TaskError(
            "tasks",
            expected="the same part names in all tasks of a call",
            found="different ones",
            remedy="Call execute_many once for each set of part names.",
        )
    return names


def _require_one_modality(part_name: str, parts: Sequence[Part]) -> None:
    modalities = {part.modality for part in parts}
    if len(modalities) != 1:
        raise TaskError(
            f"part {part_name!r}",
            expected="one modality in all tasks of a call",
            found=", ".join(sorted(modalities)),
            remedy="Call execute_many once for each modality.",
        )


def _only(name: str, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Returns tasks of the one part; one that has no other stays itself, digest included."""
    return tuple(
        task if len(task.parts) == 1 else Task({name: task.parts[name]}, task.parameters)
        for task in tasks
    )
