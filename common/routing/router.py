"""Sends each part of a task to the right model and joins the answers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.errors import InputError, ModelError, RoutingError, TaskError
from common.models.base import Model, ModelProfile
from common.models.catalogue import open_model
from common.protocol.codec import task_from_dict
from common.request import current_request
from common.routing.cache import ResultCache
from common.routing.engine import Call, Engine, LocalEngine
from common.routing.graph import Graph, Step
from common.routing.policy import Candidates, choose
from common.task import Provenance, Result, Task
from common.versions import software_versions

__all__ = ["Answer", "ModelRouter", "RoutedResult"]

ModelSpec = str | Path | Model


@dataclass(frozen=True)
class Answer:
    """What one model said to one part, and how it came to be asked.

    Args:
        result: The model's result.
        provenance: Model, adapter, input and software that it comes from.
        reason: Why this model answered, failures before it included.
        rejected: Why each other model did not.
        cached: Whether the result was stored earlier.
    """

    result: Result
    provenance: Provenance
    reason: str
    rejected: tuple[str, ...]
    cached: bool


class RoutedResult(Mapping[str, Answer]):
    """The answers to a task, by part name.

    Args:
        answers: Part name to answer.
        input_digest: sha256 of the whole task.
    """

    def __init__(self, answers: Mapping[str, Answer], *, input_digest: str) -> None:
        self._answers = MappingProxyType(dict(answers))
        self.input_digest = input_digest

    def __getitem__(self, part: str) -> Answer:
        return self._answers[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def __repr__(self) -> str:
        shown = ", ".join(f"{part}: {answer.reason}" for part, answer in self._answers.items())
        return f"RoutedResult({shown})"


class ModelRouter:
    """Sends each part of a task to the right model and joins the answers.

    Args:
        models: Part name ("text", "image", "series", ...) to a model or, in order of
            preference, to several: a bundled name, a folder, a hub id, or a Model object.
            The later ones answer when the earlier ones fail.
        cache: Where results of deterministic models are kept; without one, nowhere.
        engine: Where models run; threads of this process by default.

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
    ) -> None:
        if not models:
            raise RoutingError(
                "model router",
                expected="at least one model",
                found="none",
                remedy='Pass models={"text": "minilm"}, for example.',
            )
        self.models = {slot: _open_slot(slot, specs) for slot, specs in models.items()}
        self.cache = cache
        self._engine = engine or LocalEngine()

    def execute(self, task: Task | Mapping[str, Any]) -> RoutedResult:
        """Answers one task, given as a Task or in `common.protocol.codec`'s dictionary form.

        Raises:
            TaskError: The task cannot be understood.
            RoutingError: A part has no model that takes it.
            ModelError: Every model for a part failed.
        """
        return self.execute_many([task])[0]

    def execute_many(self, tasks: Sequence[Task | Mapping[str, Any]]) -> list[RoutedResult]:
        """Answers tasks with the same part names, each model called once for all of them.

        Raises:
            TaskError: The tasks cannot be understood, or differ in their part names.
            RoutingError: A part has no model that takes it.
            ModelError: Every model for a part failed.
        """
        whole = [task if isinstance(task, Task) else task_from_dict(task) for task in tasks]
        if not whole:
            return []
        names = _common_part_names(whole)
        plans = {name: self._plan(name, whole) for name in names}
        steps = [
            Step(name, lambda _, name=name: self._answer(plans[name], _only(name, whole)))  # type: ignore[misc]  # mypy reads the default as part of the signature
            for name in names
        ]
        outcomes = Graph(steps).run()
        return [
            RoutedResult({name: outcomes[name][i] for name in names}, input_digest=task.digest())
            for i, task in enumerate(whole)
        ]

    def _plan(self, part_name: str, tasks: Sequence[Task]) -> Candidates:
        modalities = {task.parts[part_name].modality for task in tasks}
        if len(modalities) != 1:
            raise TaskError(
                f"part {part_name!r}",
                expected="one modality in all tasks of a call",
                found=", ".join(sorted(modalities)),
                remedy="Call execute_many once for each modality.",
            )
        return choose(part_name, modalities.pop(), self.models.get(part_name, ()))

    def _answer(self, candidates: Candidates, tasks: Sequence[Task]) -> list[Answer]:
        failures: list[str] = []
        last_error: Exception | None = None
        for model in candidates.models:
            try:
                results, cached = self._predict(model, tasks)
            except InputError:
                raise  # the next model would get the same unusable input
            except Exception as error:  # noqa: BLE001  # any model's failure leads to the next
                failures.append(f"{model.profile.name} failed ({type(error).__name__})")
                last_error = error
                continue
            return [
                Answer(
                    result=result,
                    provenance=_provenance(model.profile, task),
                    reason=_reason(candidates, model, failures),
                    rejected=candidates.rejected,
                    cached=was_cached,
                )
                for task, result, was_cached in zip(tasks, results, cached, strict=True)
            ]
        raise ModelError(
            "model router",
            expected="an answer from one of the models for the part",
            found="; ".join(failures),
            remedy="See the model's own error above, or add a fallback model.",
        ) from last_error

    def _call(self, model: Model, tasks: Sequence[Task]) -> list[Result]:
        request = current_request()
        call = Call(model, tuple(tasks), request, secrets.token_hex(16))
        return self._engine.submit(call).result()

    def _predict(self, model: Model, tasks: Sequence[Task]) -> tuple[list[Result], list[bool]]:
        if self.cache is None or not model.profile.deterministic:
            return self._call(model, tasks), [False] * len(tasks)
        stored = [self.cache.get(model.profile, task) for task in tasks]
        missing = [i for i, result in enumerate(stored) if result is None]
        fresh = self._call(model, [tasks[i] for i in missing]) if missing else []
        results: dict[int, Result] = dict(zip(missing, fresh, strict=True))
        for i, result in results.items():
            self.cache.put(model.profile, tasks[i], result)
        answers = [results[i] if known is None else known for i, known in enumerate(stored)]
        return answers, [known is not None for known in stored]


def _open_slot(slot: str, specs: ModelSpec | Sequence[ModelSpec]) -> tuple[Model, ...]:
    several = [specs] if isinstance(specs, str | Path | Model) else specs
    return tuple(
        open_model(spec, slot) if isinstance(spec, str | Path) else spec for spec in several
    )


def _common_part_names(tasks: Sequence[Task]) -> list[str]:
    names = sorted(tasks[0].parts)
    if any(sorted(task.parts) != names for task in tasks):
        raise TaskError(
            "tasks",
            expected="the same part names in all tasks of a call",
            found="different ones",
            remedy="Call execute_many once for each set of part names.",
        )
    return names


def _only(name: str, tasks: Sequence[Task]) -> list[Task]:
    return [Task({name: task.parts[name]}, task.parameters) for task in tasks]


def _reason(candidates: Candidates, model: Model, failures: Sequence[str]) -> str:
    if not failures:
        return candidates.reason
    return f"{model.profile.name} answered after " + ", ".join(failures)


def _provenance(profile: ModelProfile, task: Task) -> Provenance:
    return Provenance(
        model=profile.name,
        model_digest=profile.digest,
        input_digest=task.digest(),
        adapter=profile.adapter,
        adapter_digest=profile.adapter_digest,
        software=software_versions(),
    )
