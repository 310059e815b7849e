"""The cache answers for the same content only, and computes once for many."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from common.errors import DeadlineError, InputError, ModelError, StoreError
from common.request import new_request, serving
from common.routing.cache import ResultCache
from common.task import Result
from tests.common.routing.cached_tasks import (
    OTHER,
    PROFILE,
    TASK,
    Clock,
    answer,
    never,
    with_text,
)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock):
    cache = ResultCache(tmp_path / "results", clock=clock)
    yield cache
    cache.close()


def test_a_stored_result_is_returned_and_counted(cache):
    assert cache.get(PROFILE, TASK) is None
    cache.put(PROFILE, TASK, Result(values={"v": 1}, arrays={"x": np.arange(3)}))
    copy = cache.get(PROFILE, TASK)
    assert copy.values["v"] == 1
    assert copy.arrays["x"].tolist() == [0, 1, 2]
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize("field", ["name", "digest", "adapter_digest"])
def test_another_model_or_adapter_has_another_key(field):
    changed = dataclasses.replace(PROFILE, **{field: "other"})
    assert ResultCache.key(changed, TASK) != ResultCache.key(PROFILE, TASK)


def test_another_input_has_another_key():
    assert ResultCache.key(PROFILE, with_text("words ")) != ResultCache.key(PROFILE, TASK)


def test_what_is_stored_is_not_computed(cache):
    assert cache.get_or_compute(PROFILE, TASK, answer).source == "computed"
    fetched = cache.get_or_compute(PROFILE, TASK, never)
    assert (fetched.source, fetched.result.values) == ("stored", {"length": 5})


def test_only_misses_are_computed_and_in_one_call(cache):
    calls = []

    def compute(tasks):
        calls.append([task.parts["text"].text for task in tasks])
        return [answer(task) for task in tasks]

    cache.put(PROFILE, TASK, answer(TASK))
    tasks = [OTHER, TASK, with_text("third"), OTHER]
    fetched = cache.get_or_compute_many(PROFILE, tasks, compute)
    assert calls == [["other words", "third"]]
    assert [one.result.values["length"] for one in fetched] == [11, 5, 5, 11]
    assert [one.source for one in fetched] == ["computed", "stored", "computed", "computed"]


def test_a_model_that_varies_is_computed_anew(cache):
    varying = dataclasses.replace(PROFILE, deterministic=False)
    for _ in range(2):
        assert cache.get_or_compute(varying, TASK, answer).source == "computed"
    assert cache.stats().results == 0


def test_one_computation_serves_all_threads_that_wait(cache):
    computing, go_on, calls = threading.Event(), threading.Event(), []

    def compute(task):
        calls.append(task)
        computing.set()
        assert go_on.wait(30)
        return answer(task)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(cache.get_or_compute, PROFILE, TASK, compute)
        assert computing.wait(30)
        others = [pool.submit(cache.get_or_compute, PROFILE, TASK, compute) for _ in range(8)]
        go_on.set()
        sources = [one.result(30).source for one in [first, *others]]
    assert len(calls) == 1
    assert sources[0] == "computed"
    assert set(sources[1:]) <= {"shared", "stored"}
    assert (cache.hits, cache.misses) == (8, 1)


def test_callers_of_overlapping_batches_do_not_wait_for_each_other(cache):
    computing, go_on = threading.Event(), threading.Event()
    a, b, c = (with_text(text) for text in "abc")

    def first(tasks):
        assert tasks == [a, b]
        computing.set()
        assert go_on.wait(30)
        return [answer(task) for task in tasks]

    def second(tasks):
        assert tasks == [c]
        go_on.set()
        return [answer(task) for task in tasks]

    with ThreadPoolExecutor(2) as pool:
        x = pool.submit(cache.get_or_compute_many, PROFILE, [a, b], first)
        assert computing.wait(30)
        y = pool.submit(cache.get_or_compute_many, PROFILE, [b, a, c], second)
        assert [one.source for one in y.result(30)] == ["shared", "shared", "computed"]
        assert [one.source for one in x.result(30)] == ["computed", "computed"]


@pytest.mark.parametrize("error", [ModelError, InputError, RuntimeError])
def test_a_failure_reaches_all_who_wait_and_is_not_kept(cache, error):
    computing, go_on = threading.Event(), threading.Event()
    facts = {"expected": "x", "found": "y", "remedy": "z."}

    def fail(task):
        computing.set()
        assert go_on.wait(30)
        raise error("model") if error is RuntimeError else error("model", **facts)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, PROFILE, TASK, fail)
        assert computing.wait(30)
        second = pool.submit(cache.get_or_compute, PROFILE, TASK, fail)
        go_on.set()
        for waiting in (first, second):
            with pytest.raises(error):
                waiting.result(30)
    assert cache.get_or_compute(PROFILE, TASK, answer).source == "computed"


def test_who_waits_takes_over_where_the_first_gives_up(cache):
    computing, waits = threading.Event(), threading.Event()

    def give_up(task):
        computing.set()
        assert waits.wait(30)
        raise DeadlineError("request", expected="x", found="y", remedy="z.")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, PROFILE, TASK, give_up)
        assert computing.wait(30)
        second = pool.submit(cache.get_or_compute, PROFILE, TASK, answer)
        waits.set()
        with pytest.raises(DeadlineError):
            first.result(30)
        assert second.result(30).result.values == {"length": 5}


def test_who_waits_and_is_given_up_stops_waiting(cache):
    computing, go_on = threading.Event(), threading.Event()
    request = new_request()

    def compute(task):
        computing.set()
        assert go_on.wait(30)
        return answer(task)

    def ask():
        with serving(request):
            return cache.get_or_compute(PROFILE, TASK, never)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, PROFILE, TASK, compute)
        assert computing.wait(30)
        second = pool.submit(ask)
        request.give_up()
        with pytest.raises(DeadlineError):
            second.result(30)
        go_on.set()
        assert first.result(30).source == "computed"


@pytest.mark.parametrize(
    "result",
    [
        Result({"v": float("nan")}),
        Result({"v": np.float32(1)}),
        Result({1: "number as a key"}),
        Result(arrays={"x": np.zeros(2, complex)}),
    ],
)
def test_a_result_that_no_message_carries_is_the_model_s_fault(cache, result):
    with pytest.raises(ModelError, match="result of m"):
        cache.get_or_compute(PROFILE, TASK, lambda _: result)


def test_one_result_for_each_task_is_asked(cache):
    with pytest.raises(ModelError, match="2 results"):
        cache.get_or_compute_many(PROFILE, [TASK, OTHER], lambda tasks: [answer(tasks[0])])


def test_statistics_say_what_there_is_and_how_old(cache, clock):
    cache.put(PROFILE, TASK, answer(TASK))
    clock.now += 50
    cache.put(PROFILE, OTHER, answer(OTHER))
    clock.now += 5
    assert cache.get_or_compute(PROFILE, TASK, never).age_s == 55
    stats = cache.stats()
    assert (stats.results, stats.oldest_age_s, stats.newest_age_s) == (2, 55, 5)
    assert (stats.hits, stats.misses, stats.damaged) == (1, 0, 0)
    assert 0 < stats.bytes < stats.limit_bytes


def test_a_promoted_adapter_s_results_go_and_others_stay(cache):
    other = dataclasses.replace(PROFILE, adapter_digest="f")
    base = dataclasses.replace(PROFILE, adapter=None, adapter_digest=None)
    for profile in (PROFILE, other, base):
        cache.put(profile, TASK, answer(TASK))
    assert cache.forget(adapter_digest="e") == 1
    assert cache.get(PROFILE, TASK) is None
    assert cache.get(other, TASK) is not None
    assert cache.forget(model_digest="d", adapter_digest="") == 1
    assert cache.get(base, TASK) is None
    assert cache.forget(model_digest="d") == 1


def test_what_is_forgotten_while_it_is_computed_is_not_stored(cache):
    def compute(task):
        cache.forget(adapter_digest="e")
        return answer(task)

    assert cache.get_or_compute(PROFILE, TASK, compute).source == "computed"
    assert cache.stats().results == 0
    assert cache.stats().unstored == 1


def test_forgetting_nothing_in_particular_is_refused(cache):
    with pytest.raises(InputError, match="digest"):
        cache.forget()


def test_where_the_store_fails_results_are_computed_all_the_same(cache, tmp_path, caplog):
    cache.put(PROFILE, OTHER, answer(OTHER))
    broken = sqlite3.connect(tmp_path / "results" / "results.sqlite")
    broken.execute("DROP TABLE result")
    broken.execute("DROP TABLE lease")
    broken.close()
    assert cache.get_or_compute(PROFILE, TASK, answer).result.values == {"length": 5}
    assert "computing without leases" in caplog.text
    with pytest.raises(StoreError):
        cache.get(PROFILE, TASK)
