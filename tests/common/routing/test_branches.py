"""Branches run side by side, see the request, and end together when one fails."""

from __future__ import annotations

import threading

import pytest

from common.errors import DeadlineError
from common.request import check_wanted, current_request, new_request
from common.routing.branches import run_branches


def test_outcomes_flow_along_the_needs():
    needs = {"sum": ("a", "b"), "a": (), "b": ("a",)}
    work = {"a": lambda _: 1, "b": lambda o: o["a"] + 1, "sum": lambda o: o["a"] + o["b"]}
    outcomes = run_branches(needs, lambda name, o: work[name](o), new_request())
    assert outcomes == {"a": 1, "b": 2, "sum": 3}


def test_independent_pieces_run_side_by_side():
    """Each of the two waits for the other; one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)
    run_branches({"a": (), "b": ()}, lambda *_: both.wait(), new_request())


def test_a_piece_sees_the_request_with_trace_and_deadline():
    request = new_request(timeout_s=60, trace_id="1" * 32)
    seen = run_branches({"a": ()}, lambda *_: current_request(), request)["a"]
    assert (seen.trace_id, seen.deadline_s) == (request.trace_id, request.deadline_s)


def test_the_first_error_gives_up_the_others_and_what_waits_is_not_begun():
    request, waits, ended, begun = new_request(), threading.Event(), threading.Event(), []

    def work(name, _):
        begun.append(name)
        if name == "fails":
            waits.wait(30)
            raise KeyError("reason")
        if name == "slow":
            waits.set()
            current_request().given_up.wait(30)
            try:
                check_wanted()
            except DeadlineError:
                ended.set()
                raise

    with pytest.raises(KeyError, match="reason"):
        run_branches({"fails": (), "slow": (), "later": ("slow",)}, work, request)
    assert ended.wait(30)
    assert "later" not in begun
    assert not request.given_up.is_set(), "the caller's own request goes on"


def test_a_caller_who_gives_up_is_seen_in_every_branch():
    request = new_request()

    def work(name, _):
        if name == "caller":
            request.give_up()
        current_request().given_up.wait(30)
        check_wanted()

    with pytest.raises(DeadlineError, match="gave up"):
        run_branches({"a": (), "b": (), "caller": ()}, work, request)


def test_the_deadline_ends_the_wait_for_a_piece_that_does_not_look():
    go = threading.Event()
    with pytest.raises(DeadlineError, match="has passed"):
        run_branches({"a": ()}, lambda *_: go.wait(30), new_request(timeout_s=0.02))
    go.set()


def test_a_request_that_is_over_begins_nothing():
    request, begun = new_request(), []
    request.give_up()
    with pytest.raises(DeadlineError):
        run_branches({"a": ()}, lambda name, _: begun.append(name), request)
    assert begun == []


def test_waiting_for_a_branch_to_be_given_up_ends_with_its_time():
    seen = run_branches({"a": ()}, lambda *_: current_request().given_up.wait(0.01), new_request())
    assert seen == {"a": False}
