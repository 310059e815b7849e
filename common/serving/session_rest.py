"""`/v1/sessions`: state that several models share, with the version that a writer had read.

A session's id is drawn at random and cannot be guessed; who knows it may read and write it,
with any key. Values go as `{"json": VALUE}` or `{"result": {...}}`; a change may also come as
an envelope with a session delta.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from common.errors import MessageError
from common.protocol.messages.envelope import Envelope
from common.protocol.messages.json_form import payload_from_json, payload_to_json
from common.protocol.messages.json_reader import fields_of, read_json
from common.protocol.messages.payloads import SessionDelta
from common.protocol.sessions.session import SessionStore
from common.serving.gate import caller_of
from common.serving.link_rest import JSON, PROTOBUF, body_form
from common.serving.work import WorkThreads

__all__ = ["session_routes"]

_LARGEST_BYTES = (1 << 31) - 1  # the gate has held the body to its caller's limit already
_VALUE = {"type": "object", "properties": {"json": {}, "result": {"type": "object"}}}
_CHANGE = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "base_version": {"type": "integer", "minimum": 0},
                        "changes": {"type": "object", "additionalProperties": _VALUE},
                        "removed": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["base_version"],
                    "additionalProperties": False,
                }
            },
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits.")]
_Version = Annotated[int | None, Query(ge=0, le=(1 << 63) - 1, description="An earlier version.")]
_Key = Annotated[
    str | None,
    Header(max_length=128, description="A change sent again with the same key is made once."),
]


def session_routes(store: SessionStore, work: WorkThreads) -> APIRouter:
    """Returns the routes.

    Args:
        store: The sessions.
        work: Where the store's file is waited for.
    """
    routes = APIRouter(prefix="/v1/sessions", tags=["sessions"])

    @routes.post("", status_code=HTTPStatus.CREATED, summary="Begin an empty session")
    async def create(request: Request) -> JSONResponse:
        session_id = await work.run(request, store.create)
        location = {"Location": f"/v1/sessions/{session_id}"}
        content = {"session_id": session_id, "version": 0}
        return JSONResponse(content, HTTPStatus.CREATED, location)

    @routes.get("/{session_id}", summary="Read a session, as it is or as it was")
    async def read(request: Request, session_id: _Id, version: _Version = None) -> JSONResponse:
        form = await work.run(request, lambda: _read(store, session_id, version))
        return JSONResponse(form, headers={"ETag": f'"{form["version"]}"'})

    @routes.patch(
        "/{session_id}",
        summary="Change a session; 409 where others were faster",
        openapi_extra=_CHANGE,
    )
    async def change(
        request: Request, session_id: _Id, idempotency_key: _Key = None
    ) -> dict[str, Any]:
        form, body, author = body_form(request), await request.body(), caller_of(request).key_id

        def commit() -> int:
            delta = replace(_delta(form, body, session_id), author=author)
            return store.commit(delta, idempotency_key=idempotency_key)

        version = await work.run(request, commit)
        return {"session_id": session_id, "version": version}

    @routes.delete(
        "/{session_id}", status_code=HTTPStatus.NO_CONTENT, summary="Erase a session for good"
    )
    async def erase(request: Request, session_id: _Id) -> Response:
        await work.run(request, lambda: store.delete(session_id))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return routes


def _read(store: SessionStore, session_id: str, version: int | None) -> dict[str, Any]:
    state = store.read(session_id, version=version)
    written = payload_to_json(SessionDelta(session_id, state.version, state.values))
    return {"session_id": session_id, "version": state.version, "values": written["changes"]}


def _delta(form: str, body: bytes, session_id: str) -> SessionDelta:
    """Returns the change in a body; it is about the session in the path.

    Raises:
        MessageError: It is no change, or about another session.
    """
    if form == PROTOBUF:
        payload = Envelope.from_bytes(body).payload
    else:
        read = read_json(body, subject="session delta", max_bytes=_LARGEST_BYTES)
        if isinstance(read, dict) and "kind" in read:
            payload = Envelope.from_json(read).payload
        else:
            found = fields_of(read, "session delta", ("base_version",), ("changes", "removed"))
            payload = payload_from_json(SessionDelta, {**found, "session_id": session_id})
    if not isinstance(payload, SessionDelta) or payload.session_id != session_id:
        raise MessageError(
            "session delta",
            expected="a change of the session in the path",
            found="something else",
            remedy="Send the change to the address of its session.",
        )
    return payload
