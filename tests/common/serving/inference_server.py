"""A server of the Open Inference Protocol in a thread: REST and gRPC on free loopback ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from common.models.base import ModelProfile
from common.request import check_wanted
from common.routing.engine import LocalEngine
from common.routing.router import ModelRouter
from common.serving.app import AppParts, create_app
from common.serving.audit import AuditLog
from common.serving.drain import Drain
from common.serving.grpc_gate import GrpcGate
from common.serving.inference_grpc import GrpcListener, InferenceService, open_inference_server
from common.serving.inference_rest import OPEN_PATHS, inference_routes
from common.serving.keys import KeyStore
from common.serving.models import ServedModels
from common.serving.security import AccessControl
from common.serving.telemetry import Telemetry
from common.serving.work import WorkThreads
from common.task import Result, Task


class Echo:
    """Gives an array back as it came, and says what it was."""

    def __init__(self, modality: str = "tensor") -> None:
        self.profile = ModelProfile(f"echo-{modality}", modality, "e" * 64, adapter_digest="a" * 64)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        found = []
        for task in tasks:
            part = task.parts[self.profile.modality]
            array = getattr(part, "values", None)
            array = getattr(part, "pixels", array)
            values = {"parameters": dict(task.parameters), "rank": array.ndim}
            found.append(Result(values, {"same": array}))
        return found


class WordCount:
    """Counts words; a text of 'wait' is answered when the request is over."""

    profile = ModelProfile("words", "text", "1" * 64)

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        found = []
        for task in tasks:
            text = task.parts["text"].text
            if text == "wait":
                self._wait()
            n = len(text.split())
            found.append(Result({"words": n, "first": text.split()[0], "share": n / 8}))
        return found

    def _wait(self) -> None:
        self.begun.set()
        try:
            while not self.ended.wait(0.005):
                check_wanted()
        finally:
            self.ended.set()


class Mean:
    """The mean of each column of a table."""

    profile = ModelProfile("mean", "table", "2" * 64)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [
            Result({}, {name: np.array(column.mean()) for name, column in self._numbers(task)})
            for task in tasks
        ]

    @staticmethod
    def _numbers(task: Task):
        return [(n, c) for n, c in task.parts["table"].columns.items() if c.dtype.kind in "iuf"]


@dataclass(frozen=True)
class Running:
    """A server under test."""

    rest: str
    grpc: str
    keys: dict[str, str]
    audit: Path
    words: list[WordCount]
    drain: Drain
    models: ServedModels

    def headers(self, role: str = "analyst") -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[role]}"}


def served_models(engine: LocalEngine, words: list[WordCount]) -> ServedModels:
    models = ServedModels(lambda one: ModelRouter(models=one, engine=engine))
    models.add("echo", Echo)
    models.add("picture", lambda: Echo("image"))
    models.add("mean", Mean)
    models.add("spare", Mean, load=False)

    def load_words() -> WordCount:
        words.append(WordCount())
        return words[-1]

    models.add("words", load_words)
    return models


@contextmanager
def running_server(folder: Path, *, body_bytes: int = 1 << 22) -> Iterator[Running]:
    """Starts REST and gRPC, yields their addresses, and ends both."""
    keys = KeyStore(folder / "keys.json")
    made = {role: keys.add(role, role) for role in ("analyst", "admin")}
    made["small"] = keys.add("small", "analyst", body_bytes=2048)
    access = AccessControl(keys, rate_per_s=1e6, body_bytes=body_bytes)
    audit, drain, telemetry = AuditLog(folder / "audit"), Drain(), Telemetry()
    engine, work, words = LocalEngine(4), WorkThreads(threads=8), []
    models = served_models(engine, words)
    gate = GrpcGate(access, telemetry, audit, drain, 30.0)
    service = InferenceService(models, work, gate, ready=lambda: not drain.draining)
    listener = GrpcListener(port=0, drain_s=5.0)
    app = create_app(
        AppParts(
            access=access,
            telemetry=telemetry,
            audit=audit,
            drain=drain,
            routes=[inference_routes(models, work, ready=lambda: not drain.draining)],
            services=[engine, models, work],
            open_paths=OPEN_PATHS,
            timeout_s=30.0,
        )
    )
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    ports: list[int] = []
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with open_inference_server(service, listener) as port:
            ports.append(port)
            serving = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            ports.append(server.servers[0].sockets[0].getsockname()[1])
            started.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    try:
        yield Running(
            f"127.0.0.1:{ports[1]}",
            f"127.0.0.1:{ports[0]}",
            made,
            folder / "audit",
            words,
            drain,
            models,
        )
    finally:
        stop.set()
        thread.join(30)
