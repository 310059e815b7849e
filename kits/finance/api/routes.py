"""`/v1/finance`: assessments, portfolios and backtests, their reasons, files and jobs.

Files are never read for a caller: documents and prices come in the request. A small
assessment is answered at once; with `Prefer: respond-async` (RFC 7240) it becomes a job, as
every portfolio does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from common.serving.gate import caller_of, note_answer
from kits.finance.api.answers import (
    ADDRESS,
    ASSESSMENT,
    PORTFOLIO,
    assessment_answer,
    explanation_of,
    job_answer,
    portfolio_answer,
    result_file,
)
from kits.finance.api.dependencies import FinanceService
from kits.finance.api.examples import EXAMPLES
from kits.finance.api.job import Job, Outcome
from kits.finance.api.schemas import (
    AssessmentBody,
    BacktestForecasts,
    BacktestPrices,
    PortfolioBody,
    assessment_question,
    backtest_question,
    portfolio_question,
)
from kits.finance.api.uploads import JSON, MULTIPART, read_body

__all__ = ["finance_routes"]

_Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits.")]
_Name = Annotated[str, Path(max_length=120, description="A name from the result's links.")]
_Prefer = Annotated[
    str | None, Header(max_length=200, description="respond-async makes it a job (RFC 7240).")
]
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_SCRIPT = re.compile("<script>(.*?)</script>", re.S)
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string"}


def finance_routes(service: FinanceService) -> APIRouter:
    """Returns the routes.

    Args:
        service: What they stand on.
    """
    routes = APIRouter(prefix=ADDRESS, tags=["finance"])
    _add_assessments(routes, service)
    _add_portfolios(routes, service)
    _add_jobs(routes, service)

    @routes.post(
        "/backtests",
        summary="Test forecasts of VaR and expected shortfall",
        openapi_extra=_body(
            "backtests",
            [BacktestPrices, BacktestForecasts],
            {"prices": _FILE, "ticker": _TEXT, "as_of": _TEXT, "level": _TEXT, "method": _TEXT},
            ["prices"],
        ),
    )
    async def backtest(request: Request) -> JSONResponse:
        async with read_body(request) as body:
            found = await service.work.run(
                request, lambda: service.backtest(backtest_question(body))
            )
        return JSONResponse(found)

    return routes


def _add_assessments(routes: APIRouter, service: FinanceService) -> None:
    @routes.post(
        "/assessments",
        status_code=HTTPStatus.CREATED,
        summary="Assess one company from a disclosure and, where given, its prices",
        responses={HTTPStatus.ACCEPTED.value: {"description": "Taken as a job"}},
        openapi_extra=_body(
            "assessments",
            [AssessmentBody],
            {"document": _FILE, "prices": _FILE, "ticker": _TEXT, "as_of": _TEXT},
            ["document", "ticker"],
        ),
    )
    async def assess(request: Request, prefer: _Prefer = None) -> JSONResponse:
        caller, later = caller_of(request), "respond-async" in _preferences(prefer)
        async with read_body(request) as body:
            if later:
                job = await service.work.run(
                    request, lambda: service.assess_later(assessment_question(body), caller)
                )
                return _accepted(job, {"Preference-Applied": "respond-async"})
            job, outcome = await service.work.run(
                request, lambda: service.assess_now(assessment_question(body), caller)
            )
        content = assessment_answer(job)
        location = {"Location": content["links"]["self"]}
        return _answered(request, content, outcome, HTTPStatus.CREATED, location)

    @routes.get("/assessments/{job_id}", summary="Read an assessment")
    def read(request: Request, job_id: _Id) -> JSONResponse:
        job, outcome = service.jobs.result(job_id, ASSESSMENT, caller_of(request))
        return _answered(request, assessment_answer(job), outcome)

    @routes.get("/assessments/{job_id}/explanation", summary="Why it says so: reasons, passages")
    def explain(request: Request, job_id: _Id) -> JSONResponse:
        job, outcome = service.jobs.result(job_id, ASSESSMENT, caller_of(request))
        return _answered(request, explanation_of(assessment_answer(job)), outcome)

    @routes.get("/assessments/{job_id}/files/{name}", summary="Fetch the report or a table")
    def fetch(request: Request, job_id: _Id, name: _Name) -> Response:
        job, _ = service.jobs.result(job_id, ASSESSMENT, caller_of(request))
        return _sent(result_file(job, name))


def _add_portfolios(routes: APIRouter, service: FinanceService) -> None:
    @routes.post(
        "/portfolios",
        status_code=HTTPStatus.ACCEPTED,
        summary="Assess a portfolio, as a job",
        openapi_extra=_body(
            "portfolios",
            [PortfolioBody],
            {"portfolio": _FILE, "files": {"type": "array", "items": _FILE}},
            ["portfolio", "files"],
        ),
    )
    async def assess(request: Request) -> JSONResponse:
        caller = caller_of(request)
        async with read_body(request) as body:
            job = await service.work.run(
                request, lambda: service.portfolio_later(portfolio_question(body), caller)
            )
        return _accepted(job)

    @routes.get("/portfolios/{job_id}", summary="Read a portfolio's results")
    def read(request: Request, job_id: _Id) -> JSONResponse:
        job, outcome = service.jobs.result(job_id, PORTFOLIO, caller_of(request))
        return _answered(request, portfolio_answer(job), outcome)

    @routes.get("/portfolios/{job_id}/files/{name}", summary="Fetch the dashboard or a table")
    def fetch(request: Request, job_id: _Id, name: _Name) -> Response:
        job, _ = service.jobs.result(job_id, PORTFOLIO, caller_of(request))
        return _sent(result_file(job, name))

    @routes.get(
        "/portfolios/{job_id}/files/companies/{company}/{name}", summary="Fetch a company's report"
    )
    def fetch_company(request: Request, job_id: _Id, company: _Name, name: _Name) -> Response:
        job, _ = service.jobs.result(job_id, PORTFOLIO, caller_of(request))
        return _sent(result_file(job, "companies", company, name))


def _add_jobs(routes: APIRouter, service: FinanceService) -> None:
    @routes.get("/jobs", summary="List the key's jobs, the newest first; an admin sees all")
    def list_jobs(request: Request) -> dict[str, Any]:
        return {"jobs": [job_answer(job) for job in service.jobs.list(caller_of(request))]}

    @routes.get("/jobs/{job_id}", summary="Read how far a job is; it ends with the server")
    def read(request: Request, job_id: _Id) -> dict[str, Any]:
        return job_answer(service.jobs.of(job_id, caller_of(request)))

    @routes.post("/jobs/{job_id}/cancel", summary="Cancel a job; it ends at its next step")
    def cancel(request: Request, job_id: _Id) -> dict[str, Any]:
        return job_answer(service.jobs.cancel(job_id, caller_of(request)))

    @routes.delete(
        "/jobs/{job_id}",
        status_code=HTTPStatus.NO_CONTENT,
        summary="Erase a job with its results; one that runs is cancelled",
    )
    def erase(request: Request, job_id: _Id) -> Response:
        service.jobs.erase(job_id, caller_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _preferences(header: str | None) -> set[str]:
    """Returns the names in a Prefer header, their values and parameters left aside."""
    parts = re.split("[,;]", header or "")
    return {part.partition("=")[0].strip().lower() for part in parts}


def _accepted(job: Job, headers: dict[str, str] | None = None) -> JSONResponse:
    location = {"Location": f"{ADDRESS}/jobs/{job.job_id}", "Retry-After": "2"}
    return JSONResponse(job_answer(job), HTTPStatus.ACCEPTED, {**location, **(headers or {})})


def _answered(
    request: Request,
    content: dict[str, Any],
    outcome: Outcome,
    status: HTTPStatus = HTTPStatus.OK,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    note_answer(request, outcome.models, input_digest=outcome.input_digest)
    return JSONResponse(content, status, headers)


def _sent(path: FilePath) -> Response:
    """Returns a file; a page may run the one script that it holds and load nothing."""
    content, headers = path.read_bytes(), {}
    if path.suffix == ".html":
        script = _SCRIPT.search(content.decode())
        digest = hashlib.sha256((script[1] if script else "").encode()).digest()
        headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
            f"script-src 'sha256-{base64.b64encode(digest).decode()}'"
        )
    return Response(content, media_type=_MEDIA_TYPES.get(path.suffix), headers=headers)


def _body(
    resource: str, kinds: list[type[BaseModel]], parts: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    """Returns OpenAPI's description of a body: JSON of one of `kinds`, or a form of `parts`."""
    schemas = [_inlined(kind.model_json_schema()) for kind in kinds]
    form = {
        "type": "object",
        "properties": parts,
        "required": required,
        "additionalProperties": False,
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
                    "examples": EXAMPLES[resource],
                },
                MULTIPART: {"schema": form},
            },
        }
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema with its definitions in place of the references to them."""
    definitions = schema.pop("$defs", {})

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            return walk(definitions[name]) if name else {k: walk(v) for k, v in part.items()}
        return [walk(one) for one in part] if isinstance(part, list) else part

    return dict(walk(schema))
