"""What callers of the finance API are sent: results with links to their files and reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UnknownNameError
from kits.finance.api.job import Job

__all__ = [
    "ADDRESS",
    "ASSESSMENT",
    "PORTFOLIO",
    "assessment_answer",
    "explanation_of",
    "job_answer",
    "portfolio_answer",
    "result_file",
]

ADDRESS = "/v1/finance"
ASSESSMENT, PORTFOLIO = "assessment", "portfolio"
_COMPANIES = "companies"


def assessment_answer(job: Job) -> dict[str, Any]:
    """Returns an assessment that was written to the job's results, and where its files are."""
    written = json.loads(result_file(job, "assessment.json").read_text(encoding="utf-8"))
    links = {**_links(job), "explanation": f"{_address(job)}/explanation"}
    return {"id": job.job_id, "links": links, "assessment": written}


def portfolio_answer(job: Job) -> dict[str, Any]:
    """Returns a portfolio that was written to the job's results, and where its files are."""
    written = json.loads(result_file(job, "portfolio.json").read_text(encoding="utf-8"))
    return {"id": job.job_id, "links": _links(job), "portfolio": written}


def job_answer(job: Job) -> dict[str, Any]:
    """Returns a job's status, with where it ends and, once it is done, its result."""
    links = {"self": f"{ADDRESS}/jobs/{job.job_id}"}
    if job.outcome is not None:
        links["result"] = _address(job)
    return {**job.to_json(), "links": links}


def explanation_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns why an assessment says what it says: what adds up to its log-odds, and where."""
    found = content["assessment"]
    baseline = found["baseline_log_odds"]
    parts = [one["contribution"] for one in found["reasons"]]
    names = (
        *("ticker", "event_definition", "event_probability", "event_probability_prices_only"),
        *("score", "baseline_log_odds", "reasons", "text", "notes"),
    )
    return {
        "id": content["id"],
        "links": content["links"],
        **{name: found[name] for name in names},
        "log_odds": None if baseline is None else math.fsum([baseline, *parts]),
    }


def result_file(job: Job, *parts: str) -> Path:
    """Returns a file of a job's results, by the names on its way.

    Raises:
        UnknownNameError: There is none of that name.
    """
    for path in job.results.rglob("*"):
        if path.is_file() and path.relative_to(job.results).parts == parts:
            return path
    raise UnknownNameError(
        "file",
        expected="a file that the result's links name",
        found="another",
        remedy="Read the links of the result.",
    )


def _address(job: Job) -> str:
    return f"{ADDRESS}/{job.kind}s/{job.job_id}"


def _links(job: Job) -> dict[str, Any]:
    names = sorted(
        path.relative_to(job.results).as_posix()
        for path in job.results.rglob("*")
        if path.is_file()
    )
    return {
        "self": _address(job),
        "job": f"{ADDRESS}/jobs/{job.job_id}",
        "files": {name: f"{_address(job)}/files/{name}" for name in names},
    }
