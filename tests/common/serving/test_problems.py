"""Every error of the tree has its place on the wire; what nobody foresaw says nothing."""

from __future__ import annotations

import pytest

import common.errors as tree
from common.errors import (
    DeadlineError,
    MessageError,
    OverloadError,
    StoreError,
    TandemError,
    TaskError,
)
from common.serving.problems import PROBLEMS, problem_of, problem_of_status

FACTS = {"expected": "a", "found": "b", "remedy": "C."}
KINDS = [getattr(tree, name) for name in tree.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_becomes_its_nearest_base_s_problem(kind):
    problem = problem_of(kind("thing", **FACTS))
    nearest = next(base for base in kind.__mro__ if base in PROBLEMS)
    assert (problem.status, problem.title) == (PROBLEMS[nearest].status, PROBLEMS[nearest].title)
    assert nearest is not Exception
    if problem.status < 500:
        assert problem.detail == "thing: expected a; found b. C."


def test_unusable_input_is_never_the_server_s_fault():
    assert problem_of(MessageError("m", **FACTS)).status == 422
    assert problem_of(TaskError("m", **FACTS)).title == "Unusable task"


@pytest.mark.parametrize("error", [ValueError("Jane Doe"), KeyError("Jane"), OSError(2, "Jane")])
def test_what_nobody_foresaw_says_nothing(error):
    problem = problem_of(error)
    assert problem.status == 500
    assert problem.to_json("1" * 32) == {
        "type": "/docs#server-error",
        "title": "Server error",
        "status": 500,
        "error": "Server error",
        "trace_id": "1" * 32,
    }


def test_the_server_s_own_affairs_keep_their_detail():
    assert problem_of(StoreError("journal", **FACTS)).detail is None
    assert problem_of(TandemError("thing", **FACTS)).detail is None
    assert problem_of(DeadlineError("request", **FACTS)).detail is not None


@pytest.mark.parametrize(("seconds", "header"), [(0.01, "1"), (1.0, "1"), (1.2, "2"), (30, "30")])
def test_overload_says_when_to_come_again(seconds, header):
    problem = problem_of(OverloadError("queue", **FACTS, retry_after_s=seconds))
    assert problem.status == 429
    assert problem.headers()["Retry-After"] == header


def test_plain_statuses_are_problems_too():
    assert problem_of_status(405).to_json("a")["title"] == "Method Not Allowed"
    assert problem_of_status(401).headers()["WWW-Authenticate"].startswith("Bearer")
