"""The gate that each gRPC call passes, as `common.serving.gate` is for HTTP requests.

In this order: the call's trace id and deadline, whether the server drains (UNAVAILABLE), whether
it can be audited, the key (UNAUTHENTICATED), its rate and the message's size
(RESOURCE_EXHAUSTED). Then outwards: errors as statuses by the one table, the trace id in the
trailing metadata, metrics, one audit record. Methods that are open to all skip the key, the rate
and the audit. An answer does not wait for its record: the input is hashed when it is on its way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from common.request import RequestContext, new_request, serving
from common.serving.audit import AuditEntry, AuditLog
from common.serving.drain import Drain
from common.serving.gate import log_failure, trace_id_in
from common.serving.models import Inference
from common.serving.problems import Problem, problem_of
from common.serving.security import AccessControl, Caller, require_role
from common.serving.telemetry import Telemetry

__all__ = ["GrpcCall", "GrpcGate", "GrpcMethod"]

_LEAST_S = 0.001  # of a deadline that has all but passed


@dataclass
class GrpcCall:
    """One call as it passes.

    Args:
        message: The serialised request.
        request: Its trace id and deadline.
        caller: Who calls; None where the method is open to all.
        answered: What a model answered, for the audit.
    """

    message: bytes
    request: RequestContext
    caller: Caller | None = None
    answered: Inference | None = None

    def require_admin(self) -> None:
        """Returns where the caller is an administrator.

        Raises:
            RoleError: It is none.
        """
        if self.caller is not None:
            require_role(self.caller, "admin")


GrpcMethod = Callable[[GrpcCall], Awaitable[bytes]]
"""What answers a call: the serialised response."""


@dataclass(frozen=True)
class GrpcGate:
    """Lets calls through to methods.

    Args:
        access: Who may call.
        audit: Where each call is recorded; nowhere without one.
        telemetry: Where each call is counted.
        drain: Whether calls are taken.
        timeout_s: Longest time for one call; a caller may ask for less.
    """

    access: AccessControl
    telemetry: Telemetry
    audit: AuditLog | None
    drain: Drain
    timeout_s: float
    _records: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False)

    async def settle(self) -> None:
        """Returns when every call that has ended is in the audit."""
        while self._records:
            await asyncio.wait(self._records)

    def handler(self, service: str, name: str, method: GrpcMethod, *, is_open: bool = False) -> Any:
        """Returns grpc's handler of one method of `service`, messages as bytes."""
        action = f"{service}/{name}"

        async def handle(message: bytes, context: Any) -> bytes:
            begun_s = time.perf_counter()
            metadata = {key: x for key, x in context.invocation_metadata() if isinstance(x, str)}
            call = GrpcCall(message, self._request(metadata, context.time_remaining()))
            context.set_trailing_metadata((("trace-id", call.request.trace_id),))
            status = "CANCELLED"
            try:
                with serving(call.request):
                    answer = await self._pass(call, metadata, method, is_open=is_open)
                status = "OK"
            except Exception as error:  # noqa: BLE001  # nothing may reach grpc's own log
                problem = self._problem(error, call)
                status = problem.grpc
            finally:
                self._note(call, action, status, time.perf_counter() - begun_s, is_open=is_open)
            if status != "OK":
                await _abort(context, problem, call)
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def _request(self, metadata: Mapping[str, str], remaining_s: float | None) -> RequestContext:
        timeout_s = self.timeout_s
        if remaining_s is not None:
            timeout_s = min(timeout_s, max(remaining_s, _LEAST_S))
        return new_request(timeout_s=timeout_s, trace_id=trace_id_in(dict(metadata)))

    async def _pass(
        self, call: GrpcCall, metadata: Mapping[str, str], method: GrpcMethod, *, is_open: bool
    ) -> bytes:
        if is_open:
            return await method(call)
        with self.drain.passage():
            if self.audit is not None:
                self.audit.check_room()
            call.caller = self.access.admit(metadata)
            self.access.check_body(call.caller, len(call.message))
            return await method(call)

    def _problem(self, error: Exception, call: GrpcCall) -> Problem:
        log_failure(error, call.request.trace_id)
        problem = problem_of(error)
        if self.drain.draining and problem.status == 429:
            return Problem(503, "Stopping", "UNAVAILABLE", problem.detail, problem.retry_after_s)
        return problem

    def _note(
        self, call: GrpcCall, action: str, status: str, seconds: float, *, is_open: bool
    ) -> None:
        self.telemetry.count_request("gRPC", action, status, seconds)
        if self.audit is None or is_open:
            return
        entry = AuditEntry(
            trace_id=call.request.trace_id,
            key_id=call.caller.key_id if call.caller else "-",
            action=f"gRPC {action}",
            status=status,
        )
        if call.answered is None:
            self.audit.record(entry)
            return
        record = asyncio.create_task(_record(self.audit, entry, call.answered))
        self._records.add(record)
        record.add_done_callback(self._records.discard)


async def _record(audit: AuditLog, entry: AuditEntry, answered: Inference) -> None:
    digest = await asyncio.to_thread(lambda: answered.input_digest)
    audit.record(replace(entry, models=answered.provenance, input_digest=digest))


async def _abort(context: Any, problem: Problem, call: GrpcCall) -> None:
    trailing = [("trace-id", call.request.trace_id)]
    if problem.retry_after_s is not None:
        trailing.append(("retry-after", problem.headers()["Retry-After"]))
    code = grpc.StatusCode[problem.grpc]
    await context.abort(code, problem.detail or problem.title, tuple(trailing))
