"""Calls that wait together are answered together, each with its own answer and deadline."""

from __future__ import annotations

import threading
import time

import pytest

from common.errors import DeadlineError, OverloadError, TaskError
from common.models.base import ModelProfile
from common.request import new_request
from common.routing.batching import BatchingEngine
from common.routing.engine import Call, LocalEngine
from common.task import Result, Task, Text

WAIT_S = 10
FACTS = {"expected": "a", "found": "b", "remedy": "C."}


class Gated:
    """Lengths of texts; each batch waits for a permit, and "bad" is refused."""

    def __init__(self, *, deterministic: bool = True) -> None:
        self.profile = ModelProfile("gated", "text", "1", deterministic=deterministic)
        self.permits, self.entered = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[str]] = []

    def predict(self, tasks):
        texts = [task.parts["text"].text for task in tasks]
        self.batches.append(texts)
        self.entered.release()
        assert self.permits.acquire(timeout=WAIT_S)
        if "bad" in texts:
            raise TaskError("text", **FACTS)
        return [Result({"length": len(text)}) for text in texts]

    def let(self, n: int) -> None:
        self.permits.release(n)


def call(model, *texts, timeout_s=None):
    tasks = tuple(Task({"text": Text(text)}) for text in texts)
    return Call(model, tasks, new_request(timeout_s=timeout_s), "-".join(texts))


def lengths(future):
    return [result.values["length"] for result in future.result(WAIT_S)]


@pytest.fixture
def engine():
    with BatchingEngine(LocalEngine(4, queue=8), tasks=4, queue=6) as opened:
        yield opened


def test_calls_that_wait_are_answered_in_one_batch_each_with_its_own_part(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    others = [engine.submit(call(model, *texts)) for texts in (["bb", "ccc"], ["d"], ["ee", "f"])]
    assert engine.waiting == 3
    model.let(3)
    assert lengths(first) == [1]
    assert [lengths(one) for one in others] == [[2, 3], [1], [2, 1]]
    assert model.batches == [["a"], ["bb", "ccc", "d"], ["ee", "f"]]


def test_no_call_waits_for_others_to_come(engine):
    model = Gated()
    model.let(2)
    assert lengths(engine.submit(call(model, "a"))) == [1]
    assert lengths(engine.submit(call(model, "bb"))) == [2]
    assert engine.waiting == 0


def test_models_do_not_wait_for_each_other(engine):
    one, other = Gated(), Gated()
    held = engine.submit(call(one, "a"))
    other.let(1)
    assert lengths(engine.submit(call(other, "bb"))) == [2]
    one.let(1)
    assert lengths(held) == [1]


def test_nobody_gets_another_s_error(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    good, bad = engine.submit(call(model, "bb")), engine.submit(call(model, "bad"))
    model.let(4)
    assert lengths(first) == [1]
    assert lengths(good) == [2]
    with pytest.raises(TaskError):
        bad.result(WAIT_S)
    assert ["bb", "bad"] in model.batches


def test_a_call_larger_than_a_batch_runs_alone(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    large = engine.submit(call(model, *["x"] * 9))
    model.let(2)
    assert lengths(first) == [1]
    assert lengths(large) == [1] * 9


def test_a_deadline_ends_a_call_that_waits_and_one_in_a_batch(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    late = engine.submit(call(model, "bb", timeout_s=0.05))
    with pytest.raises(DeadlineError):
        late.result(WAIT_S)
    patient, hasty = (
        engine.submit(call(model, "ccc")),
        engine.submit(call(model, "d", timeout_s=0.3)),
    )
    model.let(1)
    assert lengths(first) == [1]
    assert model.entered.acquire(timeout=WAIT_S)
    with pytest.raises(DeadlineError):
        hasty.result(WAIT_S)
    model.let(1)
    assert lengths(patient) == [3]
    assert model.batches[1:] == [["ccc", "d"]]


def test_a_call_that_was_given_up_or_cancelled_while_it_waited_is_not_run(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    left = call(model, "bb")
    given_up, cancelled = engine.submit(left), engine.submit(call(model, "ccc"))
    left.request.give_up()
    assert cancelled.cancel()
    model.let(1)
    assert lengths(first) == [1]
    with pytest.raises(DeadlineError, match="gave up"):
        given_up.result(WAIT_S)
    assert model.batches == [["a"]]


def test_a_full_queue_is_refused_at_once(engine):
    model = Gated()
    futures = [engine.submit(call(model, "a")) for _ in range(7)]
    with pytest.raises(OverloadError, match="6 calls waiting"):
        engine.submit(call(model, "a"))
    model.let(7)
    assert [lengths(one) for one in futures] == [[1]] * 7


def test_a_model_that_is_not_deterministic_gets_each_call_by_itself(engine):
    model = Gated(deterministic=False)
    futures = [engine.submit(call(model, "a")) for _ in range(3)]
    model.let(3)
    assert [lengths(one) for one in futures] == [[1]] * 3
    assert model.batches == [["a"]] * 3


def test_a_failure_to_start_reaches_those_who_wait():
    inner = LocalEngine(1, queue=0)
    with BatchingEngine(inner) as engine:
        blocking, model = Gated(), Gated()
        held = inner.submit(call(blocking, "a"))
        with pytest.raises(OverloadError):
            engine.submit(call(model, "a")).result(WAIT_S)
        blocking.let(1)
        assert lengths(held) == [1]
        model.let(1)
        assert blocking.entered.acquire(timeout=WAIT_S)
        while inner.load().running:
            time.sleep(0.001)
        assert lengths(engine.submit(call(model, "bb"))) == [2]


def test_closing_waits_for_what_was_taken_and_takes_no_more():
    model = Gated()
    engine = BatchingEngine(LocalEngine(1, queue=4))
    futures = [engine.submit(call(model, "a")) for _ in range(3)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    model.let(3)
    closing.join(WAIT_S)
    assert [lengths(one) for one in futures] == [[1]] * 3
    with pytest.raises(OverloadError, match="closing"):
        engine.submit(call(model, "a"))
