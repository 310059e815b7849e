"""`POST /v1/link/tasks`: one task of several parts in, one accountable answer out.

A task comes in one of three forms: as the source article writes it (JSON with `type`,
`text_prompt`, ...), as an envelope in JSON, or as an envelope in Protobuf. The answer has the
form of the question. Files are never read for a caller: pictures travel as arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from common.errors import MessageError, TaskError
from common.protocol.messages.codec import task_from_dict
from common.protocol.messages.envelope import Envelope
from common.protocol.messages.json_form import payload_to_json
from common.protocol.messages.json_reader import read_json, typed
from common.protocol.messages.payloads import LinkedAnswer, PartAnswer
from common.request import RequestContext, current_request, serving
from common.routing.router import ModelRouter
from common.serving.gate import adopt_request, note_answer
from common.serving.telemetry import Telemetry
from common.serving.work import WorkThreads
from common.task import Task

__all__ = ["JSON", "PROTOBUF", "body_form", "link_routes", "unsupported_form"]

JSON, PROTOBUF = "application/json", "application/x-protobuf"
_LARGEST_BYTES = (1 << 31) - 1  # the gate has held the body to its caller's limit already
_ARTICLE_FORM = {
    "type": "object",
    "properties": {
        "type": {"enum": ["image", "multimodal", "series", "text"]},
        "text_prompt": {"type": "string"},
        "image": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "image_params": {
            "type": "object",
            "properties": {
                "resolution": {"type": "integer", "minimum": 1, "maximum": 8192},
                "seed": {"type": "integer"},
            },
        },
        "series": {"type": "array", "items": {"type": "number"}},
        "parameters": {"type": "object"},
    },
    "additionalProperties": False,
}
_ENVELOPE_FORM = {
    "type": "object",
    "properties": {
        "version": {"const": 1},
        "kind": {"const": "task"},
        "id": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "deadline_ms": {"type": ["integer", "null"], "minimum": 0},
        "payload": {"type": "object"},
    },
    "required": ["version", "kind", "payload"],
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"anyOf": [_ARTICLE_FORM, _ENVELOPE_FORM]}},
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What each part's model answered, and where that comes from",
        "content": {
            JSON: {"schema": {"type": "object", "properties": {"parts": {"type": "object"}}}},
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@dataclass(frozen=True)
class _Answered:
    """An answer ready to send, and what the audit and the counters are told of it."""

    content: bytes
    request: RequestContext
    answer: LinkedAnswer


def link_routes(router: ModelRouter, work: WorkThreads, telemetry: Telemetry) -> APIRouter:
    """Returns the route.

    Args:
        router: What answers tasks.
        work: Where bodies are read and models are waited for.
        telemetry: Where answers are counted by model.
    """
    routes = APIRouter(prefix="/v1/link", tags=["linking"])

    @routes.post("/tasks", summary="Answer one task", openapi_extra=_BODY, responses=_ANSWER)
    async def answer_task(request: Request) -> Response:
        form, body = body_form(request), await request.body()
        done = await work.run(request, lambda: _answered(router, form, body))
        adopt_request(request, done.request)
        parts = done.answer.parts.values()
        note_answer(
            request, [one.provenance for one in parts], input_digest=done.answer.input_digest
        )
        for one in parts:
            telemetry.count_answer(one.provenance.model, cached=one.cached)
        return Response(done.content, media_type=form)

    return routes


def body_form(request: Request) -> str:
    """Returns the media type of a request's body, of those that the protocol has.

    Raises:
        HTTPException: 415, it is another.
    """
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated not in {JSON, PROTOBUF}:
        raise unsupported_form()
    return stated


def unsupported_form() -> HTTPException:
    """Returns what is raised where a body has no form of the protocol."""
    return HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, headers={"Accept": f"{JSON}, {PROTOBUF}"}
    )


def _answered(router: ModelRouter, form: str, body: bytes) -> _Answered:
    """Reads, routes, and writes the answer in the question's form; runs on a thread."""
    if form == PROTOBUF:
        asked: Envelope | None = Envelope.from_bytes(body)
    else:
        read = read_json(body, subject="task", max_bytes=_LARGEST_BYTES)
        asked = Envelope.from_json(read) if isinstance(read, Mapping) and "kind" in read else None
    if asked is None:
        task, request = _task_of(read), current_request()
    else:
        task, request = _task_in(asked), _joined(current_request(), asked)
    with serving(request):
        request.check()
        routed = router.execute(task)
    answer = LinkedAnswer(
        routed.input_digest,
        {
            name: PartAnswer(one.result, one.provenance, one.reason, one.rejected, one.cached)
            for name, one in routed.items()
        },
    )
    if asked is None:
        content = _article_answer(answer, request)
    else:
        told = replace(asked, payload=answer, deadline_ms=None)
        content = told.to_bytes() if form == PROTOBUF else told.to_text()
    return _Answered(content, request, answer)


def _task_of(form: Any) -> Task:
    """Returns the task in the article's form; a caller's file names are refused.

    Raises:
        TaskError: It names a file, or is no task.
        MessageError: It is no object.
    """
    found: dict[str, Any] = typed(form, dict, "task")
    params = found.get("image_params")
    if isinstance(found.get("image"), str) or (isinstance(params, Mapping) and "path" in params):
        raise TaskError(
            "task",
            expected="a picture as rows of numbers",
            found="the name of a file",
            remedy="Send its pixels as image, or as an array in an envelope.",
        )
    return task_from_dict(found)


def _task_in(envelope: Envelope) -> Task:
    if not isinstance(envelope.payload, Task):
        raise MessageError(
            "envelope",
            expected="a task",
            found=envelope.kind,
            remedy="Sessions are changed at /v1/sessions.",
        )
    return envelope.payload


def _joined(request: RequestContext, envelope: Envelope) -> RequestContext:
    """Returns the envelope's trace with the earlier of both deadlines; one gives up for both."""
    stated = envelope.request()
    deadline_s = min(request.deadline_s, stated.deadline_s)
    return RequestContext(stated.trace_id, deadline_s, request.given_up)


def _article_answer(answer: LinkedAnswer, request: RequestContext) -> bytes:
    form = {"trace_id": request.trace_id, **payload_to_json(answer)}
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode()
