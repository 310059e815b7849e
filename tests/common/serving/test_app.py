"""Every request passes one gate; every failure is a problem that tells nothing of others."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from common.errors import ConflictError, DeadlineError, StoreError, UnknownNameError
from common.request import current_request
from common.serving.app import create_app
from common.serving.audit_chain import verify_audit
from common.serving.drain import Drain
from common.serving.gate import caller_of, note_answer
from common.serving.problems import MEDIA_TYPE
from common.serving.security import require_role
from common.task import Provenance
from tests.common.serving.serving_parts import Server, client_of, open_server

PATIENT = "Jane Doe, 1970-01-01"
FACTS = {"expected": "a", "found": "b", "remedy": "C."}
ERRORS = {
    "conflict": ConflictError("thing", **FACTS),
    "deadline": DeadlineError("thing", **FACTS),
    "store": StoreError("thing", **FACTS),
    "unknown": UnknownNameError("thing", **FACTS),
    "foreign": ValueError(PATIENT),
}
routes = APIRouter()


class Body(BaseModel):
    number: int


@routes.post("/echo")
async def echo(request: Request) -> dict[str, object]:
    body = await request.body()
    note_answer(request, [Provenance("minilm", "a" * 64, "b" * 64)], input_digest="c" * 64)
    return {
        "bytes": len(body),
        "caller": caller_of(request).key_id,
        "trace_id": current_request().trace_id,
        "remaining_s": current_request().remaining_s(),
    }


@routes.post("/model")
async def model(body: Body) -> int:
    return body.number


@routes.get("/fail/{name}")
def fail(name: Annotated[str, Path(pattern="^[a-z]{1,20}$")]) -> None:
    raise ERRORS[name]


@routes.get("/admin")
async def admin(request: Request) -> str:
    require_role(caller_of(request), "admin")
    return "done"


@pytest.fixture
def server(tmp_path):
    with open_server(tmp_path, routes=[routes], rate_per_s=1e6, body_bytes=1000) as opened:
        yield opened


def send(server: Server, method: str, path: str, **options: object) -> httpx.Response:
    async def sent() -> httpx.Response:
        async with client_of(server) as client:
            return await client.request(method, path, **options)

    return asyncio.run(sent())


def is_problem(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    members = response.json()
    assert members["status"] == status
    assert members["trace_id"] == response.headers["traceparent"].split("-")[1]
    assert members["type"]
    return members


def test_an_answer_carries_the_caller_s_trace(server):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = server.headers(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    response = send(server, "POST", "/echo", content=b"abc", headers=headers)
    assert response.json()["trace_id"] == trace_id
    assert response.headers["traceparent"].startswith(f"00-{trace_id}-")
    assert response.headers["cache-control"] == "no-store"
    assert "server" not in response.headers


@pytest.mark.parametrize("found", ["", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "x", "00-A-b-01"])
def test_a_malformed_traceparent_counts_as_none(server, found):
    response = send(server, "POST", "/echo", headers=server.headers(traceparent=found))
    assert len(response.json()["trace_id"]) == 32


@pytest.mark.parametrize("path", ["/echo", "/metrics", "/no/such/path", "/v2/models/x"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "tandem.analyst." + "A" * 43}])
def test_without_a_good_key_no_path_tells_whether_it_exists(server, path, headers):
    members = is_problem(send(server, "POST", path, headers=headers), 401)
    assert "analyst" not in members["detail"]
    assert server.audited()[-1]["key_id"] == "-"


def test_a_key_in_the_address_is_no_key(server):
    is_problem(send(server, "POST", "/echo", params={"key": server.keys["admin"]}), 401)


def test_a_revoked_key_ends_at_once(server):
    assert send(server, "POST", "/echo", headers=server.headers()).status_code == 200
    server.store.revoke("analyst")
    is_problem(send(server, "POST", "/echo", headers=server.headers()), 401)


def test_a_role_too_low_is_told_so(server):
    assert send(server, "GET", "/admin", headers=server.headers("admin")).status_code == 200
    assert (
        "role" in is_problem(send(server, "GET", "/admin", headers=server.headers()), 403)["detail"]
    )


def test_unknown_paths_and_methods_are_problems(server):
    is_problem(send(server, "GET", "/nowhere", headers=server.headers()), 404)
    response = send(server, "GET", "/echo", headers=server.headers())
    is_problem(response, 405)
    assert response.headers["allow"] == "POST"
    assert server.audited()[-2]["action"] == "GET (not routed)"


@pytest.mark.parametrize(
    ("name", "status"), [("conflict", 409), ("unknown", 404), ("deadline", 504), ("store", 500)]
)
def test_our_errors_have_their_status(server, name, status):
    members = is_problem(send(server, "GET", f"/fail/{name}", headers=server.headers()), status)
    assert ("detail" in members) == (name != "store")


def test_what_nobody_foresaw_says_nothing_and_logs_only_where(server, caplog):
    with caplog.at_level(logging.DEBUG):
        response = send(server, "GET", "/fail/foreign", headers=server.headers())
    assert "detail" not in is_problem(response, 500)
    assert PATIENT not in response.text
    assert PATIENT not in caplog.text
    assert f"{response.json()['trace_id']} failed at test_app.py:" in caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.parametrize(
    "content", [b"{", b'{"number": "Jane Doe"}', b"[]", b'"Jane Doe"', b"\xff"]
)
def test_fastapi_s_own_checks_answer_without_the_value(server, content):
    headers = server.headers(**{"Content-Type": "application/json"})
    response = send(server, "POST", "/model", content=content, headers=headers)
    is_problem(response, 400 if content == b"\xff" else 422)
    assert "Jane" not in response.text


def test_a_path_trick_is_refused(server):
    is_problem(send(server, "GET", "/fail/..%2f..%2fetc", headers=server.headers()), 404)
    is_problem(send(server, "GET", "/fail/A", headers=server.headers()), 422)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server):
    response = send(server, "POST", "/echo", content=b"x" * 1001, headers=server.headers())
    is_problem(response, 413)
    assert response.headers["connection"] == "close"
    assert send(server, "POST", "/echo", content=b"x" * 1000, headers=server.headers()).is_success


def test_a_body_without_a_stated_length_ends_where_it_grows_too_large(server):
    given = []

    async def pieces():
        for _ in range(100):
            given.append(1)
            yield b"x" * 100

    for path in ("/echo", "/model"):
        given.clear()
        is_problem(send(server, "POST", path, content=pieces(), headers=server.headers()), 413)


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 30])
def test_a_stated_length_that_is_none_is_too_large(server, length):
    headers = server.headers(**{"Content-Length": length})
    is_problem(send(server, "POST", "/echo", content=b"x", headers=headers), 413)


def test_a_spent_rate_says_when_to_come_again(tmp_path):
    with open_server(tmp_path, routes=[routes], rate_per_s=0.5) as server:
        assert send(server, "POST", "/echo", headers=server.headers()).is_success
        response = send(server, "POST", "/echo", headers=server.headers())
        is_problem(response, 429)
        assert response.headers["retry-after"] == "2"
        assert send(server, "POST", "/echo", headers=server.headers("admin")).is_success


@pytest.mark.parametrize(("asked", "most"), [("0.5", 0.5), ("1000", 60), (None, 60)])
def test_a_caller_may_wait_less_long_than_the_server(server, asked, most):
    headers = server.headers(**({"Tandem-Timeout-Seconds": asked} if asked else {}))
    remaining_s = send(server, "POST", "/echo", headers=headers).json()["remaining_s"]
    assert most - 0.5 < remaining_s <= most


@pytest.mark.parametrize("asked", ["0", "-1", "nan", "inf", "soon"])
def test_a_deadline_that_is_none_is_refused(server, asked):
    headers = server.headers(**{"Tandem-Timeout-Seconds": asked})
    is_problem(send(server, "POST", "/echo", headers=headers), 422)


def test_a_body_that_does_not_end_before_the_deadline_is_given_up(server):
    async def slow():
        yield b"x"
        await asyncio.sleep(30)
        yield b"x"

    class Slowly(httpx.ASGITransport):
        pass

    headers = server.headers(**{"Tandem-Timeout-Seconds": "0.05"})
    is_problem(send(server, "POST", "/echo", content=slow(), headers=headers), 504)


def test_each_request_is_audited_once_without_what_it_held(server):
    content = PATIENT.encode()
    response = send(server, "POST", "/echo", content=content, headers=server.headers())
    send(server, "GET", "/health/live")
    (record,) = server.audited()
    assert record["trace_id"] == response.json()["trace_id"]
    assert record["action"] == "POST /echo"
    assert record["models"] == [{"model": "minilm", "digest": "a" * 64}]
    assert record["input_digest"] == "c" * 64
    text = str(record)
    assert "Jane" not in text
    assert server.keys["analyst"] not in text
    assert verify_audit(server.folder / "audit").faults == []


def test_metrics_have_few_label_values_and_need_the_integrator(server):
    for number in range(30):
        send(server, "GET", f"/fail/unknown?number={number}", headers=server.headers())
        send(server, "GET", f"/nowhere/{number}", headers=server.headers())
    send(server, "BREW", "/echo", headers=server.headers())
    is_problem(send(server, "GET", "/metrics", headers=server.headers()), 403)
    text = send(server, "GET", "/metrics", headers=server.headers("integrator")).text
    lines = [line for line in text.splitlines() if line.startswith("tandem_requests_total")]
    assert 'tandem_requests_total{method="GET",route="/fail/{name}",status="404"} 30.0' in lines
    assert 'tandem_requests_total{method="GET",route="none",status="404"} 30.0' in lines
    assert any('method="other"' in line for line in lines)
    assert len(lines) <= 5
    assert "process_resident_memory_bytes" in text
    assert "analyst" not in text


def test_readiness_follows_checks_and_drain(tmp_path):
    good = [True]
    with open_server(tmp_path, checks={"models": lambda: good[0]}) as server:
        assert send(server, "GET", "/health/ready").json()["status"] == "ready"
        good[0] = False
        response = send(server, "GET", "/health/ready")
        assert response.status_code == 503
        assert response.json()["checks"] == {"taking requests": True, "models": False}
        good[0] = True
        server.parts.drain.begin()
        assert send(server, "GET", "/health/ready").status_code == 503
        assert send(server, "GET", "/health/live").status_code == 200


def test_a_draining_server_turns_new_requests_away_and_finishes_open_ones(tmp_path):
    entered, release = asyncio.Event(), asyncio.Event()
    held = APIRouter()

    @held.get("/held")
    async def hold() -> str:
        entered.set()
        await release.wait()
        return "finished"

    async def run(server: Server) -> tuple[httpx.Response, httpx.Response]:
        async with client_of(server) as client:
            first = asyncio.ensure_future(client.get("/held", headers=server.headers()))
            await entered.wait()
            assert server.parts.drain.open_requests == 1
            server.parts.drain.begin()
            second = await client.get("/held", headers=server.headers())
            release.set()
            return await first, second

    with open_server(tmp_path, routes=[held], drain=Drain()) as server:
        first, second = asyncio.run(run(server))
    assert first.json() == "finished"
    is_problem(second, 503)
    assert second.headers["retry-after"] == "5"
    assert second.headers["connection"] == "close"


def test_services_are_closed_in_reverse_order_after_the_edges(tmp_path):
    from contextlib import asynccontextmanager

    ended = []

    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            ended.append((self.name, threading.current_thread() is threading.main_thread()))

    @asynccontextmanager
    async def edge():
        yield
        ended.append(("edge", True))

    services = [Service("first"), Service("second")]
    with open_server(tmp_path, services=services, edges=[edge]) as server:

        async def run() -> None:
            async with server.app.router.lifespan_context(server.app):
                assert ended == []

        asyncio.run(run())
    assert ended == [("edge", True), ("second", False), ("first", False)]


def test_the_documentation_loads_nothing_from_elsewhere(server):
    page = send(server, "GET", "/docs")
    assert page.status_code == 200
    for sign in ("http://", "https://", "<script", "<link", "@import", "url("):
        assert sign not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/fail/{name}" in page.text
    assert 'id="too-large"' in page.text
    schema = send(server, "GET", "/openapi.json").json()
    assert schema["paths"]["/echo"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "security" not in schema["paths"]["/health/live"]["get"]


def test_without_an_audit_log_requests_are_answered_too(tmp_path):
    with open_server(tmp_path, routes=[routes]) as server:
        plain = replace(server, app=create_app(replace(server.parts, audit=None)))
        assert send(plain, "POST", "/echo", headers=server.headers()).is_success
