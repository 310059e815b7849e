"""One task in, in any of three forms; one accountable answer out, in the same form."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import numpy as np
import pytest

from common.models.base import ModelProfile
from common.protocol.messages.envelope import Envelope, LinkedAnswer, SessionDelta
from common.request import check_wanted, current_request
from common.routing.cache import ResultCache
from common.routing.engine import LocalEngine
from common.routing.router import ModelRouter
from common.serving.link_rest import JSON, PROTOBUF, link_routes
from common.serving.telemetry import Telemetry
from common.serving.work import WorkThreads
from common.task import Image, Result, Series, Task, Text
from tests.common.serving.serving_parts import client_of, open_server
from tests.common.serving.test_app import is_problem, send

PATIENT = "Jane Doe, 1970-01-01"
TEXT = {"type": "text", "text_prompt": PATIENT}


class Length:
    """The length of a text, in one number; waits where the text says so."""

    profile = ModelProfile(name="length", modality="text", digest="1" * 64)

    def __init__(self) -> None:
        self.entered, self.release, self.gave_up = (threading.Event() for _ in range(3))
        self.seen: list[tuple[str, float]] = []

    def predict(self, tasks):
        texts = [task.parts["text"].text for task in tasks]
        self.seen.append((current_request().trace_id, current_request().remaining_s()))
        if texts == ["fail"]:
            raise ValueError(PATIENT)
        if texts == ["wait"]:
            self.entered.set()
            while not self.release.wait(0.01):
                try:
                    check_wanted()
                except Exception:
                    self.gave_up.set()
                    raise
        return [Result({"length": len(text)}, {"half": np.float16([0.5])}) for text in texts]


class Mean:
    profile = ModelProfile(name="mean", modality="series", digest="2" * 64)

    def predict(self, tasks):
        return [Result({"mean": float(task.parts["series"].values.mean())}) for task in tasks]


@pytest.fixture
def length():
    return Length()


@pytest.fixture
def server(tmp_path, length):
    engine, cache = LocalEngine(1, queue=1), ResultCache(tmp_path / "results")
    router = ModelRouter({"text": length, "series": Mean()}, engine=engine, cache=cache)
    work = WorkThreads(threads=4, waiting=4)
    routes = [link_routes(router, work, Telemetry())]
    with open_server(tmp_path, routes=routes, rate_per_s=1e6) as opened:
        yield opened
    length.release.set()
    for part in (engine, work, cache):
        part.close()


def ask(server, content, media_type=JSON, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = server.headers(**{"Content-Type": media_type, **headers})
    return send(server, "POST", "/v1/link/tasks", content=body, headers=headers)


def test_the_article_s_form_is_answered_with_provenance(server):
    asked = {"type": "multimodal", "text_prompt": "four", "series": [1, 2, 3]}
    response = ask(server, asked)
    found = response.json()
    assert response.status_code == 200
    assert found["parts"]["text"]["result"]["values"] == {"length": 4}
    assert found["parts"]["series"]["result"]["values"] == {"mean": 2.0}
    assert found["parts"]["text"]["provenance"]["model_digest"] == "1" * 64
    assert found["trace_id"] == response.headers["traceparent"].split("-")[1]


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_an_envelope_is_answered_by_an_envelope(server, length, media_type):
    asked = Envelope(Task({"text": Text("four"), "series": Series(np.arange(3.0))}))
    content = asked.to_bytes() if media_type == PROTOBUF else asked.to_text()
    response = ask(server, content, media_type)
    assert response.headers["content-type"] == media_type
    read = Envelope.from_bytes if media_type == PROTOBUF else Envelope.from_text
    told = read(response.content)
    assert (told.id, told.trace_id) == (asked.id, asked.trace_id)
    assert isinstance(told.payload, LinkedAnswer)
    half = told.payload.parts["text"].result.arrays["half"]
    assert (half.dtype, half[0]) == (np.float16, 0.5)
    assert length.seen[0][0] == asked.trace_id
    (record,) = server.audited()
    assert record["trace_id"] == asked.trace_id == response.headers["traceparent"].split("-")[1]
    assert {model["digest"] for model in record["models"]} == {"1" * 64, "2" * 64}
    assert record["input_digest"] == told.payload.input_digest


def test_the_earlier_of_two_deadlines_reaches_the_model(server, length):
    task = Task({"text": Text("a")})
    ask(server, Envelope(task, deadline_ms=5000).to_text())
    ask(server, {**TEXT, "text_prompt": "b"}, **{"Tandem-Timeout-Seconds": "3"})
    (_, first), (_, second) = length.seen
    assert 0 < first <= 5
    assert 0 < second <= 3
    is_problem(ask(server, Envelope(task, deadline_ms=0).to_text()), 504)


def test_an_expired_deadline_is_told_and_the_model_ends(server, length):
    response = ask(server, {**TEXT, "text_prompt": "wait"}, **{"Tandem-Timeout-Seconds": "0.05"})
    is_problem(response, 504)
    assert length.gave_up.wait(10)


def test_a_caller_who_leaves_ends_the_model(server, length):
    async def leave():
        async with client_of(server) as client:
            body = json.dumps({**TEXT, "text_prompt": "wait"})
            headers = server.headers(**{"Content-Type": JSON})
            asked = asyncio.ensure_future(
                client.post("/v1/link/tasks", content=body, headers=headers)
            )
            while not length.entered.is_set():
                await asyncio.sleep(0.01)
            asked.cancel()
            return await asyncio.to_thread(length.gave_up.wait, 10)

    assert asyncio.run(leave())


def test_a_full_queue_answers_429_with_retry_after(server, length):
    async def crowd():
        async with client_of(server) as client:
            headers = server.headers(**{"Content-Type": JSON})

            def post(text):
                body = json.dumps({**TEXT, "text_prompt": text})
                return client.post("/v1/link/tasks", content=body, headers=headers)

            held = asyncio.ensure_future(post("wait"))
            while not length.entered.is_set():
                await asyncio.sleep(0.01)
            others = [asyncio.ensure_future(post(f"text {n}")) for n in range(12)]
            done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            while len(waiting) > 1:
                done, waiting = await asyncio.wait(waiting, timeout=0.1)
                if not done:
                    break
            length.release.set()
            return await held, [await one for one in others]

    held, others = asyncio.run(crowd())
    assert held.status_code == 200
    refused = [one for one in others if one.status_code != 200]
    assert len(refused) >= 8
    for one in refused:
        is_problem(one, 429)
        assert int(one.headers["retry-after"]) >= 1


FAULTS = {
    "no JSON": (b"{", JSON, 422),
    "NaN": (b'{"type": "series", "series": [NaN]}', JSON, 422),
    "an array": (b"[]", JSON, 422),
    "a key twice": (b'{"type": "text", "type": "text"}', JSON, 422),
    "an unknown key": (b'{"text": "x"}', JSON, 422),
    "a file": (b'{"type": "image", "image_params": {"path": "/etc/passwd"}}', JSON, 422),
    "a file as image": (b'{"type": "image", "image": "/etc/passwd"}', JSON, 422),
    "ragged rows": (b'{"type": "image", "image": [[1, 2], [3]]}', JSON, 422),
    "rows of text": (b'{"type": "image", "image": [["a"]]}', JSON, 422),
    "seed of text": (b'{"type": "image", "image_params": {"seed": "x"}}', JSON, 422),
    "deep": (b"[" * 100_000, JSON, 422),
    "no part": (b"{}", JSON, 422),
    "no model for the part": (b'{"type": "image", "image": [[1, 2], [3, 4]]}', JSON, 422),
    "an unknown kind": (b'{"version": 1, "kind": "x", "payload": {}}', JSON, 422),
    "an envelope of another version": (b'{"version": 9, "kind": "task", "payload": {}}', JSON, 422),
    "no Protobuf": (b"\xff\xff", PROTOBUF, 422),
    "empty Protobuf": (b"", PROTOBUF, 422),
    "another media type": (b"{}", "text/plain", 415),
    "another payload": (
        Envelope(SessionDelta("a" * 32, 0, {})).to_bytes(),
        PROTOBUF,
        422,
    ),
    "a truncated message": (
        Envelope(Task({"image": Image(np.zeros((64, 64)))})).to_bytes()[:-100],
        PROTOBUF,
        422,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_a_precise_problem(server, fault):
    content, media_type, status = FAULTS[fault]
    is_problem(ask(server, content, media_type), status)


def test_a_model_that_fails_is_a_502_that_says_nothing_of_its_input(server, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        response = ask(server, {**TEXT, "text_prompt": "fail"})
    is_problem(response, 502)
    assert PATIENT not in caplog.text + response.text
    assert PATIENT not in capfd.readouterr().err


def test_nothing_of_a_payload_is_logged_or_audited(server, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        assert ask(server, TEXT).status_code == 200
        ask(server, {**TEXT, "unknown": PATIENT})
        ask(server, json.dumps(TEXT).encode()[:-3])
    assert PATIENT not in caplog.text
    assert PATIENT not in capfd.readouterr().err
    assert PATIENT not in json.dumps(server.audited())
    assert server.keys["analyst"] not in caplog.text


def test_a_stored_answer_says_so(server):
    ask(server, TEXT)
    assert ask(server, TEXT).json()["parts"]["text"]["cached"]
