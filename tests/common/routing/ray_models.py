"""Models that the tests of the Ray engine send to its replicas, by import.

They tell what happens in a replica through files in a folder, each written whole.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import DeadlineError
from common.models.base import ModelProfile
from common.request import check_wanted, current_request
from common.task import Result, Task, Tensor


class Doubler:
    """Doubles a tensor, in the tensor's own type."""

    def __init__(self, name: str = "doubler") -> None:
        self.profile = ModelProfile(name=name, modality="tensor", digest=f"digest of {name}")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [self._answer(task) for task in tasks]

    def _answer(self, task: Task) -> Result:
        (part,) = task.parts.values()
        assert isinstance(part, Tensor)
        doubled = (part.values * 2).astype(part.values.dtype)
        return Result({"name": self.profile.name}, {"doubled": doubled})


class Gated(Doubler):
    """Says that it has begun, then waits until the gate is open or nobody waits any more.

    It has an effect: a line in the folder's `effects`, once for each idempotency key.
    """

    def __init__(self, folder: Path, name: str = "gated", *, listens: bool = True) -> None:
        super().__init__(f"{name} {folder.name}")  # another folder is another model
        self.folder = folder
        self.listens = listens

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        key = current_request().idempotency_key
        _write(self.folder / f"begun-{key}-{os.getpid()}", str(os.getpid()))
        if not (self.folder / f"effect-{key}").exists():
            _write(self.folder / f"effect-{key}", key)
            with (self.folder / "effects").open("a") as effects:
                effects.write(f"{key}\n")
        while not (self.folder / "open").exists():
            time.sleep(0.005)
            if self.listens:
                self._look(key)
        return super().predict(tasks)

    def _look(self, key: str) -> None:
        try:
            check_wanted()
        except DeadlineError:
            _write(self.folder / f"ended-{key}", "")
            raise


class Raising(Doubler):
    """Raises what it is given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"raising {error!r}")
        self.error = error

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        raise self.error


class RaisingUnportable(Doubler):
    """Raises what cannot be carried to another process."""

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        raise UnportableError(text="patient")


class Dying(Doubler):
    """Ends its process, as the kernel does when memory runs out."""

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        os.kill(os.getpid(), 9)
        return []


class Uncopied(Doubler):
    """Holds what cannot be copied to another process."""

    def __init__(self) -> None:
        super().__init__("uncopied")
        self.lock = threading.Lock()


class Facts(Doubler):
    """Tells how its process is set up."""

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        import torch

        limits = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
        facts = {"torch": torch.get_num_threads(), "pid": os.getpid(), **limits}
        return [Result(facts, {}) for _ in tasks]


class UnportableError(Exception):
    """An error that cannot be built from its own arguments."""

    def __init__(self, *, text: str) -> None:
        super().__init__(text)


def a_task(value: float = 1.0) -> Task:
    return Task({"x": Tensor(np.full(3, value, np.float32))})


def _write(path: Path, text: str) -> None:
    writing = path.with_name(f".{path.name}")
    writing.write_text(text)
    writing.replace(path)
