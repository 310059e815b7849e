"""A session is changed on top of the version that was read, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.protocol.messages.envelope import Envelope, SessionDelta
from common.protocol.sessions.session import SessionStore
from common.serving.link_rest import JSON, PROTOBUF
from common.serving.session_rest import session_routes
from common.serving.work import WorkThreads
from common.task import Result
from tests.common.serving.serving_parts import open_server
from tests.common.serving.test_app import is_problem, send


@pytest.fixture
def server(tmp_path):
    store, work = SessionStore(tmp_path / "sessions.sqlite"), WorkThreads(threads=2, waiting=8)
    with open_server(tmp_path, routes=[session_routes(store, work)]) as opened:
        yield opened
    work.close()
    store.close()


@pytest.fixture
def address(server):
    response = send(server, "POST", "/v1/sessions", headers=server.headers())
    assert response.status_code == 201
    assert response.json()["version"] == 0
    assert response.headers["location"].endswith(response.json()["session_id"])
    return response.headers["location"]


def change(server, address, content, media_type=JSON, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = server.headers(**{"Content-Type": media_type, **headers})
    return send(server, "PATCH", address, content=body, headers=headers)


def read(server, address, **params):
    return send(server, "GET", address, params=params, headers=server.headers("integrator"))


def test_a_change_makes_the_next_version_and_earlier_ones_can_be_read(server, address):
    first = {"base_version": 0, "changes": {"language": {"json": "de"}, "n": {"json": 1}}}
    assert change(server, address, first).json()["version"] == 1
    second = {"base_version": 1, "changes": {"n": {"json": [2]}}, "removed": ["language"]}
    assert change(server, address, second).json()["version"] == 2
    assert read(server, address).json()["values"] == {"n": {"json": [2]}}
    assert read(server, address).headers["etag"] == '"2"'
    assert read(server, address, version=1).json()["values"]["language"] == {"json": "de"}


def test_a_stale_writer_gets_a_conflict_and_changes_nothing(server, address):
    change(server, address, {"base_version": 0, "changes": {"a": {"json": 1}}})
    response = change(server, address, {"base_version": 0, "changes": {"a": {"json": 2}}})
    assert "present version 1" in is_problem(response, 409)["detail"]
    assert read(server, address).json()["values"] == {"a": {"json": 1}}


def test_the_same_change_sent_again_is_made_once(server, address):
    wanted = {"base_version": 0, "changes": {"a": {"json": 1}}}
    for _ in range(2):
        response = change(server, address, wanted, **{"Idempotency-Key": "k1"})
        assert response.json()["version"] == 1


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_results_travel_in_envelopes_with_their_types(server, address, media_type):
    result = Result({"score": 0.5}, {"half": np.float16([1, 2])})
    delta = SessionDelta(address.rsplit("/", 1)[1], 0, {"reading": result}, author="somebody")
    envelope = Envelope(delta)
    content = envelope.to_bytes() if media_type == PROTOBUF else envelope.to_text()
    assert change(server, address, content, media_type).json()["version"] == 1
    array = read(server, address).json()["values"]["reading"]["result"]["arrays"]["half"]
    assert (array["dtype"], array["shape"]) == ("float16", [2])


def test_an_erased_session_is_gone(server, address):
    assert send(server, "DELETE", address, headers=server.headers()).status_code == 204
    is_problem(read(server, address), 404)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/sessions/" + "0" * 32, 404),
        ("/v1/sessions/short", 422),
        ("/v1/sessions/..%2f..%2fkeys.json", 404),
        ("/v1/sessions/%00", 422),
    ],
)
def test_ids_that_none_has_are_problems(server, path, status):
    is_problem(read(server, path), status)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"base_version": -1},
        {"base_version": "0"},
        {"base_version": True},
        {"base_version": 0, "changes": {"a": 1}},
        {"base_version": 0, "changes": {"a": {"json": 1, "result": {}}}},
        {"base_version": 0, "changes": {"a": {"json": 1}}, "removed": ["a"]},
        {"base_version": 0, "changes": {"a" * 300: {"json": 1}}},
        {"base_version": 0, "removed": "abc"},
        {"base_version": 0, "author": "x"},
        [],
    ],
)
def test_a_change_that_is_none_is_refused(server, address, content):
    is_problem(change(server, address, content), 422)
    assert read(server, address).json()["version"] == 0


def test_a_change_of_another_session_is_refused(server, address):
    envelope = Envelope(SessionDelta("f" * 32, 0, {"a": 1}))
    is_problem(change(server, address, envelope.to_bytes(), PROTOBUF), 422)
    is_problem(read(server, address, version=7), 404)
    is_problem(read(server, address, version=-7), 422)
