"""Small real models that routing is tested with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from common.models.base import ModelProfile
from common.request import current_request
from common.task import Result, Task, Text


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class WordCount:
    """Counts words; remembers how many tasks each call had."""

    def __init__(self, name: str = "words", **profile: Any) -> None:
        facts = {"name": name, "modality": "text", "digest": "1", **profile}
        self.profile = ModelProfile(**facts)
        self.calls: list[int] = []

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self.calls.append(len(tasks))
        return [Result(values={"words": len(task.parts["text"].text.split())}) for task in tasks]


class Failing(WordCount):
    """Raises the next of its errors at each call, then counts words."""

    def __init__(self, name: str, errors: Sequence[Exception], **profile: Any) -> None:
        super().__init__(name, **profile)
        self.errors = list(errors)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        if self.errors:
            self.calls.append(len(tasks))
            raise self.errors.pop(0)
        return super().predict(tasks)


class Held(WordCount):
    """Says when it has begun and waits to be let go, for at most half a minute."""

    def __init__(self, name: str = "held", **profile: Any) -> None:
        super().__init__(name, **profile)
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.traces: list[str] = []

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self.traces.append(current_request().trace_id)
        self.begun.release()
        if not self.go.wait(30):
            raise TimeoutError
        return super().predict(tasks)


class Asking(WordCount):
    """Does what it was given before it answers."""

    def __init__(self, name: str, act: Callable[[], object], **profile: Any) -> None:
        super().__init__(name, **profile)
        self._act = act

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self._act()
        return super().predict(tasks)


def text_tasks(*texts: str) -> tuple[Task, ...]:
    return tuple(Task({"text": Text(text)}) for text in texts)
