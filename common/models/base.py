"""The one face that every framework's model shows to the router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from common.errors import TaskError
from common.task import Result, Task

__all__ = ["Model", "ModelProfile", "only_part"]

P = TypeVar("P")


@dataclass(frozen=True)
class ModelProfile:
    """What a model accepts, what it costs, how good it is, and exactly which one it is.

    Args:
        name: Name shown in reasons and provenance.
        modality: The modality (`common.task` part class attribute) that it accepts.
        digest: sha256 of weights and configuration; part of the cache key.
        adapter: Name of the adapter on the base, if any.
        adapter_digest: sha256 of the adapter's files, if any; part of the cache key.
        cost: Relative cost of one call; among equals the cheapest is tried first.
        accuracy: Measured accuracy on the model's own test, 0 to 1, if known.
        deterministic: Whether equal tasks give equal results; only then are they cached.
    """

    name: str
    modality: str
    digest: str
    adapter: str | None = None
    adapter_digest: str | None = None
    cost: float = 1.0
    accuracy: float | None = None
    deterministic: bool = True


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
