"""The web application: one gate, one table of errors, routes from the parts, a clean end.

    app = create_app(AppParts(access=..., audit=..., telemetry=..., routes=[...]))

The table from error class to HTTP status is `common.serving.problems`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from common.errors import TandemError
from common.serving.audit import AuditLog
from common.serving.docs_page import CONTENT_SECURITY_POLICY, docs_page
from common.serving.drain import Drain
from common.serving.gate import Gate, caller_of, problem_response
from common.serving.problems import PROBLEMS, problem_of, problem_of_status
from common.serving.security import AccessControl, require_role
from common.serving.telemetry import MEDIA_TYPE, Telemetry

__all__ = ["PROBLEMS", "AppParts", "Closing", "create_app", "problem_of"]

_OPEN_PATHS = ("/docs", "/health/live", "/health/ready", "/openapi.json")
# FastAPI can send spans and validation failures to where the environment says: payloads too.
_NO_EXPORT: TelemetryConfig = {
    "auto_configure": False,
    "logs": False,
    "metrics": False,
    "operation_spans": False,
    "tracing": False,
}
_DESCRIPTION = "Links models and serves them. Every answer names the models that gave it."


class Closing(Protocol):
    """A service that is closed when the server ends."""

    def close(self) -> None:
        """Ends it; waits for what it has under way."""
        ...


@dataclass(frozen=True)
class AppParts:
    """What an application is put together from.

    Args:
        access: Who may call.
        telemetry: Where requests are counted.
        audit: Where requests are recorded; closed after all services.
        drain: Whether requests are taken.
        routes: The routes, each file's own.
        services: What the routes use, in the order in which they were opened.
        edges: What runs beside the application, such as a gRPC server; each is entered when
            the server starts and left, in reverse order, before the services are closed.
        checks: What has to hold for the server to be ready, by name.
        open_paths: Paths that need no key, besides health and documentation.
        timeout_s: Longest time for one request.
        version: Shown in the documentation.
    """

    access: AccessControl
    telemetry: Telemetry
    audit: AuditLog | None = None
    drain: Drain = field(default_factory=Drain)
    routes: Sequence[APIRouter] = ()
    services: Sequence[Closing] = ()
    edges: Sequence[Callable[[], AbstractAsyncContextManager[object]]] = ()
    checks: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    open_paths: Sequence[str] = ()
    timeout_s: float = 60.0
    version: str = "0"


def create_app(parts: AppParts) -> FastAPI:
    """Returns the application; its lifespan closes the services in reverse order."""
    app = FastAPI(
        title="Tandem",
        description=_DESCRIPTION,
        version=parts.version,
        lifespan=lambda _: _lifespan(parts),
        docs_url=None,  # FastAPI's own page loads Swagger UI from a CDN
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_EXPORT,
    )
    open_paths = (*_OPEN_PATHS, *parts.open_paths)
    app.add_middleware(
        Gate,
        access=parts.access,
        audit=parts.audit,
        telemetry=parts.telemetry,
        drain=parts.drain,
        timeout_s=parts.timeout_s,
        open_paths=open_paths,
    )
    app.add_exception_handler(TandemError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_status)
    app.include_router(_health_routes(parts))
    app.include_router(_metrics_route(parts.telemetry))
    for routes in parts.routes:
        app.include_router(routes)
    app.openapi = lambda: _openapi(app, open_paths)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    app.include_router(_documentation_routes(app))
    return app


@asynccontextmanager
async def _lifespan(parts: AppParts) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for service in (parts.audit, *parts.services):
            if service is not None:
                stack.push_async_callback(asyncio.to_thread, service.close)
        for edge in parts.edges:
            await stack.enter_async_context(edge())
        yield
        parts.drain.begin()


def _health_routes(parts: AppParts) -> APIRouter:
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live", summary="Whether the process answers at all")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/ready", summary="Whether requests are taken; 503 while starting or draining")
    def ready() -> JSONResponse:
        checks = {"taking requests": not parts.drain.draining}
        checks |= {name: bool(check()) for name, check in parts.checks.items()}
        good = all(checks.values())
        content = {"status": "ready" if good else "not ready", "checks": checks}
        return JSONResponse(content, HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)

    return routes


def _metrics_route(telemetry: Telemetry) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", summary="Metrics for Prometheus; role integrator")
    def metrics(request: Request) -> Response:
        require_role(caller_of(request), "integrator")
        return Response(telemetry.exposition(), media_type=MEDIA_TYPE)

    return routes


def _documentation_routes(app: FastAPI) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/openapi.json")
    def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @routes.get("/docs")
    def documentation() -> HTMLResponse:
        page = docs_page(app.openapi())
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    return routes


def _openapi(app: FastAPI, open_paths: Sequence[str]) -> dict[str, Any]:
    """Returns the schema with the two headers for keys and with problem+json as every error."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schema.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        problem = {"description": "A problem (RFC 9457)", "content": _problem_content()}
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = problem
                if path not in open_paths:
                    operation["security"] = [{"bearer": []}, {"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def _problem_content() -> dict[str, Any]:
    text, members = {"type": "string"}, ("type", "title", "detail", "trace_id")
    properties = {**dict.fromkeys(members, text), "status": {"type": "integer"}}
    required = ["status", "title", "trace_id", "type"]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"application/problem+json": {"schema": schema}}


async def _on_error(_: Request, error: Exception) -> Response:
    if problem_of(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error  # the gate logs it
    return problem_response(problem_of(error))


async def _on_validation(_: Request, error: Exception) -> Response:
    """Answers FastAPI's own checks: where and what is wrong, without the value itself."""
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    faults = [{"where": list(map(str, one["loc"])), "fault": one["type"]} for one in found]
    return problem_response(problem_of_status(422, "The request does not fit."), faults=faults)


async def _on_status(_: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, TandemError):  # raised while FastAPI read the body
        return await _on_error(_, error.__cause__)
    status, headers = 500, {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    response = problem_response(problem_of_status(status))
    response.headers.update(headers)
    return response
