"""One replica: some open models in a process of its own, asked one call after the other.

It runs inside a Ray actor and knows nothing of Ray. What a model raises travels in the
reply as itself, so that no message of it gets into a log on the way.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import BackboneError, ModelError
from common.models.base import Model
from common.models.catalogue import Recipe, open_model
from common.request import RequestContext, serving
from common.task import Result, Task
from common.versions import software_versions

__all__ = ["Order", "Replica", "ReplicaFacts", "Reply", "thread_limits"]

_FRAMES_SHOWN = 4


@dataclass(frozen=True)
class Order:
    """One attempt at a call, as it is sent to a replica.

    Args:
        number: Of this attempt; no other has it.
        key: The call's idempotency key.
        model: Identity of the model, which is open there.
        tasks: The tasks.
        trace_id: Of the request.
        remaining_s: Seconds until its deadline; infinite without one.
    """

    number: int
    key: str
    model: str
    tasks: tuple[Task, ...] = field(repr=False)
    trace_id: str
    remaining_s: float


@dataclass(frozen=True)
class Reply:
    """What became of an order.

    Args:
        open_models: Identities of the models that are open now, the latest used last.
        results: One for each task; none where there is an error.
        error: What the model raised.
        place: Where it was raised: files, lines and functions, no values.
        executed: Whether the model worked for this reply; it was remembered if not.
    """

    open_models: tuple[str, ...] = ()
    results: list[Result] | None = field(default=None, repr=False)
    error: Exception | None = None
    place: str = ""
    executed: bool = True


@dataclass(frozen=True)
class ReplicaFacts:
    """Where a replica runs, and with what.

    Args:
        pid: Its process.
        host: Name of its machine.
        software: Versions of the packages that an answer depends on.
    """

    pid: int
    host: str
    software: Mapping[str, str]


def thread_limits(threads: int) -> dict[str, str]:
    """Returns the environment in which a process computes with `threads` threads.

    Set before it starts: OpenMP, MKL, OpenBLAS and the tokenizers read it once.
    """
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
    return {f"{name}_NUM_THREADS": str(threads) for name in names}


class Replica:
    """Opens models and answers orders.

    `open` and `answer` are called one after the other; `give_up` and `facts` from another
    thread meanwhile.

    Args:
        threads: Threads that a model computes with.
        models: Most models open at a time; the least recently used goes first.
        on_gpu: Whether models opened by name are put on the GPU.
        remembered: Most answers kept for an attempt that comes again because its reply was
            lost on the way.
        remembered_bytes: Most bytes of their arrays.
    """

    def __init__(
        self,
        *,
        threads: int,
        models: int,
        on_gpu: bool = False,
        remembered: int = 64,
        remembered_bytes: int = 64 << 20,
    ) -> None:
        self._threads = threads
        self._most_models = models
        self._device = "cuda" if on_gpu else "cpu"
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._answered: OrderedDict[tuple[str, str], list[Result]] = OrderedDict()
        self._remembered = remembered
        self._remembered_bytes = remembered_bytes
        self._lock = threading.Lock()
        self._running: dict[int, RequestContext] = {}
        self._given_up: OrderedDict[int, None] = OrderedDict()
        os.environ.update(thread_limits(threads))
        self._limit_torch()

    def facts(self) -> ReplicaFacts:
        """Returns where this replica runs, and with what."""
        return ReplicaFacts(os.getpid(), socket.gethostname(), dict(software_versions()))

    def open(self, identity: str, source: Recipe | Model) -> Reply:
        """Opens a model, after others have made room for it.

        Args:
            identity: Its profile's `identity`.
            source: What to open it from, or the model itself.
        """
        if identity in self._models:
            self._models.move_to_end(identity)
            return Reply(tuple(self._models))
        try:
            self._make_room()
            if isinstance(source, Recipe):
                model = open_model(source.spec, source.part_name, device=self._device)
            else:
                model = source
            _require_identity(model.profile.identity, identity)
        except Exception as error:  # noqa: BLE001  # the reply carries it to the caller
            return self._failed(error)
        self._models[identity] = model
        self._limit_torch()
        return Reply(tuple(self._models))

    def answer(self, order: Order) -> Reply:
        """Has the order's model answer its tasks, unless that has been done before."""
        known = self._answered.get((order.key, order.model))
        if known is not None:
            return Reply(tuple(self._models), known, executed=False)
        try:
            results = self._run(order)
        except Exception as error:  # noqa: BLE001  # the reply carries it to the caller
            return self._failed(error)
        self._remember((order.key, order.model), results)
        return Reply(tuple(self._models), results)

    def give_up(self, number: int) -> None:
        """Says that nobody waits for an order any more, whether it has begun or not."""
        with self._lock:
            request = self._running.get(number)
            if request is None:
                self._given_up[number] = None
                while len(self._given_up) > self._remembered:
                    self._given_up.popitem(last=False)
        if request is not None:
            request.give_up()

    def _run(self, order: Order) -> list[Result]:
        request = RequestContext(
            order.trace_id,
            time.monotonic() + order.remaining_s,
            idempotency_key=order.key,
        )
        with self._lock:
            if order.number in self._given_up:
                del self._given_up[order.number]
                request.give_up()
            self._running[order.number] = request
        try:
            request.check()
            model = self._models[order.model]
            self._models.move_to_end(order.model)
            with serving(request):
                return list(model.predict(order.tasks))
        finally:
            with self._lock:
                del self._running[order.number]

    def _remember(self, key: tuple[str, str], results: list[Result]) -> None:
        self._answered[key] = results
        total = sum(map(_size, self._answered.values()))
        while len(self._answered) > self._remembered or total > self._remembered_bytes:
            total -= _size(self._answered.popitem(last=False)[1])

    def _make_room(self) -> None:
        while len(self._models) >= self._most_models:
            self._models.popitem(last=False)
        gc.collect()  # a network's modules refer to each other
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _limit_torch(self) -> None:
        # torch may have been loaded before the environment was set, or by a model.
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self._threads)

    def _failed(self, error: Exception) -> Reply:
        return Reply(tuple(self._models), error=_portable(error), place=_place_of(error))


def _size(results: Sequence[Result]) -> int:
    return sum(array.nbytes for result in results for array in result.arrays.values())


def _require_identity(found: str, expected: str) -> None:
    if found != expected:
        raise BackboneError(
            "model on a replica",
            expected=expected,
            found=found,
            remedy="Bring the same folder to the same path of every machine.",
        )


def _portable(error: Exception) -> Exception:
    """Returns `error` where it can be carried to another process, else what names it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes, made on this line
    except Exception:  # noqa: BLE001  # whatever its class does when it is copied
        return ModelError(
            "model",
            expected="an answer",
            found=f"an error of type {type(error).__name__}, which cannot be carried over",
            remedy="Run the model on the local engine to see it.",
        )
    return error


def _place_of(error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "ray" not in Path(frame.filename).parts
    ]
    shown = frames[-_FRAMES_SHOWN:]
    return ", ".join(f"{Path(f.filename).name}:{f.lineno} in {f.name}" for f in shown)
