"""Calls that wait together are answered together, each with its own answer and deadline."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait

import pytest

from common.errors import DeadlineError, OverloadError, SettingsError, TaskError
from common.models.base import ModelProfile
from common.request import check_wanted, current_request, new_request
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


class Answering(Gated):
    """Gives for the texts of a batch what it was made with."""

    def __init__(self, answer):
        super().__init__()
        self._answer = answer

    def predict(self, tasks):
        results = super().predict(tasks)
        return self._answer(results)


@pytest.mark.parametrize(
    "answer",
    [
        lambda results: results[-1:] if len(results) > 1 else results,
        lambda results: results * 2 if len(results) > 1 else results,
        lambda results: None if len(results) > 1 else results,
        lambda results: iter(results) if len(results) > 1 else results,
    ],
    ids=["too few", "too many", "none", "no list"],
)
def test_nobody_gets_another_s_result_where_a_model_miscounts(engine, answer):
    model = Answering(answer)
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    others = [engine.submit(call(model, text)) for text in ("bb", "ccc", "dddd")]
    model.let(5)
    assert lengths(first) == [1]
    assert [lengths(one) for one in others] == [[2], [3], [4]]


def test_the_calls_of_a_failed_batch_run_one_by_one_however_little_room_there_is():
    model = Gated()
    with BatchingEngine(LocalEngine(1, queue=0), tasks=32) as engine:
        first = engine.submit(call(model, "a"))
        assert model.entered.acquire(timeout=WAIT_S)
        good = [engine.submit(call(model, "bb")) for _ in range(20)]
        bad = engine.submit(call(model, "bad"))
        model.let(23)
        assert lengths(first) == [1]
        assert [lengths(one) for one in good] == [[2]] * 20
        with pytest.raises(TaskError):
            bad.result(WAIT_S)


class AtOnce:
    """An engine whose calls after the first end before `submit` returns."""

    def __init__(self, outcome):
        self.first, self._outcome, self._n = Future(), outcome, 0

    def submit(self, call):
        self._n += 1
        return self.first if self._n == 1 else self._outcome(call)

    def close(self):
        pass


def _refused(_):
    raise OverloadError("engine", **FACTS)


def _answered(call):
    future = Future()
    future.set_result([Result({"length": 1}) for _ in call.tasks])
    return future


@pytest.mark.parametrize("outcome", [_refused, _answered])
def test_a_long_queue_that_ends_at_once_ends_whole(outcome):
    """A thousand batches, each ended as soon as begun: no recursion is that deep."""
    inner, model = AtOnce(outcome), Gated()
    with BatchingEngine(inner, tasks=1, queue=2000) as engine:
        futures = [engine.submit(call(model, "a")) for _ in range(1500)]
        inner.first.set_result([Result({"length": 1})])
        assert all(one.done() for one in futures)


def test_who_waits_for_a_cancelled_call_learns_it(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    waiting = engine.submit(call(model, "bb"))
    assert waiting.cancel()
    model.let(1)
    assert lengths(first) == [1]
    assert wait([waiting], WAIT_S).not_done == set()


@pytest.mark.parametrize("fault", [{"tasks": 0}, {"lanes": 0}, {"queue": -1}])
def test_an_engine_that_could_run_nothing_is_refused(fault):
    with pytest.raises(SettingsError, match="batching"):
        BatchingEngine(LocalEngine(1), **fault)


def test_calls_of_a_batch_learn_how_long_it_took_and_how_large_it_was(engine):
    model = Gated()
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    calls = [call(model, "bb"), call(model, "ccc", "d")]
    futures = [engine.submit(one) for one in calls]
    model.let(2)
    assert [len(lengths(one)) for one in [first, *futures]] == [1, 1, 2]
    assert [one.work.n_tasks for one in calls] == [3, 3]
    assert calls[0].work.seconds == calls[1].work.seconds > 0


def test_a_batch_ends_when_the_last_of_its_callers_is_gone(engine):
    class Watching(Gated):
        def predict(self, tasks):
            results = super().predict(tasks)
            wanted.append([current_request().given_up.is_set()])
            if len(tasks) > 1:
                left.request.give_up()
                wanted[-1].append(current_request().given_up.is_set())
                assert cancelled.cancel()
                check_wanted()
            return results

    model, wanted = Watching(), []
    first = engine.submit(call(model, "a"))
    assert model.entered.acquire(timeout=WAIT_S)
    left = call(model, "bb")
    given_up, cancelled = engine.submit(left), engine.submit(call(model, "ccc"))
    model.let(2)
    assert lengths(first) == [1]
    with pytest.raises(DeadlineError, match="gave up"):
        given_up.result(WAIT_S)
    assert wanted == [[False], [False, False]]
    assert model.batches == [["a"], ["bb", "ccc"]]
