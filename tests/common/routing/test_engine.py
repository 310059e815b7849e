"""The engine bounds its queue, keeps deadlines, lets models see the request, and drains."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, wait

import pytest

from common.errors import DeadlineError, OverloadError, SettingsError
from common.request import check_wanted, new_request
from common.routing.engine import Call, LocalEngine
from tests.common.routing.small_models import Asking, Failing, Held, WordCount, text_tasks

TASKS = text_tasks("a b", "c")


def call(model, *, request=None):
    return Call(model, TASKS, request or new_request(), "key")


def until(condition):
    """Waits for what another thread is about to do."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError


def test_a_call_gives_one_result_for_each_task_in_order():
    with LocalEngine() as engine:
        results = engine.submit(call(WordCount())).result()
    assert [result.values["words"] for result in results] == [2, 1]


def test_a_models_own_error_comes_through_the_future():
    with LocalEngine() as engine, pytest.raises(ZeroDivisionError):
        engine.submit(call(Failing("x", [ZeroDivisionError()]))).result()


def test_the_model_sees_the_request_it_works_for():
    model, request = Held(), new_request(trace_id="1" * 32)
    model.go.set()
    with LocalEngine() as engine:
        engine.submit(call(model, request=request)).result()
    assert model.traces == ["1" * 32]


def test_what_the_queue_has_no_room_for_is_refused_at_once_and_fits_again_later():
    model = Held()
    with LocalEngine(workers=1, queue=1) as engine:
        first = engine.submit(call(model))
        model.begun.acquire()
        second = engine.submit(call(model))
        assert (engine.load().running, engine.load().waiting) == (1, 1)
        with pytest.raises(OverloadError, match="1 calls waiting") as caught:
            engine.submit(call(model))
        assert caught.value.retry_after_s > 0
        model.go.set()
        assert len(first.result()) == len(second.result()) == 2
        assert len(engine.submit(call(model)).result()) == 2


def test_retry_after_follows_the_measured_service_time():
    model = Held()
    with LocalEngine(workers=1, queue=0) as engine:
        engine.submit(call(Asking("slow", lambda: time.sleep(0.05)))).result()
        service_s = engine.load().service_s
        assert service_s >= 0.05
        held = engine.submit(call(model))
        with pytest.raises(OverloadError) as caught:
            engine.submit(call(model))
        assert caught.value.retry_after_s == pytest.approx(service_s)
        model.go.set()
        held.result()


def test_a_call_whose_deadline_passes_in_the_queue_is_never_started():
    model, late = Held(), WordCount("late")
    with LocalEngine(workers=1) as engine:
        first = engine.submit(call(model))
        model.begun.acquire()
        waiting = engine.submit(call(late, request=new_request(timeout_s=0.02)))
        with pytest.raises(DeadlineError, match="has passed"):
            waiting.result(timeout=30)
        model.go.set()
        first.result()
    assert late.calls == []


def test_the_future_of_a_running_call_fails_at_its_deadline():
    model = Held()
    with LocalEngine(workers=1) as engine:
        future = engine.submit(call(model, request=new_request(timeout_s=0.02)))
        model.begun.acquire()
        with pytest.raises(DeadlineError):
            future.result(timeout=30)
        model.go.set()
        assert len(engine.submit(call(WordCount())).result()) == 2  # the thread goes on


def test_an_earlier_deadline_is_kept_though_a_later_one_was_there_first():
    model = Held()
    with LocalEngine(workers=1) as engine:
        long = engine.submit(call(model, request=new_request(timeout_s=300)))
        short = engine.submit(call(model, request=new_request(timeout_s=0.02)))
        with pytest.raises(DeadlineError):
            short.result(timeout=30)
        model.go.set()
        assert len(long.result()) == 2


def test_a_call_given_up_in_the_queue_is_never_started():
    model, unwanted, request = Held(), WordCount(), new_request()
    with LocalEngine(workers=1) as engine:
        engine.submit(call(model))
        model.begun.acquire()
        waiting = engine.submit(call(unwanted, request=request))
        request.give_up()
        model.go.set()
        with pytest.raises(DeadlineError, match="gave up"):
            waiting.result(timeout=30)
    assert unwanted.calls == []


def test_a_running_model_sees_that_the_caller_gave_up():
    request = new_request()
    begun, given_up = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert given_up.wait(30)
        check_wanted()

    with LocalEngine() as engine:
        future = engine.submit(call(Asking("batches", work), request=request))
        begun.wait(30)
        request.give_up()
        given_up.set()
        with pytest.raises(DeadlineError, match="gave up"):
            future.result(timeout=30)


def test_a_cancelled_future_is_never_started_and_wakes_who_waits_for_it():
    model, unwanted = Held(), WordCount()
    with LocalEngine(workers=1) as engine:
        engine.submit(call(model))
        model.begun.acquire()
        waiting = engine.submit(call(unwanted))
        assert waiting.cancel()
        model.go.set()
        assert wait([waiting], timeout=30).done
        with pytest.raises(CancelledError):
            waiting.result()
    assert unwanted.calls == []


def test_a_call_without_a_deadline_runs_on_the_callers_thread_within_the_same_bounds():
    held, seen = Held(), []
    with LocalEngine(workers=1, queue=1) as engine:
        engine.run(call(Asking("here", lambda: seen.append(threading.current_thread()))))
        assert seen == [threading.current_thread()]
        one = threading.Thread(target=engine.run, args=(call(held),))
        one.start()
        held.begun.acquire()
        waiting = engine.submit(call(WordCount()))
        assert (engine.load().running, engine.load().waiting) == (1, 1)
        with pytest.raises(OverloadError):
            engine.run(call(WordCount()))
        assert not waiting.done(), "no more than one runs at a time"
        held.go.set()
        assert len(waiting.result(timeout=30)) == 2
        one.join()
        assert (engine.load().running, engine.load().waiting) == (0, 0)


def test_a_call_with_a_deadline_is_waited_for_until_then_only():
    held = Held()
    with LocalEngine() as engine:
        with pytest.raises(DeadlineError):
            engine.run(call(held, request=new_request(timeout_s=0.02)))
        held.go.set()
        with pytest.raises(ZeroDivisionError):
            engine.run(call(Failing("x", [ZeroDivisionError()])))
        until(lambda: engine.load().running == 0)


def test_a_call_on_the_callers_thread_is_drained_too():
    held = Held()
    engine = LocalEngine(workers=2)
    running = threading.Thread(target=engine.run, args=(call(held),))
    running.start()
    held.begun.acquire()
    closing = threading.Thread(target=engine.close)
    closing.start()
    until(lambda: engine._closing)
    assert closing.is_alive()
    held.go.set()
    closing.join(30)
    running.join(30)
    assert held.calls == [2]


def test_closing_drains_what_was_taken_and_takes_no_more():
    model = Held()
    engine = LocalEngine(workers=1)
    taken = [engine.submit(call(model)) for _ in range(3)]
    model.begun.acquire()
    closing = threading.Thread(target=engine.close)
    closing.start()
    until(lambda: engine._closing)
    with pytest.raises(OverloadError, match="closing"):
        engine.submit(call(model))
    model.go.set()
    closing.join(30)
    assert [len(future.result(timeout=0)) for future in taken] == [2, 2, 2]


def test_no_thread_of_a_closed_engine_is_left():
    before = set(threading.enumerate())
    with LocalEngine() as engine:
        engine.submit(call(WordCount(), request=new_request(timeout_s=60))).result()
    assert set(threading.enumerate()) <= before


def test_many_threads_lose_no_call():
    model, n = WordCount(), 400
    counts: list[int] = []

    def ask():
        counts.extend(len(engine.submit(call(model)).result(timeout=30)) for _ in range(n // 8))

    with LocalEngine(workers=3) as engine:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (engine.load().running, engine.load().waiting) == (0, 0)
    assert counts == [2] * n


def test_a_late_call_tells_how_long_the_model_had_worked_and_one_that_waited_that_it_had_not():
    model = Held()
    begun = call(model, request=new_request(timeout_s=0.1))
    waiting = call(model, request=new_request(timeout_s=0.02))
    with LocalEngine(workers=1) as engine:
        futures = [engine.submit(begun)]
        model.begun.acquire()
        futures.append(engine.submit(waiting))
        for future in futures:
            with pytest.raises(DeadlineError):
                future.result(30)
        assert (waiting.work.seconds, begun.work.seconds > 0) == (0, True)
        model.go.set()


def test_the_time_of_a_call_is_the_models_own():
    """Five calls wait for each other; none of them says that its model worked as long as all."""
    calls = [call(Asking("nap", lambda: time.sleep(0.02))) for _ in range(5)]
    with LocalEngine(workers=1) as engine:
        begun_s = time.monotonic()
        for future in [engine.submit(one) for one in calls]:
            future.result(30)
        took_s = time.monotonic() - begun_s
    assert all(one.work.seconds >= 0.02 for one in calls)
    assert sum(one.work.seconds for one in calls) <= took_s


@pytest.mark.parametrize("fault", [{"workers": 0}, {"queue": -1}])
def test_an_engine_that_could_run_nothing_is_refused(fault):
    with pytest.raises(SettingsError, match="engine"):
        LocalEngine(**fault)
