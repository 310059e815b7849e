"""Typed chains of models and plain functions, checked whole before anything runs.

A graph takes the parts of a task, passes them through steps, and gives what its last step
gives. A `ModelStep` has a router's slot answer a part; a `Step` is a plain function, whose
parameters are named after what they take and annotated with what that is:

    def spoken(findings: Result) -> Text:
        return Text(findings.values["sentence"])

A source is the name of an input or of a step, or "step.array" for one array of a model's
result, which comes as a `Tensor`. `Annotated[Tensor, (384,)]` says the shape too; None
stands for any size. Where a function has other names or no annotations, `sources` and
`types` of the step say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from common.errors import ModelError, TaskError
from common.models.base import ModelProfile
from common.routing.answer import Answer
from common.routing.kinds import Kind, fits, mismatch
from common.routing.signatures import Signature, signature_of
from common.task import Part, Task, Tensor

__all__ = ["Graph", "ModelStep", "Step"]

_PART = "part"  # the one parameter of a step that asks a model


@dataclass(frozen=True)
class Step:
    """A plain function of what inputs and other steps gave.

    Args:
        name: Unique in the graph.
        run: The function; each run of the graph calls it once, on a thread of its own.
        sources: Parameter to what it takes, where the parameter is not named after it.
        types: Parameter, or "return", to its type, where the function does not say it.
    """

    name: str
    run: Callable[..., Any]
    sources: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelStep:
    """A part answered by a model of the router; gives its `Answer`, or `Result`.

    Args:
        name: Unique in the graph.
        slot: The slot of the router whose models may answer.
        source: The part that is answered.
    """

    name: str
    slot: str
    source: str


class Graph:
    """Steps from the parts of a task to one outcome; those independent run side by side.

    Args:
        inputs: Part name to its class, or `Annotated[class, shape]`; all are required.
        steps: The steps, in any order; each leads to the last.
        gives: Name of the last step.

    Raises:
        TaskError: A name occurs twice or leads nowhere, a source is absent, steps wait in a
            circle, a type is not said, or what one step gives is not what another takes.
    """

    def __init__(
        self, inputs: Mapping[str, Any], steps: Sequence[Step | ModelStep], *, gives: str
    ) -> None:
        _refuse("graph", _name_faults(inputs, steps, gives))
        self.gives = gives
        self.inputs = {name: Kind.of_hint(hint) for name, hint in inputs.items()}
        self.steps = {step.name: step for step in steps}
        known = {*self.inputs, *self.steps}
        self._signatures = {step.name: _signature(step, known) for step in steps}
        self.needs = {
            name: {source.partition(".")[0] for source, _ in signature.takes.values()}
            for name, signature in self._signatures.items()
        }
        _refuse("graph", _order_faults(self.inputs, self.needs, gives))
        self.needs = {name: needed - set(self.inputs) for name, needed in self.needs.items()}
        self.order = tuple(TopologicalSorter(self.needs).static_order())
        _refuse("graph", list(self._edge_faults(None)))

    def check(self, models: Mapping[str, Sequence[ModelProfile]]) -> None:
        """Checks the steps that ask models against the models that may answer.

        Args:
            models: Slot to the profiles of its models.

        Raises:
            TaskError: No model of a slot takes what comes, or an array is taken that not
                each of them says it gives.
        """
        _refuse("graph", list(self._edge_faults(models)))

    def check_task(self, task: Task) -> None:
        """Checks that a task has just the parts that the graph takes.

        Raises:
            TaskError: A part is absent, unknown, or of another type or shape.
        """
        faults = [f"no part {name!r}" for name in self.inputs if name not in task.parts]
        faults += [f"a part {name!r} too many" for name in task.parts if name not in self.inputs]
        for name, part in task.parts.items():
            fault = name in self.inputs and mismatch(Kind.of_value(part), self.inputs[name])
            if fault:
                faults.append(f"in part {name!r} {fault}")
        _refuse("task", faults)

    def arguments(self, name: str, outcomes: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a step takes, by parameter.

        Args:
            name: Of the step.
            outcomes: What inputs and earlier steps gave, by name.

        Raises:
            ModelError: A model gave no array of the name or shape that it says it gives.
        """
        return {
            parameter: _fetch(source, kind, outcomes)
            for parameter, (source, kind) in self._signatures[name].takes.items()
        }

    def part_of(self, step: ModelStep, outcomes: Mapping[str, Any]) -> Part:
        """Returns the part that a model is asked to answer."""
        part: Part = self.arguments(step.name, outcomes)[_PART]
        return part

    def checked(self, name: str, value: Any) -> Any:
        """Returns what a step gave, if it is what the step says that it gives.

        Raises:
            ModelError: It is not.
        """
        if fault := mismatch(Kind.of_value(value), self._signatures[name].gives):
            raise ModelError(
                f"step {name!r}",
                expected=str(self._signatures[name].gives),
                found=fault,
                remedy="Correct the step, or the type that it states.",
            )
        return value

    def explain(self, answers: Mapping[str, Answer]) -> tuple[str, ...]:
        """Returns one sentence about each step of a run, in the order in which they may run."""
        return tuple(self._sentence(name, answers.get(name)) for name in self.order)

    def _sentence(self, name: str, answer: Answer | None) -> str:
        if answer is not None:
            return "; ".join([f"{name}: {answer.reason}", *answer.rejected])
        sources = " and ".join(source for source, _ in self._signatures[name].takes.values())
        return f"{name}: a function of {sources or 'nothing'}"

    def _edge_faults(self, models: Mapping[str, Sequence[ModelProfile]] | None) -> Iterator[str]:
        """Yields what does not fit; without models, only what no model could mend."""
        for name, signature in self._signatures.items():
            for source, kind in signature.takes.values():
                given = self._given(source, models)
                if isinstance(given, str):
                    yield f"step {name!r} takes {source!r}, {given}"
                    continue
                if fault := mismatch(given, kind):
                    yield f"between {source!r} and step {name!r} {fault}"
                step = self.steps[name]
                if isinstance(step, ModelStep) and models is not None:
                    yield from _slot_faults(step, given, models.get(step.slot, ()))

    def _given(
        self, source: str, models: Mapping[str, Sequence[ModelProfile]] | None
    ) -> Kind | str:
        """Returns what comes from a source, or why nothing can."""
        name, dot, array = source.partition(".")
        if not dot:
            return self.inputs.get(name) or self._signatures[name].gives
        step = self.steps.get(name)
        if not isinstance(step, ModelStep):
            return "an array of what is no model's result"
        profiles = [] if models is None else models.get(step.slot, ())
        silent = [profile.name for profile in profiles if array not in profile.gives]
        if silent:
            return f"which {' and '.join(silent)} does not say it gives"
        return Kind.of_arrays([profile.gives[array] for profile in profiles])


def _signature(step: Step | ModelStep, known: set[str]) -> Signature:
    if isinstance(step, ModelStep):
        return Signature({_PART: (step.source, Kind.of_hint(Part))}, Kind((Answer,)))
    try:
        return signature_of(step.run, known=known, sources=step.sources, types=step.types)
    except TaskError as error:
        raise TaskError(
            f"step {step.name!r}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error


def _fetch(source: str, kind: Kind, outcomes: Mapping[str, Any]) -> Any:
    name, dot, array = source.partition(".")
    value = outcomes[name]
    if dot:
        return _array(value, array, kind, source)
    if isinstance(value, Answer) and not issubclass(Answer, kind.classes):
        return value.result
    return value


def _array(answer: Answer, array: str, kind: Kind, source: str) -> Tensor:
    found = answer.result.arrays.get(array)
    tensor = None if found is None else Tensor(found)
    fault = "none" if tensor is None else mismatch(Kind.of_value(tensor), kind)
    if tensor is None or fault:
        raise ModelError(
            f"array {source!r}",
            expected=str(kind),
            found=fault or "none",
            remedy="Correct what the model's profile says that it gives.",
        )
    return tensor


def _slot_faults(step: ModelStep, given: Kind, profiles: Sequence[ModelProfile]) -> Iterator[str]:
    modalities = {getattr(one, "modality", None) for one in given.classes}
    able = [
        profile
        for profile in profiles
        if profile.modality in modalities
        and (
            given.shape is None
            or not profile.shapes
            or any(fits(given.shape, shape) for shape in profile.shapes)
        )
    ]
    if not able:
        yield f"no model in slot {step.slot!r} that takes {given} for step {step.name!r}"


def _name_faults(
    inputs: Mapping[str, Any], steps: Sequence[Step | ModelStep], gives: str
) -> list[str]:
    names = [*inputs, *(step.name for step in steps)]
    faults = [
        f"a name {x!r} that occurs twice" for x in sorted({x for x in names if names.count(x) > 1})
    ]
    faults += [f"a name {name!r} with a dot" for name in names if "." in name]
    if gives not in {step.name for step in steps}:
        faults.append(f"no step {gives!r} to give the outcome")
    return faults


def _order_faults(
    inputs: Mapping[str, Kind], needs: Mapping[str, set[str]], gives: str
) -> list[str]:
    absent = sorted({x for needed in needs.values() for x in needed} - {*inputs, *needs})
    faults = [f"a source {name!r} that is absent" for name in absent]
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        faults.append("a circle " + " -> ".join(error.args[1]))
    used, left = {gives}, [gives]
    while left:
        for name in needs.get(left.pop(), set()) - used:
            used.add(name)
            left.append(name)
    return [*faults, *(f"{x!r}, which leads nowhere" for x in sorted({*inputs, *needs} - used))]


def _refuse(subject: str, faults: Sequence[str]) -> None:
    if faults:
        raise TaskError(
            subject,
            expected="named steps without circles, each given what it takes",
            found="; ".join(faults),
            remedy="Correct the names, sources and types; see common.routing.graph.",
        )
