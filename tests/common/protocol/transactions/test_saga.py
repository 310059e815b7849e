"""What an interruption leads to is decided from the entry alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import InputError, MessageError
from common.protocol.transactions.saga import (
    JournalEntry,
    SagaStep,
    StepEntry,
    finishes_forward,
    past_pivot,
    require_order,
    run_next,
    turned_back,
    undo_next,
)


def nothing(*_):
    return None


STEPS = {
    step.name: step
    for step in (
        SagaStep("undoable", nothing, nothing),
        SagaStep("retriable", nothing, nothing, retriable=True),
        SagaStep("predict", nothing, retriable=True),
        SagaStep("pivot", nothing, retriable=True, pivot=True),
    )
}


def entry(*steps, policy="forward"):
    """An entry of steps given as "name state"."""
    entries = tuple(
        StepEntry(place, *step.split(), attempts=int("pending" not in step))
        for place, step in enumerate(steps)
    )
    return JournalEntry(1, "0" * 32, policy, "digest", "running", entries, {})


def states(found):
    return [step.state for step in found.steps]


@pytest.mark.parametrize(
    ("steps", "policy", "forward"),
    [
        (["undoable done", "retriable running"], "forward", True),
        (["undoable done", "retriable running"], "backward", False),
        (["undoable running", "retriable pending"], "forward", False),
        (["retriable running", "undoable pending"], "forward", False),
        (["undoable done", "pivot running"], "backward", True),
        (["pivot done", "retriable running"], "backward", True),
        (["undoable running", "pivot pending"], "backward", False),
    ],
)
def test_an_interrupted_transaction_goes_where_it_can_end(steps, policy, forward):
    assert finishes_forward(entry(*steps, policy=policy), STEPS) is forward


def test_a_pivot_counts_from_its_beginning():
    assert not past_pivot(entry("undoable done", "pivot pending"), STEPS)
    assert past_pivot(entry("undoable done", "pivot running"), STEPS)


def test_the_next_step_is_the_first_that_is_not_done():
    found = run_next(entry("undoable done", "retriable running", "predict pending"))
    assert (found.name, found.state, found.attempts) == ("retriable", "running", 2)
    assert run_next(entry("undoable done")) is None


def test_turning_back_fails_what_is_under_way_and_undoes_from_the_end():
    back = turned_back(
        entry("predict done", "undoable done", "retriable running", "pivot pending"),
        STEPS,
        "OSError",
    )
    assert states(back) == ["compensated", "done", "failed", "pending"]
    assert [step.error for step in back.steps] == [None, None, "OSError", None]
    undone = []
    while (following := undo_next(back)) is not None:
        undone.append(following.name)
        assert (following.state, following.attempts) == ("compensating", 1)
        back = back.with_steps([replace(following, state="compensated")])
    assert undone == ["retriable", "undoable"]


def test_the_key_is_equal_for_each_attempt():
    found = entry("undoable running", "retriable pending")
    again = found.with_steps([found.current().begun("running")])
    assert found.key(found.current()) == again.key(again.current()) == "0" * 32 + ":undoable"


@pytest.mark.parametrize(
    ("names", "inputs", "fault"),
    [
        ([], {}, "no step"),
        (["undoable", "undoable"], {}, "stands twice"),
        (["undoable"], {"undoable": 1}, "the name of a step"),
        (["pivot", "undoable"], {}, "after the pivot"),
    ],
)
def test_steps_that_make_no_transaction_are_refused(names, inputs, fault):
    with pytest.raises(InputError, match=fault):
        require_order([STEPS[name] for name in names], inputs)
    require_order([STEPS[name] for name in ("undoable", "pivot", "retriable")], {"case": 1})


def test_a_pivot_can_only_go_forward():
    with pytest.raises(InputError, match="not retriable"):
        SagaStep("a", nothing, pivot=True)
    with pytest.raises(InputError, match="found a compensation"):
        SagaStep("a", nothing, nothing, retriable=True, pivot=True)


def test_a_step_has_a_plain_name():
    with pytest.raises(MessageError, match="step name"):
        SagaStep("../a", nothing)
