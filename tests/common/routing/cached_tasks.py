"""What the tests of the cache ask, and of which model."""

from __future__ import annotations

from common.models.base import ModelProfile
from common.task import Result, Task, Text

PROFILE = ModelProfile(name="m", modality="text", digest="d", adapter="a", adapter_digest="e")
TASK = Task({"text": Text("words")})
OTHER = Task({"text": Text("other words")})


class Clock:
    """Unix time that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def answer(task: Task) -> Result:
    return Result({"length": len(task.parts["text"].text)})


def never(task: Task) -> Result:
    raise AssertionError("it was stored")


def with_text(text: str) -> Task:
    return Task({"text": Text(text)})
