"""The four servers of `serving.wire`, each in a process of its own.

`python -m benchmarks.wire_servers SIDE FOLDER` serves on a free loopback port, says so in one
JSON line, and ends when its standard input does. Sides: "rest" and "grpc" are the inference
service as `tandem serve` puts it together, keys and audit on, around a model that gives its
array back; "rest echo" and "grpc echo" are bare Starlette and bare grpc.aio.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.models.base import ModelProfile
from common.task import Result, Task, Tensor

__all__ = ["SIDES", "WireServer"]

SIDES = ("rest", "rest echo", "grpc", "grpc echo")


class WireServer:
    """One side as a process; a context that ends it.

    Args:
        side: One of `SIDES`.
        folder: Where it keeps keys and audit.
    """

    def __init__(self, side: str, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this file, by this interpreter
            [sys.executable, "-m", "benchmarks.wire_servers", side, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        said = json.loads(self._read() or "{}")
        self.port = int(said["port"])
        self.key = str(said["key"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def _read(self) -> str:
        if self._process.stdout is None:
            return ""
        return self._process.stdout.readline()


class _Same:
    """Gives the array of each task back as it came."""

    profile = ModelProfile("same", "tensor", "1" * 64)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        found = []
        for task in tasks:
            part = task.parts["tensor"]
            found.append(Result({}, {"same": part.values} if isinstance(part, Tensor) else {}))
        return found


@dataclass(frozen=True)
class _Parts:
    """What both protocols of our side share."""

    key: str
    access: Any
    audit: Any
    telemetry: Any
    drain: Any
    models: Any
    work: Any


def _open_parts(folder: Path) -> _Parts:
    from common.routing.engine import LocalEngine
    from common.routing.router import ModelRouter
    from common.serving.audit import AuditLog
    from common.serving.drain import Drain
    from common.serving.keys import KeyStore
    from common.serving.models import ServedModels
    from common.serving.security import AccessControl
    from common.serving.telemetry import Telemetry
    from common.serving.work import WorkThreads

    keys = KeyStore(folder / "keys.json")
    key = keys.add("bench", "analyst")
    engine = LocalEngine(2)
    models = ServedModels(lambda one: ModelRouter(models=one, engine=engine))
    models.add("same", _Same)
    access = AccessControl(keys, rate_per_s=1e6)
    audit = AuditLog(folder / "audit")
    return _Parts(key, access, audit, Telemetry(), Drain(), models, WorkThreads(threads=4))


@asynccontextmanager
async def _rest(folder: Path) -> AsyncIterator[tuple[int, str]]:
    from common.serving.app import AppParts, create_app
    from common.serving.inference_rest import inference_routes

    parts = _open_parts(folder)
    app = create_app(
        AppParts(
            access=parts.access,
            telemetry=parts.telemetry,
            audit=parts.audit,
            drain=parts.drain,
            routes=[inference_routes(parts.models, parts.work)],
            services=[parts.models, parts.work],
        )
    )
    async with _uvicorn(app) as port:
        yield port, parts.key


@asynccontextmanager
async def _grpc(folder: Path) -> AsyncIterator[tuple[int, str]]:
    from common.serving.grpc_gate import GrpcGate
    from common.serving.inference_grpc import GrpcListener, InferenceService, open_inference_server

    parts = _open_parts(folder)
    gate = GrpcGate(parts.access, parts.telemetry, parts.audit, parts.drain, 60.0)
    service = InferenceService(parts.models, parts.work, gate)
    async with open_inference_server(service, GrpcListener(port=0)) as port:
        yield port, parts.key
    parts.work.close()
    parts.audit.close()


@asynccontextmanager
async def _rest_echo(_: Path) -> AsyncIterator[tuple[int, str]]:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    async with _uvicorn(Starlette(routes=[Route("/echo", echo, methods=["POST"])])) as port:
        yield port, ""


@asynccontextmanager
async def _grpc_echo(_: Path) -> AsyncIterator[tuple[int, str]]:
    import grpc

    async def echo(message: bytes, _: Any) -> bytes:
        return message

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=options)
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port, ""
    await server.stop(1)


@asynccontextmanager
async def _uvicorn(app: Any) -> AsyncIterator[int]:
    """Serves with the settings of `common.serving.server`."""
    import uvicorn

    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def _serve(side: str, folder: Path) -> None:
    sides: dict[str, Callable[[Path], Any]] = {
        "rest": _rest,
        "rest echo": _rest_echo,
        "grpc": _grpc,
        "grpc echo": _grpc_echo,
    }
    async with sides[side](folder) as (port, key):
        sys.stdout.write(json.dumps({"port": port, "key": key}) + "\n")
        sys.stdout.flush()
        end: Awaitable[str] = asyncio.to_thread(sys.stdin.read)
        await end


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
