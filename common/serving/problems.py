"""What an error becomes on the wire: one table for HTTP and gRPC, and problem+json (RFC 9457).

A class that is not in the table is answered as its nearest base that is. What nobody
foresaw is a 500 without details: its message may quote the input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from common.errors import (
    AccessError,
    AuthenticationError,
    ConflictError,
    DeadlineError,
    ExchangeError,
    InputError,
    MissingExtraError,
    ModelError,
    OverloadError,
    RoleError,
    RoutingError,
    StoreError,
    TandemError,
    TaskError,
    TooLargeError,
    TransactionError,
    UnknownNameError,
)

__all__ = ["MEDIA_TYPE", "PROBLEMS", "Problem", "problem_of", "problem_of_status"]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """What a caller is told.

    Args:
        status: HTTP status.
        title: What the kind of problem is called; the same for all of its kind.
        grpc: Name of the gRPC status code that says the same.
        detail: Expected, found and remedy; None where they are the server's own affair.
        retry_after_s: Seconds after which it is worth trying again.
    """

    status: int
    title: str
    grpc: str
    detail: str | None = None
    retry_after_s: float | None = None

    @property
    def kind(self) -> str:
        """Where the docs page explains it: a reference relative to the server's root."""
        return "/docs#" + re.sub("[^a-z]+", "-", self.title.lower())

    def headers(self) -> dict[str, str]:
        """Returns the HTTP headers that belong to it."""
        found = {}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == HTTPStatus.UNAUTHORIZED:
            found["WWW-Authenticate"] = 'Bearer realm="tandem"'
        return found

    def to_json(self, trace_id: str) -> dict[str, Any]:
        """Returns the members of RFC 9457, and two of ours.

        `trace_id` is what to look the request up by; `error` is what clients of the Open
        Inference Protocol show.
        """
        members: dict[str, Any] = {"type": self.kind}
        members |= {"title": self.title, "status": self.status}
        if self.detail is not None:
            members["detail"] = self.detail
        return {**members, "error": self.detail or self.title, "trace_id": trace_id}


# Errors that tell of the server's own files, packages or models keep their detail for its log.
PROBLEMS: Mapping[type[BaseException], Problem] = MappingProxyType(
    {
        InputError: Problem(422, "Unusable input", "INVALID_ARGUMENT"),
        TaskError: Problem(422, "Unusable task", "INVALID_ARGUMENT"),
        TooLargeError: Problem(413, "Too large", "RESOURCE_EXHAUSTED"),
        UnknownNameError: Problem(404, "Unknown name", "NOT_FOUND"),
        AccessError: Problem(403, "Not allowed", "PERMISSION_DENIED"),
        AuthenticationError: Problem(401, "No good key", "UNAUTHENTICATED"),
        RoleError: Problem(403, "Role too low", "PERMISSION_DENIED"),
        RoutingError: Problem(422, "No model for the task", "FAILED_PRECONDITION"),
        ModelError: Problem(502, "Model failed", "INTERNAL"),
        OverloadError: Problem(429, "No room now", "RESOURCE_EXHAUSTED"),
        DeadlineError: Problem(504, "Too late", "DEADLINE_EXCEEDED"),
        ConflictError: Problem(409, "Written by another meanwhile", "ABORTED"),
        TransactionError: Problem(409, "Rolled back", "ABORTED"),
        ExchangeError: Problem(409, "Round rolled back", "ABORTED"),
        StoreError: Problem(500, "Store unusable", "DATA_LOSS"),
        MissingExtraError: Problem(501, "Not installed here", "UNIMPLEMENTED"),
        TandemError: Problem(500, "Server error", "INTERNAL"),
        Exception: Problem(500, "Server error", "INTERNAL"),
    }
)
"""Error class -> what it becomes; the nearest base in the class's MRO counts."""

_GRPC_OF_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


def problem_of(error: BaseException) -> Problem:
    """Returns what `error` becomes on the wire."""
    kind = next((base for base in type(error).__mro__ if base in PROBLEMS), Exception)
    known = PROBLEMS[kind]
    detail = str(error) if isinstance(error, TandemError) and known.status < 500 else None
    if isinstance(error, DeadlineError):
        detail = str(error)  # tells of the request alone
    retry_after_s = error.retry_after_s if isinstance(error, OverloadError) else None
    return Problem(known.status, known.title, known.grpc, detail, retry_after_s)


def problem_of_status(status: int, detail: str | None = None) -> Problem:
    """Returns the problem of a plain HTTP status, such as 404 for a path or 405."""
    title = HTTPStatus(status).phrase
    return Problem(status, title, _GRPC_OF_STATUS.get(status, "UNKNOWN"), detail)
