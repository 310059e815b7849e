"""The Open Inference Protocol v2 over gRPC: `inference.GRPCInferenceService` on grpc.aio.

    async with open_inference_server(service, GrpcListener(port=8001)) as port:
        ...

Every method passes `common.serving.grpc_gate`; loading and unloading need the role admin.
`ServerLive`, `ServerReady` and `grpc.health.v1.Health/Check` are open to all;
`ModelStreamInfer` is refused by name. Messages are parsed on the threads that wait for models.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from common.errors import MessageError, SettingsError, UnknownNameError
from common.protocol.open_inference import open_inference_pb2 as pb2
from common.protocol.open_inference.grpc_form import (
    parameters_of,
    request_from_message,
    response_to_message,
)
from common.serving.grpc_gate import GrpcCall, GrpcGate, GrpcMethod
from common.serving.inference_rest import server_metadata
from common.serving.memory import keep_freed_memory
from common.serving.models import Inference, ServedModels
from common.serving.work import WorkThreads

__all__ = ["SERVICE", "GrpcListener", "InferenceService", "open_inference_server"]

SERVICE = "inference.GRPCInferenceService"
_HEALTH = "grpc.health.v1.Health"
_OPEN = frozenset({"Check", "ServerLive", "ServerReady"})
_SERVING, _NOT_SERVING = (
    b"\x08\x01",
    b"\x08\x02",
)  # HealthCheckResponse, grpc/health/v1/health.proto

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class GrpcListener:
    """Where and how the gRPC server listens, and how it ends.

    Args:
        host: Address.
        port: TCP port; 0 draws a free one.
        tls_certificate: Certificate chain in PEM; without it the port speaks plain text.
        tls_key: Private key of the certificate, PEM.
        tls_client_ca: Authorities in PEM one of which must have signed each client's
            certificate; without them no certificate is asked for.
        message_bytes: Largest message that is taken at all; a key may allow less.
        calls: Calls open at a time; more get RESOURCE_EXHAUSTED.
        drain_s: How long open calls may take when it ends; then they are cancelled.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    message_bytes: int = 64 << 20
    calls: int = 1024
    drain_s: float = 30.0


class InferenceService:
    """The methods of the service, each from bytes to bytes.

    Args:
        models: What is served.
        work: Where messages are parsed and wait for their model.
        gate: What each call passes.
        ready: Whether the server takes requests.
        count: Called with each answer, for the metrics.
    """

    def __init__(
        self,
        models: ServedModels,
        work: WorkThreads,
        gate: GrpcGate,
        *,
        ready: Callable[[], bool] = lambda: True,
        count: Callable[[Inference], None] = lambda _: None,
    ) -> None:
        self._models, self._work, self._gate = models, work, gate
        self._is_ready, self._count = ready, count

    def handlers(self) -> list[Any]:
        """Returns grpc's handlers of the services; other methods are UNIMPLEMENTED."""
        methods: Mapping[str, GrpcMethod] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        inference = {
            name: self._gate.handler(SERVICE, name, method, is_open=name in _OPEN)
            for name, method in methods.items()
        }
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(_no_streams)
        health = {"Check": self._gate.handler(_HEALTH, "Check", self._check, is_open=True)}
        return [
            grpc.method_handlers_generic_handler(SERVICE, inference),
            grpc.method_handlers_generic_handler(_HEALTH, health),
        ]

    async def settle(self) -> None:
        """Returns when every call that has ended is in the audit."""
        await self._gate.settle()

    async def _server_live(self, _: GrpcCall) -> bytes:
        return _written(pb2.ServerLiveResponse(live=True))

    async def _server_ready(self, _: GrpcCall) -> bytes:
        return _written(pb2.ServerReadyResponse(ready=self._is_ready()))

    async def _server_metadata(self, _: GrpcCall) -> bytes:
        return _written(pb2.ServerMetadataResponse(**server_metadata()))

    async def _model_ready(self, call: GrpcCall) -> bytes:
        asked = _read(pb2.ModelReadyRequest, call)
        ready = self._models.is_ready(asked.name, asked.version)
        return _written(pb2.ModelReadyResponse(ready=ready))

    async def _model_metadata(self, call: GrpcCall) -> bytes:
        asked = _read(pb2.ModelMetadataRequest, call)
        found = asdict(self._models.metadata(asked.name, asked.version))
        return _written(pb2.ModelMetadataResponse(**found))

    async def _model_infer(self, call: GrpcCall) -> bytes:
        def answer() -> tuple[Inference, bytes]:
            found = self._models.infer(request_from_message(call.message))
            return found, response_to_message(found.response)

        found, written = await self._work.run(None, answer)
        call.answered = found
        self._count(found)
        return written

    async def _index(self, call: GrpcCall) -> bytes:
        asked = _read(pb2.RepositoryIndexRequest, call)
        _require_no_repository(asked.repository_name)
        listed = [asdict(one) for one in self._models.index(ready=asked.ready)]
        return _written(pb2.RepositoryIndexResponse(models=listed))

    async def _load(self, call: GrpcCall) -> bytes:
        call.require_admin()
        asked = _read(pb2.RepositoryModelLoadRequest, call)
        _require_no_repository(asked.repository_name)
        parameters = parameters_of(asked.parameters)
        await self._work.run(None, lambda: self._models.load(asked.model_name, parameters))
        return _written(pb2.RepositoryModelLoadResponse())

    async def _unload(self, call: GrpcCall) -> bytes:
        call.require_admin()
        asked = _read(pb2.RepositoryModelUnloadRequest, call)
        _require_no_repository(asked.repository_name)
        parameters = parameters_of(asked.parameters)
        parameters.pop("unload_dependents", None)  # no model here has any
        await self._work.run(None, lambda: self._models.unload(asked.model_name, parameters))
        return _written(pb2.RepositoryModelUnloadResponse())

    async def _check(self, call: GrpcCall) -> bytes:
        # HealthCheckRequest is one text in field 1, as ModelReadyRequest's name is.
        if _read(pb2.ModelReadyRequest, call).name not in {"", SERVICE}:
            raise UnknownNameError(
                "service",
                expected=f"{SERVICE}, or none for the server",
                found="another",
                remedy="Ask for one of these.",
            )
        return _SERVING if self._is_ready() else _NOT_SERVING


@asynccontextmanager
async def open_inference_server(
    service: InferenceService, listener: GrpcListener
) -> AsyncIterator[int]:
    """Serves inside the block; then open calls may end, and new ones are turned away.

    Yields:
        The port.

    Raises:
        SettingsError: The port is taken, or a file of TLS cannot be read.
    """
    keep_freed_memory()
    options = [
        ("grpc.max_receive_message_length", listener.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a share
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=listener.calls)
    server.add_generic_rpc_handlers(service.handlers())
    address = f"{listener.host}:{listener.port}"
    try:
        credentials = _credentials(listener)
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except (OSError, RuntimeError) as error:
        raise SettingsError(
            "gRPC port",
            expected="a free port, and readable PEM files for TLS",
            found=type(error).__name__,
            remedy="Choose another port, or check the certificate, its key and the authorities.",
        ) from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(listener.drain_s)
        await service.settle()


def _credentials(listener: GrpcListener) -> Any:
    if listener.tls_certificate is None or listener.tls_key is None:
        return None
    pair = (listener.tls_key.read_bytes(), listener.tls_certificate.read_bytes())
    if listener.tls_client_ca is None:
        return grpc.ssl_server_credentials([pair])
    authorities = listener.tls_client_ca.read_bytes()
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=True)


async def _no_streams(_: Any, context: Any) -> None:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "ModelStreamInfer is not served here. Call ModelInfer for each request.",
    )


def _read(kind: type[M], call: GrpcCall) -> M:
    try:
        read: M = kind.FromString(call.message)
    except DecodeError:
        raise MessageError(
            "message",
            expected=f"a {kind.DESCRIPTOR.name}",
            found="bytes that are none",
            remedy="See the Open Inference Protocol.",
        ) from None
    return read


def _written(message: Message) -> bytes:
    written: bytes = message.SerializeToString()
    return written


def _require_no_repository(name: str) -> None:
    if name:
        raise UnknownNameError(
            "model repository",
            expected="none by name: there is one",
            found="a name",
            remedy="Leave repository_name out.",
        )
