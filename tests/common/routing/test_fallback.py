"""A model that fails gives way to the next; health, budget, deadline and cache are heeded."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import (
    DeadlineError,
    InputError,
    ModelError,
    OverloadError,
    TaskError,
)
from common.request import current_request, new_request
from common.routing import ModelRouter
from common.routing.batching import BatchingEngine
from common.routing.cache import ResultCache
from common.routing.engine import Call, LocalEngine
from common.routing.health import Health, HealthRules
from common.routing.preference import LearnedPreference
from common.task import Result, Task
from tests.common.routing.small_models import Clock, Failing, Held, WordCount, text_tasks


class Broken(WordCount):
    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self.calls.append(len(tasks))
        raise ZeroDivisionError


class Refusing(WordCount):
    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        raise TaskError("text", expected="a", found="b", remedy="C.")


def lost(n: int) -> list[Exception]:
    """Errors of a worker that was lost: another try may mend them."""
    return [ModelError("worker", expected="a", found="b", remedy="C.") for _ in range(n)]


ASKED = {"type": "text", "text_prompt": "a b"}


@pytest.fixture
def cache(tmp_path: Path):
    cache = ResultCache(tmp_path / "results")
    yield cache
    cache.close()


def test_a_failing_model_is_followed_by_the_next_with_the_reason() -> None:
    router = ModelRouter(models={"text": [Broken("broken"), WordCount()]})
    answer = router.execute({"type": "text", "text_prompt": "a b"})["text"]
    assert answer.result.values == {"words": 2}
    assert answer.reason == "words answered after broken failed (ZeroDivisionError)"


def test_when_all_fail_the_error_names_all_and_keeps_the_cause() -> None:
    router = ModelRouter(models={"text": [Broken("x"), Broken("y")]})
    with pytest.raises(ModelError, match=r"x failed.*y failed") as caught:
        router.execute({"text_prompt": "a"})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_unusable_input_is_the_callers_fault_and_no_reason_to_fall_back() -> None:
    fallback = WordCount()
    router = ModelRouter(models={"text": [Refusing("refusing"), fallback]})
    with pytest.raises(InputError):
        router.execute({"text_prompt": "a"})
    assert fallback.calls == []


def test_the_second_time_the_cache_answers(cache: ResultCache) -> None:
    model = WordCount()
    router = ModelRouter(models={"text": model}, cache=cache)
    first = router.execute({"text_prompt": "a b"})["text"]
    second = router.execute({"text_prompt": "a b"})["text"]
    assert (first.cached, second.cached) == (False, True)
    assert first.result.values == second.result.values
    assert model.calls == [1]


def test_only_misses_reach_the_model_and_in_one_call(cache: ResultCache) -> None:
    model = WordCount()
    router = ModelRouter(models={"text": model}, cache=cache)
    router.execute({"text_prompt": "one"})
    answers = router.execute_many([{"text_prompt": t} for t in ("two words", "one", "now three w")])
    assert [a["text"].result.values["words"] for a in answers] == [2, 1, 3]
    assert [a["text"].cached for a in answers] == [False, True, False]
    assert model.calls == [1, 2]


def test_a_model_that_varies_is_never_cached(cache: ResultCache) -> None:
    model = WordCount(deterministic=False)
    router = ModelRouter(models={"text": model}, cache=cache)
    for _ in range(2):
        assert not router.execute({"text_prompt": "a"})["text"].cached
    assert model.calls == [1, 1]


def test_a_deadline_is_no_reason_to_fall_back_nor_to_blame_the_model() -> None:
    slow, fallback = Held(), WordCount()
    with ModelRouter(models={"text": [slow, fallback]}) as router:
        for _ in range(2):
            with pytest.raises(DeadlineError):
                router.execute(ASKED, request=new_request(timeout_s=0.01))
        assert router.health.report(slow.profile.identity).failures == 0
        slow.go.set()
    assert fallback.calls == []


def test_a_model_that_is_always_cut_off_is_passed_over_once_that_is_known() -> None:
    held, fallback = Held(), WordCount()
    with ModelRouter(models={"text": [held, fallback]}) as router:
        for _ in range(3):
            with pytest.raises(DeadlineError):
                router.execute(ASKED, request=new_request(timeout_s=0.05))
        answer = router.execute(ASKED, request=new_request(timeout_s=0.05))["text"]
        held.go.set()
    assert answer.profile.name == "words"
    assert "held needs about" in answer.rejected[0]


def test_waiting_for_others_is_not_held_against_a_model() -> None:
    """Calls queue for as long as it takes; then a short deadline is no trouble at all."""
    held = Held()
    with LocalEngine(workers=1) as engine:
        router = ModelRouter(models={"text": held}, engine=engine)
        threads = [threading.Thread(target=router.execute, args=(ASKED,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        held.begun.acquire()
        while engine.load().waiting < len(threads) - 1:
            time.sleep(0.001)
        time.sleep(0.5)
        held.go.set()
        for thread in threads:
            thread.join()
        expected_s = router.latencies.expected_s(held.profile, 1)
    assert expected_s is not None
    assert expected_s < 0.5


def test_a_model_that_hangs_is_to_blame_when_it_had_its_time() -> None:
    slow = Held()
    health = Health(HealthRules(failures=1, hung_after_s=0.01))
    with ModelRouter(models={"text": slow}, health=health) as router:
        with pytest.raises(DeadlineError):
            router.execute(ASKED, request=new_request(timeout_s=0.05))
        assert router.health.report(slow.profile.identity).state == "open"
        slow.go.set()


def test_a_model_that_never_began_is_not_to_blame_for_a_long_queue() -> None:
    held, waiting = Held(), WordCount("waiting")
    health = Health(HealthRules(failures=1, hung_after_s=0.01))
    with LocalEngine(workers=1) as inner, BatchingEngine(inner) as batching:
        first = inner.submit(Call(held, text_tasks("a"), new_request(), "key"))
        held.begun.acquire()
        for engine in (inner, batching):
            router = ModelRouter(models={"text": waiting}, engine=engine, health=health)
            # a batch counts as begun when the engine behind has it: so its lane is kept busy
            kept = engine.submit(Call(waiting, text_tasks("a"), new_request(), "kept"))
            with pytest.raises(DeadlineError):
                router.execute(ASKED, request=new_request(timeout_s=0.05))
            assert health.report(waiting.profile.identity).failures == 0
        held.go.set()
        first.result(30)
        kept.result(30)


def test_a_full_queue_is_told_to_the_caller_at_once() -> None:
    held, fallback = Held(), WordCount()
    with LocalEngine(workers=1, queue=0) as engine:
        router = ModelRouter(models={"text": [held, fallback]}, engine=engine)
        first = threading.Thread(target=router.execute, args=(ASKED,))
        first.start()
        held.begun.acquire()
        with pytest.raises(OverloadError, match="engine"):
            router.execute(ASKED)
        held.go.set()
        first.join()
        assert router.health.report(held.profile.identity).failures == 0
    assert fallback.calls == []


def test_a_failure_that_may_mend_is_tried_again_and_the_reason_says_so() -> None:
    model = Failing("flaky", lost(2))
    with ModelRouter(models={"text": model}) as router:
        answer = router.execute(ASKED)["text"]
    expected = "flaky answered after flaky failed (ModelError), flaky failed (ModelError)"
    assert answer.reason == expected
    assert model.calls == [1, 1, 1]


def test_every_attempt_of_a_call_has_the_same_idempotency_key() -> None:
    keys: list[str] = []

    class Noting(Failing):
        def predict(self, tasks: Sequence[Task]) -> list[Result]:
            keys.append(current_request().idempotency_key)
            return super().predict(tasks)

    with ModelRouter(models={"text": Noting("flaky", lost(2))}) as router:
        router.execute(ASKED)
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_attempts_of_one_call_are_few() -> None:
    model, fallback = Failing("lost", lost(9)), WordCount()
    with ModelRouter(models={"text": [model, fallback]}) as router:
        assert router.execute(ASKED)["text"].provenance.model == "words"
    assert model.calls == [1, 1, 1]


def test_retries_end_with_the_budget() -> None:
    model = Failing("lost", lost(100))
    health = Health(HealthRules(failures=1000, retry_share=0.1, retry_reserve=3))
    with ModelRouter(models={"text": model}, health=health) as router:
        for _ in range(40):
            with pytest.raises(ModelError):
                router.execute(ASKED)
    assert len(model.calls) == 40 + 3 + 4 - 1  # reserve, and a tenth of 40 less what was full


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), TaskError("t", expected="a", found="b", remedy="C.")]
)
def test_a_failure_that_another_try_cannot_mend_is_not_tried_again(error: Exception) -> None:
    model = Failing("once", [error])
    with ModelRouter(models={"text": model}) as router, pytest.raises((ModelError, TaskError)):
        router.execute(ASKED)
    assert model.calls == [1]


def test_a_model_that_keeps_failing_is_left_alone_probed_and_taken_back() -> None:
    clock = Clock()
    broken, words = Failing("broken", [ZeroDivisionError() for _ in range(4)]), WordCount()
    health = Health(HealthRules(failures=3, cooldown_s=5), clock=clock)
    with ModelRouter(models={"text": [broken, words]}, health=health) as router:

        def reason() -> str:
            return router.execute(ASKED)["text"].reason

        after = "words answered after broken failed (ZeroDivisionError)"
        assert [reason() for _ in range(3)] == [after] * 3
        assert reason() == "words answered after broken was left alone (cools down for 5.0 s more)"
        assert broken.calls == [1, 1, 1]
        clock.now_s += 5
        assert reason() == after  # the probe fails
        clock.now_s += 5
        assert "cools down for 5.0 s more" in reason()
        clock.now_s += 5
        assert reason() == "broken is the first of 2 models that take text"  # the probe succeeds
        assert router.health.report(broken.profile.identity).state == "closed"


def test_failures_of_a_fallback_count_against_it() -> None:
    """BerriAI/litellm#32574: only the first failure of a request was recorded."""
    first, second = Broken("first"), Broken("second")
    with ModelRouter(models={"text": [first, second]}) as router:
        for _ in range(5):
            with pytest.raises(ModelError):
                router.execute(ASKED)
        states = [router.health.report(m.profile.identity).state for m in (first, second)]
        assert states == ["open", "open"]
        with pytest.raises(OverloadError, match=r"first was left alone.*second") as caught:
            router.execute(ASKED)
        assert 0 < caught.value.retry_after_s <= 5


def test_of_many_callers_exactly_one_probes_a_model_that_failed() -> None:
    clock, held, words = Clock(), Held(), WordCount()
    health = Health(HealthRules(failures=1, cooldown_s=5), clock=clock)
    with ModelRouter(models={"text": [held, words]}, health=health) as router:
        with health.admit(held.profile.identity) as admission:
            admission.verdict = False
        clock.now_s += 5
        probe = threading.Thread(target=router.execute, args=(ASKED,))
        probe.start()
        held.begun.acquire()
        others = [router.execute(ASKED)["text"] for _ in range(10)]
        assert {other.provenance.model for other in others} == {"words"}
        assert "held was left alone (is being probed)" in others[0].reason
        held.go.set()
        probe.join()
        assert held.calls == [1]
        assert health.report(held.profile.identity).state == "closed"


def test_a_probe_whose_input_is_unusable_leaves_room_for_the_next() -> None:
    clock, refusing = Clock(), Refusing("refusing")
    health = Health(HealthRules(failures=1, cooldown_s=5), clock=clock)
    with ModelRouter(models={"text": refusing}, health=health) as router:
        with health.admit(refusing.profile.identity) as admission:
            admission.verdict = False
        clock.now_s += 5
        for _ in range(2):
            with pytest.raises(TaskError):
                router.execute(ASKED)


def test_a_probe_that_the_engine_refuses_leaves_room_for_the_next() -> None:
    clock, held, model = Clock(), Held(), Failing("m", [ZeroDivisionError()])
    health = Health(HealthRules(failures=1, cooldown_s=5), clock=clock)
    with LocalEngine(workers=1, queue=0) as engine:
        router = ModelRouter(models={"text": model}, engine=engine, health=health)
        with pytest.raises(ModelError):
            router.execute(ASKED)
        clock.now_s += 5
        first = engine.submit(Call(held, text_tasks("a"), new_request(), "key"))
        held.begun.acquire()
        with pytest.raises(OverloadError, match="engine"):
            router.execute(ASKED)
        held.go.set()
        first.result(30)
        assert router.execute(ASKED)["text"].result.values == {"words": 2}
        assert health.report(model.profile.identity).state == "closed"


def test_stored_results_are_given_though_the_model_is_left_alone(cache: ResultCache) -> None:
    model = WordCount()
    health = Health(HealthRules(failures=1))
    with ModelRouter(models={"text": model}, cache=cache, health=health) as router:
        router.execute(ASKED)
        with health.admit(model.profile.identity) as admission:
            admission.verdict = False
        assert router.execute(ASKED)["text"].cached
        with pytest.raises(OverloadError):
            router.execute({"text_prompt": "new"})


def test_many_callers_who_want_the_same_wait_for_one_computation(cache: ResultCache) -> None:
    model, answers = Held(), []
    with ModelRouter(models={"text": model}, cache=cache) as router:
        threads = [
            threading.Thread(target=lambda: answers.append(router.execute(ASKED)["text"]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        model.begun.acquire()
        model.go.set()
        for thread in threads:
            thread.join()
    assert model.calls == [1]
    assert [answer.result.values["words"] for answer in answers] == [2] * 8
    assert sum(not answer.cached for answer in answers) == 1


def test_the_wrong_number_of_results_is_a_failure_of_the_model() -> None:
    class Short(WordCount):
        def predict(self, tasks: Sequence[Task]) -> list[Result]:
            return super().predict(tasks)[1:]

    with (
        ModelRouter(models={"text": Short("short")}) as router,
        pytest.raises(ModelError) as caught,
    ):
        router.execute(ASKED)
    assert "a list of 1 results" in str(caught.value.__cause__)


def test_many_threads_with_a_flaky_model_all_get_an_answer_and_every_call_is_counted() -> None:
    class Flaky(WordCount):
        def predict(self, tasks: Sequence[Task]) -> list[Result]:
            if len(tasks[0].parts["text"].text) % 3 == 0:
                raise ZeroDivisionError
            return super().predict(tasks)

    flaky, words = Flaky("flaky"), WordCount()
    health = Health(HealthRules(failures=20, cooldown_s=0.001, longest_cooldown_s=0.001))
    answered: list[str] = []
    models = {"text": [flaky, words]}
    preference = LearnedPreference(exploration=0.5)
    with ModelRouter(models, health=health, preference=preference) as router:

        def ask(first: int) -> None:
            for length in range(first, first + 50):
                task = {"type": "text", "text_prompt": "a" * (1 + length % 40)}
                timeout_s = 60 if length % 2 else None
                answer = router.execute(task, request=new_request(timeout_s=timeout_s))["text"]
                answered.append(answer.profile.name)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert router.engine.load().running == 0
    assert len(answered) == 600
    assert len(flaky.calls) + len(words.calls) == 600
