"""The finance API as its callers use it, behind the gate: keys, limits, audit, problems."""

from __future__ import annotations

import asyncio
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

from kits.finance.risk.score import logit
from tests.common.serving.serving_parts import client_of
from tests.kits.finance.companies import CALL, price_csv

HEAVY = "torch transformers peft monai sktime statsmodels arch pandas scipy sklearn openpyxl"
ASYNC = {"Prefer": "respond-async"}
PRICES = price_csv("ABC")


def body(**more: object) -> dict:
    prices = {"name": "prices.csv", "text": PRICES}
    return {"ticker": "ABC", "document": {"name": "c.txt", "text": CALL}, "prices": prices, **more}


def test_importing_the_routes_loads_no_heavy_library() -> None:
    program = (
        "import sys, kits.finance.api.routes; "
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(HEAVY.split()).isdisjoint(done.stdout.split())


def test_an_assessment_is_answered_with_its_reasons_and_files(desk) -> None:
    async def run() -> None:
        made = await desk.call("POST", "/v1/finance/assessments", json=body(as_of="2016-06-30"))
        assert made.status_code == 201, made.text
        found = made.json()["assessment"]
        assert found["as_of"] == "2016-06-30"
        assert 0 < found["score"] < 100
        again = await desk.call("GET", made.headers["location"])
        assert again.json() == made.json()
        links = made.json()["links"]
        why = (await desk.call("GET", links["explanation"])).json()
        total = why["baseline_log_odds"] + math.fsum(r["contribution"] for r in why["reasons"])
        assert why["log_odds"] == pytest.approx(total)
        assert why["log_odds"] == pytest.approx(logit(why["event_probability"]), abs=1e-6)
        assert all(CALL[e["start"] : e["end"]] == e["sentence"] for e in why["text"]["evidence"])
        page = await desk.call("GET", links["files"]["report.html"])
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.text.startswith("<!DOCTYPE html>")
        written = await desk.call("GET", links["files"]["assessment.json"])
        assert written.json() == found

    asyncio.run(run())


def test_a_form_gives_the_same_figures_as_json(desk) -> None:
    async def run() -> None:
        sent = await desk.call("POST", "/v1/finance/assessments", json=body())
        form = await desk.call(
            "POST",
            "/v1/finance/assessments",
            data={"ticker": "ABC", "as_of": ""},
            files={"document": ("call.txt", CALL), "prices": ("p.csv", PRICES)},
        )
        one, two = (answer.json()["assessment"] for answer in (sent, form))
        assert {**one, "run": None} == {**two, "run": None}

    asyncio.run(run())


def test_an_assessment_as_a_job_ends_with_the_same_result(desk) -> None:
    async def run() -> None:
        taken = await desk.call("POST", "/v1/finance/assessments", json=body(), headers=ASYNC)
        assert taken.status_code == 202
        assert taken.headers["preference-applied"] == "respond-async"
        status = await desk.ended(taken)
        assert (status["state"], status["problem"]) == ("done", None)
        result = await desk.call("GET", status["links"]["result"])
        assert result.json()["assessment"]["score"] > 0
        listed = (await desk.call("GET", "/v1/finance/jobs")).json()["jobs"]
        assert [one["id"] for one in listed] == [status["id"]]
        gone = await desk.call("DELETE", status["links"]["self"])
        assert gone.status_code == 204
        assert (await desk.call("GET", status["links"]["result"])).status_code == 404
        assert not (desk.folder / status["id"]).exists()

    asyncio.run(run())


def test_a_job_that_fails_carries_its_problem(desk) -> None:
    async def run() -> None:
        taken = await desk.call(
            "POST", "/v1/finance/assessments", json=body(ticker="NONE"), headers=ASYNC
        )
        status = await desk.ended(taken)
        assert status["state"] == "failed"
        assert status["problem"]["status"] == 422
        assert len(status["problem"]["trace_id"]) == 32
        assert "result" not in status["links"]

    asyncio.run(run())


def test_a_portfolio_is_a_job_with_dashboard_workbook_and_reports(desk) -> None:
    lines = (
        "ticker,document,prices,weight\n"
        "ABC,call.txt,prices.csv,2\nNONE,call.txt,prices.csv,1\nTXT,call.txt,,1\n"
    )

    async def run() -> None:
        taken = await desk.call(
            "POST",
            "/v1/finance/portfolios",
            files=[
                ("portfolio", ("portfolio.csv", lines)),
                ("files", ("call.txt", CALL)),
                ("files", ("prices.csv", PRICES)),
            ],
        )
        assert taken.status_code == 202, taken.text
        status = await desk.ended(taken)
        assert status["progress"] == {"done": 3, "total": 3}
        result = (await desk.call("GET", status["links"]["result"])).json()
        assert [one["status"] for one in result["portfolio"]["companies"]] == [
            *("assessed", "failed", "assessed")
        ]
        files = result["links"]["files"]
        workbook = await desk.call("GET", files["portfolio.xlsx"])
        assert openpyxl.load_workbook(io.BytesIO(workbook.content)).sheetnames[0] == "Summary"
        page = await desk.call("GET", files["dashboard.html"])
        assert "script-src 'sha256-" in page.headers["content-security-policy"]
        report = await desk.call("GET", files["companies/0002-ABC/report.html"])
        assert report.status_code == 200

    asyncio.run(run())


def test_a_backtest_of_prices_holds_every_test(desk) -> None:
    question = {"prices": {"name": "p.csv", "text": PRICES}, "level": 0.95, "method": "historical"}

    async def run() -> None:
        found = (await desk.call("POST", "/v1/finance/backtests", json=question)).json()
        assert len(found["tests"]) >= 5
        assert found["expected_exceptions"] == pytest.approx(0.05 * found["n_days"])
        form = await desk.call(
            "POST",
            "/v1/finance/backtests",
            data={"level": "0.95", "method": "historical", "ticker": "abc"},
            files={"prices": ("p.csv", PRICES)},
        )
        assert form.json() == found

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "sent", "status"),
    [
        ("assessments", {"json": {"ticker": "ABC"}}, 422),
        ("assessments", {"json": body(tickr="ABC")}, 422),
        ("assessments", {"json": body(ticker="=A1")}, 422),
        ("assessments", {"json": body(as_of="yesterday")}, 422),
        ("assessments", {"json": body(document={"name": "../../x", "text": CALL})}, 422),
        ("assessments", {"json": body(prices={"name": "p.parquet", "text": "x"})}, 422),
        ("assessments", {"json": body(prices={"name": "p.csv", "text": "x"})}, 422),
        ("assessments", {"json": body(document={"name": "c.txt", "text": "%PDF-1.7"})}, 422),
        ("assessments", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
        ("assessments", {"content": b"x", "headers": {"Content-Type": "text/csv"}}, 415),
        ("assessments", {"files": {"other": ("c.txt", CALL)}, "data": {"ticker": "A"}}, 422),
        ("assessments", {"files": {"document": ("/a/b", CALL)}, "data": {"ticker": "A"}}, 422),
        ("portfolios", {"json": {"portfolio": "ticker,document\nA,b.txt\n", "files": []}}, 422),
        (
            "portfolios",
            {
                "json": {
                    "portfolio": "ticker,document\nA,/etc/passwd\n",
                    "files": [{"name": "a.txt", "text": "x"}],
                }
            },
            422,
        ),
        ("backtests", {"json": {"losses": [0.1], "value_at_risk": [0.1, 0.2]}}, 422),
        ("backtests", {"json": {"losses": [0.1], "value_at_risk": ["x"]}}, 422),
        ("backtests", {"json": {"prices": {"name": "p.csv", "text": PRICES}, "level": 0.2}}, 422),
    ],
)
def test_what_does_not_fit_is_refused_without_being_quoted(desk, address, sent, status) -> None:
    answer = asyncio.run(desk.call("POST", f"/v1/finance/{address}", **sent))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert not any(word in answer.text for word in ("passwd", "yesterday", "Revenue", "=A1"))
    assert list(desk.folder.iterdir()) == []


def test_a_large_assessment_has_to_be_a_job(desk, monkeypatch) -> None:
    monkeypatch.setattr("kits.finance.api.dependencies.AT_ONCE_BYTES", 100)
    answer = asyncio.run(desk.call("POST", "/v1/finance/assessments", json=body()))
    assert answer.status_code == 413
    assert "respond-async" in answer.json()["detail"]


def test_a_full_queue_is_429_with_a_time_to_come_back(desk) -> None:
    async def run() -> None:
        answers = [
            await desk.call("POST", "/v1/finance/assessments", json=body(), headers=ASYNC)
            for _ in range(6)
        ]
        refused = [one for one in answers if one.status_code == 429]
        assert refused
        assert int(refused[0].headers["retry-after"]) >= 1
        for one in answers:
            if one.status_code == 202:
                await desk.call("POST", f"{one.headers['location']}/cancel")

    asyncio.run(run())


def test_keys_separate_what_they_sent(desk) -> None:
    async def run() -> None:
        made = await desk.call("POST", "/v1/finance/assessments", json=body(prices=None))
        place = made.headers["location"]
        assert (await desk.call("GET", place, role="integrator")).status_code == 404
        assert (await desk.call("GET", place, role="admin")).status_code == 200
        async with client_of(desk.server) as client:
            assert (await client.get("/v1/finance/jobs")).status_code == 401

    asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["..%2f..%2fkeys.json", "%2e%2e", "keys.json", "in", ".", "report.html%00"]
)
def test_only_files_of_the_result_are_fetched(desk, name: str) -> None:
    async def run() -> None:
        made = await desk.call("POST", "/v1/finance/assessments", json=body(prices=None))
        answer = await desk.call("GET", f"{made.headers['location']}/files/{name}")
        assert answer.status_code in {404, 422}, answer.text

    asyncio.run(run())


def test_nothing_of_the_payload_is_logged_and_the_audit_names_the_models(desk, caplog) -> None:
    caplog.set_level("DEBUG", logger="common")
    caplog.set_level("DEBUG", logger="kits")

    async def run() -> None:
        await desk.call("POST", "/v1/finance/assessments", json=body(prices=None))
        await desk.call("POST", "/v1/finance/assessments", json=body(ticker="NONE"))
        taken = await desk.call("POST", "/v1/finance/assessments", json=body(), headers=ASYNC)
        await desk.ended(taken)

    asyncio.run(run())
    assert "Revenue" not in caplog.text
    records = desk.server.audited()
    assert "Revenue" not in json.dumps(records)
    (done,) = [one for one in records if one["action"] == "JOB assessment" and one["models"]][-1:]
    assert done["status"] == 200
    assert len(done["input_digest"]) == 64
    assert any(one["action"] == "POST /v1/finance/assessments" for one in records)
