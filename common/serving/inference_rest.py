"""The Open Inference Protocol v2 over HTTP, with binary tensors and the model repository.

Paths as in the protocol's specification/protocol/inference_rest.md and Triton's extension
"model repository". `/v2/health/*` is open to all (`OPEN_PATHS`); every other path needs a key,
loading and unloading the role admin. Bodies are read once; raw tensors are views of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

from common.errors import MessageError
from common.protocol.open_inference.http_form import (
    HEADER_LENGTH,
    header_length,
    inflated,
    json_object,
    request_from_http,
    response_to_http,
)
from common.serving.gate import caller_of, note_answer, problem_response
from common.serving.memory import keep_freed_memory
from common.serving.models import Inference, ModelMetadata, ServedModels
from common.serving.problems import problem_of_status
from common.serving.security import require_role
from common.serving.work import WorkThreads
from common.versions import software_versions

__all__ = ["EXTENSIONS", "OPEN_PATHS", "inference_routes", "server_metadata"]

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
EXTENSIONS = ("binary_tensor_data", "model_repository")
_RAW = "application/octet-stream"
_STRETCH_BYTES = 1 << 20  # of a body that goes out
_ALIGNMENT = 64  # bytes; the first raw tensor of a body starts at a multiple of it


def inference_routes(
    models: ServedModels,
    work: WorkThreads,
    *,
    ready: Callable[[], bool] = lambda: True,
    count: Callable[[Inference], None] = lambda _: None,
) -> APIRouter:
    """Returns the routes under /v2.

    Args:
        models: What is served.
        work: Where requests are parsed and wait for their model.
        ready: Whether the server takes requests.
        count: Called with each answer, for the metrics.
    """
    keep_freed_memory()
    routes = APIRouter(prefix="/v2", tags=["open inference protocol"])
    _add_health(routes, ready)
    _add_models(routes, models)
    _add_inference(routes, models, work, count)
    _add_repository(routes, models, work)
    return routes


def server_metadata() -> dict[str, Any]:
    """Returns what the protocol tells of this server."""
    version = software_versions().get("tandem-kits", "0")
    return {"name": "tandem", "version": version, "extensions": list(EXTENSIONS)}


def _add_health(routes: APIRouter, ready: Callable[[], bool]) -> None:
    @routes.get("/health/live", summary="Whether the process answers", response_class=Response)
    async def live() -> Response:
        return Response(status_code=HTTPStatus.OK)

    @routes.get(
        "/health/ready",
        summary="Whether requests are taken; 503 while starting or draining",
        response_class=Response,
    )
    async def is_ready() -> Response:
        return Response(status_code=HTTPStatus.OK if ready() else HTTPStatus.SERVICE_UNAVAILABLE)

    @routes.get("", summary="Name, version and extensions of this server")
    async def server() -> dict[str, Any]:
        return server_metadata()


def _add_models(routes: APIRouter, models: ServedModels) -> None:
    @routes.get("/models/{model}", summary="Inputs, outputs and versions of a model")
    async def metadata(model: str) -> dict[str, Any]:
        return _metadata(models.metadata(model))

    @routes.get("/models/{model}/versions/{version}", summary="The same of one version")
    async def version_metadata(model: str, version: str) -> dict[str, Any]:
        return _metadata(models.metadata(model, version))

    @routes.get(
        "/models/{model}/ready", summary="Whether a model is loaded", response_class=Response
    )
    async def model_ready(model: str) -> Response:
        return _ready(models.is_ready(model))

    @routes.get(
        "/models/{model}/versions/{version}/ready",
        summary="Whether one version is loaded",
        response_class=Response,
    )
    async def version_ready(model: str, version: str) -> Response:
        return _ready(models.is_ready(model, version))


def _add_inference(
    routes: APIRouter,
    models: ServedModels,
    work: WorkThreads,
    count: Callable[[Inference], None],
) -> None:
    async def answer(request: Request, model: str, version: str) -> Response:
        body = await _Body.read(request)
        found, response = await work.run(request, lambda: _answer(models, body, model, version))
        count(found)
        response.background = BackgroundTask(_note, request, found)
        return response

    @routes.post(
        "/models/{model}/infer",
        summary="Ask a model; tensors as JSON or as raw bytes after it",
        response_class=Response,
        openapi_extra=_INFERENCE,
    )
    async def infer(request: Request, model: str) -> Response:
        return await answer(request, model, "")

    @routes.post(
        "/models/{model}/versions/{version}/infer",
        summary="Ask one version of a model",
        response_class=Response,
        openapi_extra=_INFERENCE,
    )
    async def infer_version(request: Request, model: str, version: str) -> Response:
        return await answer(request, model, version)


def _add_repository(routes: APIRouter, models: ServedModels, work: WorkThreads) -> None:
    @routes.post("/repository/index", summary="All models and their states", openapi_extra=_INDEX)
    async def index(request: Request) -> JSONResponse:
        ready = _object(await request.body()).get("ready", False)
        if not isinstance(ready, bool):
            raise _no_option("ready", "true or false")
        return JSONResponse([asdict(one) for one in models.index(ready=ready)])

    @routes.post(
        "/repository/models/{model}/load",
        summary="Load a model, or load it again; role admin",
        response_class=Response,
        openapi_extra=_CHANGE,
    )
    async def load(request: Request, model: str) -> Response:
        require_role(caller_of(request), "admin")
        parameters = _parameters(await request.body())
        await work.run(request, lambda: models.load(model, parameters))
        return Response()

    @routes.post(
        "/repository/models/{model}/unload",
        summary="Take a model out of service; role admin",
        response_class=Response,
        openapi_extra=_CHANGE,
    )
    async def unload(request: Request, model: str) -> Response:
        require_role(caller_of(request), "admin")
        parameters = _parameters(await request.body())
        parameters.pop("unload_dependents", None)  # no model here has any
        await work.run(request, lambda: models.unload(model, parameters))
        return Response()


class _Body:
    """A request's body as it came, and what its headers say of it."""

    def __init__(self, body: memoryview, json_bytes: str | None, encoding: str, most: int) -> None:
        self._body, self._json_bytes = body, json_bytes
        self._encoding, self._most_bytes = encoding, most

    @classmethod
    async def read(cls, request: Request) -> _Body:
        """Reads it once, into memory where its raw tensors lie aligned."""
        stated = request.headers.get(HEADER_LENGTH)
        written = stated is not None and stated.isascii() and stated.isdecimal()
        padding = -int(stated[:9]) % _ALIGNMENT if stated is not None and written else 0
        chunks = [bytes(padding)]
        async for chunk in request.stream():
            chunks.append(chunk)  # noqa: PERF401  # an asynchronous comprehension reads no better
        whole = memoryview(b"".join(chunks))[padding:]
        most_bytes = caller_of(request).body_bytes
        return cls(whole, stated, request.headers.get("content-encoding", ""), most_bytes)

    def plain(self) -> tuple[memoryview, int | None]:
        """Returns the body inflated, and the length of its JSON where raw tensors follow."""
        body = inflated(self._body, self._encoding, most_bytes=self._most_bytes)
        return body, header_length(self._json_bytes, len(body))


class _Pieces(Response):
    """A body that is sent as it lies in memory, a stretch at a time.

    Joined first, the tensors would be copied once more, and the whole would wait in the
    transport's buffer; so it goes out while the caller reads.
    """

    def __init__(self, pieces: Sequence[bytes | memoryview], headers: dict[str, str]) -> None:
        self._pieces = pieces
        length = str(sum(map(len, pieces)))
        super().__init__(headers={**headers, "Content-Length": length})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        """Sends it."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        for piece in self._pieces:
            for first in range(0, len(piece), _STRETCH_BYTES):
                stretch = piece[first : first + _STRETCH_BYTES]
                await send({"type": "http.response.body", "body": stretch, "more_body": True})
        await send({"type": "http.response.body"})
        if self.background is not None:
            await self.background()


def _answer(
    models: ServedModels, received: _Body, model: str, version: str
) -> tuple[Inference, Response]:
    body, json_bytes = received.plain()
    asked, forms = request_from_http(
        body, model_name=model, model_version=version, json_bytes=json_bytes
    )
    found = models.infer(asked)
    pieces, length = response_to_http(found.response, forms)
    headers = {"Content-Type": "application/json" if length is None else _RAW}
    if length is not None:
        headers[HEADER_LENGTH] = str(length)
    return found, _Pieces(pieces, headers)


async def _note(request: Request, found: Inference) -> None:
    """Notes where an answer came from, for the audit, once it is on its way."""
    input_digest = await asyncio.to_thread(lambda: found.input_digest)
    note_answer(request, found.provenance, input_digest=input_digest)


def _metadata(found: ModelMetadata) -> dict[str, Any]:
    return asdict(found)


def _ready(ready: bool) -> Response:
    return Response() if ready else problem_response(problem_of_status(422, "It is not loaded."))


def _object(body: bytes) -> dict[str, Any]:
    return json_object(body) if body.strip() else {}


def _parameters(body: bytes) -> dict[str, Any]:
    parameters = _object(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise _no_option("parameters", "an object")
    return parameters


def _no_option(name: str, expected: str) -> MessageError:
    return MessageError(
        f"member {name}",
        expected=expected,
        found="another value",
        remedy="Leave it out, or see the extension model repository.",
    )


def _body_schema(schema: Mapping[str, Any], *, required: bool, raw: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if raw:
        content[_RAW] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": required, "content": content}}


_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP32", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
}
_INFERENCE = {
    **_body_schema(_REQUEST, required=True, raw=True),
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "Length of the JSON in bytes, where raw tensors follow it.",
            "schema": {"type": "integer", "minimum": 2},
        }
    ],
}
_INDEX = _body_schema(
    {"type": "object", "properties": {"ready": {"type": "boolean"}}}, required=False
)
_CHANGE = _body_schema(
    {"type": "object", "properties": {"parameters": {"type": "object"}}}, required=False
)
