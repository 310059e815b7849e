"""The gate that each HTTP request passes, inwards and outwards.

Inwards, in this order: its trace id, whether the server drains (503), whether it can be
audited, the key (401), the key's rate (429), the body's size (413), the deadline. Outwards:
errors as problem+json, headers, metrics, one audit record. Paths that are open to all skip
key, rate and audit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
import traceback
from collections.abc import Collection, Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import DeadlineError, InputError, TandemError, TooLargeError
from common.request import RequestContext, current_request, new_request, serving
from common.serving.audit import AuditEntry, AuditLog
from common.serving.drain import Drain
from common.serving.problems import MEDIA_TYPE, Problem, problem_of
from common.serving.security import AccessControl, Caller
from common.serving.telemetry import Telemetry
from common.task import Provenance

__all__ = [
    "TIMEOUT_HEADER",
    "Gate",
    "adopt_request",
    "caller_of",
    "log_failure",
    "note_answer",
    "problem_response",
    "trace_id_in",
]

TIMEOUT_HEADER = "Tandem-Timeout-Seconds"
"""Request header: after how many seconds the caller no longer waits."""

_log = logging.getLogger(__name__)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_GONE = 499  # the status that the log shows where the caller left; nobody reads an answer
_PRIVATE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


@dataclass
class _Passage:
    """What is known of one request as it passes."""

    request: RequestContext
    headers: dict[str, str]
    caller: Caller | None = None
    status: int = 0
    models: list[Provenance] = field(default_factory=list)
    input_digest: str = ""


class Gate:
    """ASGI middleware around the whole application.

    Args:
        app: What it lets requests through to.
        access: Who may call.
        audit: Where each call is recorded; nowhere without one.
        telemetry: Where each call is counted.
        drain: Whether requests are taken.
        timeout_s: Longest time for one request; a caller may ask for less.
        open_paths: Paths that need no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: AccessControl,
        audit: AuditLog | None,
        telemetry: Telemetry,
        drain: Drain,
        timeout_s: float,
        open_paths: Collection[str],
    ) -> None:
        self._app, self._access, self._audit = app, access, audit
        self._telemetry, self._drain, self._timeout_s = telemetry, drain, timeout_s
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s = time.perf_counter()
        headers = _headers_of(scope["headers"])
        request = new_request(timeout_s=self._timeout_s, trace_id=trace_id_in(headers) or _drawn())
        passage = _Passage(request, headers)
        scope.setdefault("state", {})["passage"] = passage
        with serving(request):
            try:
                await self._pass(scope, passage, receive, send)
            finally:
                self._note(scope, passage, time.perf_counter() - begun_s)

    async def _pass(self, scope: Scope, passage: _Passage, receive: Receive, send: Send) -> None:
        answer = _answering(send, passage, private=scope["path"] not in self._open_paths)
        try:
            if scope["path"] in self._open_paths:
                await self._app(scope, receive, answer)
                return
            with self._drain.passage():
                request = self._admit(passage)
                with serving(request):
                    await self._app(scope, _bounded(receive, passage), answer)
        except ClientDisconnect:
            passage.status = passage.status or _GONE
        except Exception as error:  # noqa: BLE001  # nothing may reach the server's own log
            log_failure(error, passage.request.trace_id)
            if passage.status:  # the answer is under way: cut the connection, never complete it
                raise ConnectionAbortedError("an answer was cut off") from None
            problem = problem_of(error)
            if self._drain.draining and problem.status == 429:
                problem = Problem(503, "Stopping", "UNAVAILABLE", problem.detail, 5.0)
            response = problem_response(problem)
            if problem.status in {413, 503}:  # the rest of a body is not read
                response.headers["Connection"] = "close"
            await response(scope, receive, answer)

    def _admit(self, passage: _Passage) -> RequestContext:
        if self._audit is not None:
            self._audit.check_room()
        passage.caller = self._access.admit(passage.headers)
        self._access.check_body(passage.caller, _content_length(passage.headers))
        passage.request = self._with_deadline(passage)
        return passage.request

    def _with_deadline(self, passage: _Passage) -> RequestContext:
        asked = passage.headers.get(TIMEOUT_HEADER.lower())
        if asked is None:
            return passage.request
        try:
            seconds = float(asked)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise InputError(
                f"header {TIMEOUT_HEADER}",
                expected="a number of seconds above 0",
                found="none",
                remedy="Leave it out for the server's own limit.",
            )
        timeout_s = min(seconds, self._timeout_s)
        return new_request(timeout_s=timeout_s, trace_id=passage.request.trace_id)

    def _note(self, scope: Scope, passage: _Passage, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        status = passage.status or _GONE
        self._telemetry.count_request(scope["method"], route, status, seconds)
        if self._audit is None or scope["path"] in self._open_paths:
            return
        self._audit.record(
            AuditEntry(
                trace_id=passage.request.trace_id,
                key_id=passage.caller.key_id if passage.caller else "-",
                action=f"{_known_method(scope)} {route or '(not routed)'}",
                status=status,
                models=tuple(passage.models),
                input_digest=passage.input_digest,
            )
        )


def caller_of(request: Request) -> Caller:
    """Returns who sent `request`.

    Raises:
        TandemError: The path is open to all, so that nobody was asked.
    """
    caller: Caller | None = request.state.passage.caller
    if caller is None:
        raise TandemError(
            "request",
            expected="a path that needs a key",
            found="one that is open to all",
            remedy="Take the path out of open_paths.",
        )
    return caller


def note_answer(request: Request, models: Iterable[Provenance], *, input_digest: str) -> None:
    """Says for the audit record where an answer came from; no payload."""
    passage: _Passage = request.state.passage
    passage.models.extend(models)
    passage.input_digest = input_digest


def adopt_request(request: Request, context: RequestContext) -> None:
    """Lets the answer and the audit carry the trace of a message that the body held."""
    passage: _Passage = request.state.passage
    passage.request = context


def problem_response(problem: Problem, **members: Any) -> Response:
    """Returns the response that tells of `problem`, with the present request's trace id."""
    content = {**problem.to_json(current_request().trace_id), **members}
    return JSONResponse(content, problem.status, problem.headers(), media_type=MEDIA_TYPE)


def _drawn() -> str:
    return f"{random.getrandbits(128) or 1:032x}"


def _headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def trace_id_in(headers: MutableMapping[str, str]) -> str | None:
    """Returns the trace id of a W3C traceparent; a malformed one counts as none (section 3.2.2)."""
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return found[1] if found else None


def _content_length(headers: MutableMapping[str, str]) -> int:
    stated = headers.get("content-length", "0")
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 19 else 1 << 62


def _known_method(scope: Scope) -> str:
    return scope["method"] if re.fullmatch("[A-Z]{3,7}", scope["method"]) else "(no such method)"


def _bounded(receive: Receive, passage: _Passage) -> Receive:
    """Ends the reading of a body that grows too large or comes too slowly."""
    taken, whole = 0, False

    async def bounded() -> Message:
        nonlocal taken, whole
        if whole:  # what comes now is the caller's leaving
            return await receive()
        try:
            async with asyncio.timeout(passage.request.remaining_s()):
                message = await receive()
        except TimeoutError:
            raise DeadlineError(
                "request body",
                expected="its end before the deadline",
                found="a part of it",
                remedy="Send it faster, or less at once.",
            ) from None
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if passage.caller is not None:
            AccessControl.check_body(passage.caller, taken)
        return message

    return bounded


def _answering(send: Send, passage: _Passage, *, private: bool) -> Send:
    """Notes the status on its way out and adds the headers that every answer has."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            passage.status = message["status"]
            span_id = (
                random.getrandbits(64) or 1
            )  # no secret; the system's generator is a call away
            traceparent = f"00-{passage.request.trace_id}-{span_id:016x}-01".encode()
            message["headers"] = [
                *message.get("headers", ()),
                (b"traceparent", traceparent),
                *(_PRIVATE if private else ()),
            ]
        await send(message)

    return answer


def log_failure(error: Exception, trace_id: str) -> None:
    """Logs where a failure of the server arose; the message of a strange error may quote input."""
    if problem_of(error).status < 500 or isinstance(error, TooLargeError):
        return
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    told = str(error) if isinstance(error, TandemError) else type(error).__name__
    _log.error("request %s failed at %s: %s", trace_id, where, told)
