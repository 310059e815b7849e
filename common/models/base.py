"""The one face that every framework's model shows to the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from common.errors import TaskError
from common.task import Result, Task

__all__ = ["Model", "ModelProfile", "Shape", "only_part"]

P = TypeVar("P")
Shape = tuple[int | None, ...]
"""Sizes of an array's axes; None where any size will do."""


@dataclass(frozen=True)
class ModelProfile:
    """What a model accepts, what it costs, how good it is, and exactly which one it is.

    What is not known stays at its default, and is then no reason to reject the model.

    Args:
        name: Name shown in reasons and provenance.
        modality: The modality (`common.task` part class attribute) that it accepts.
        digest: sha256 of weights and configuration; part of the cache key.
        adapter: Name of the adapter on the base, if any.
        adapter_digest: sha256 of the adapter's files, if any; part of the cache key.
        cost: Relative cost of one call; among equals the cheapest is tried first.
        accuracy: Measured accuracy on the model's own test, 0 to 1, if known.
        deterministic: Whether equal tasks give equal results; only then are they cached.
        shapes: Shapes of the arrays that it accepts, one of which must fit; any if empty.
        max_length: Longest input that it accepts: tokens of a text, special tokens
            included, or steps of a series; no limit without it, nor for a model that
            reads longer ones piece by piece.
        languages: Languages of the texts that it reads (BCP 47; "en" covers "en-GB"); any
            if empty.
        latency_ms: Usual time of a call with one task, if known; what is measured in this
            process counts more.
        gives: Arrays in its results, by name, with their shapes; empty where it does not say.
    """

    name: str
    modality: str
    digest: str
    adapter: str | None = None
    adapter_digest: str | None = None
    cost: float = 1.0
    accuracy: float | None = None
    deterministic: bool = True
    shapes: tuple[Shape, ...] = ()
    max_length: int | None = None
    languages: tuple[str, ...] = ()
    latency_ms: float | None = None
    gives: Mapping[str, Shape] = field(default_factory=dict, hash=False)

    @property
    def identity(self) -> str:
        """Name and digests: what is measured of one version says nothing of another."""
        return f"{self.name} {self.digest} {self.adapter_digest or '-'}"


@runtime_checkable
class Model(Protocol):
    """Answers tasks of one modality, many at a time."""

    @property
    def profile(self) -> ModelProfile:
        """What the model accepts and which one it is."""
        ...

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns one result per task, in order; a task has one part of the modality."""
        ...


def only_part(task: Task, kind: type[P]) -> P:
    """Returns the one part of type `kind` that a task for a model holds.

    Raises:
        TaskError: It holds none, or several.
    """
    parts = [part for part in task.parts.values() if isinstance(part, kind)]
    if len(parts) != 1:
        raise TaskError(
            "task",
            expected=f"one part of type {kind.__name__}",
            found=f"{len(parts)}",
            remedy="Send one task for each part.",
        )
    return parts[0]
