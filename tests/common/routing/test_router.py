"""The router sends parts to models, falls back, caches and says why."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.errors import (
    DeadlineError,
    InputError,
    ModelError,
    OverloadError,
    RoutingError,
    TaskError,
)
from common.models.base import ModelProfile
from common.request import current_request, new_request, serving
from common.routing import ModelRouter
from common.routing.cache import ResultCache
from common.routing.engine import LocalEngine
from common.routing.health import Health, HealthRules
from common.routing.policy import Policy
from common.routing.preference import LearnedPreference
from common.task import Image, Result, Series, Task, Text
from tests.common.routing.small_models import Asking, Clock, Failing, Held, WordCount


class Mean:
    profile = ModelProfile(name="mean", modality="series", digest="2")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"mean": float(t.parts["series"].values.mean())}) for t in tasks]


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


def test_each_part_goes_to_its_model_and_the_answers_are_joined() -> None:
    router = ModelRouter(models={"text": WordCount(), "series": Mean()})
    answers = router.execute(Task({"text": Text("a b c"), "series": Series(np.array([1.0, 3.0]))}))
    assert sorted(answers) == ["series", "text"]
    assert answers["text"].result.values == {"words": 3}
    assert answers["series"].result.values == {"mean": 2.0}
    assert answers["text"].provenance.model == "words"
    assert "only model that takes text" in answers["text"].reason


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


def test_a_part_without_a_model_is_an_error() -> None:
    with pytest.raises(RoutingError, match="series"):
        ModelRouter(models={"text": WordCount()}).execute({"series": [1.0]})


def test_a_router_without_models_cannot_be_made() -> None:
    with pytest.raises(RoutingError):
        ModelRouter(models={})


def test_tasks_of_one_call_have_the_same_part_names() -> None:
    router = ModelRouter(models={"text": WordCount(), "series": Mean()})
    with pytest.raises(TaskError, match="part names"):
        router.execute_many([{"text_prompt": "a"}, {"series": [1.0]}])
    assert router.execute_many([]) == []


def test_a_part_on_its_own_keeps_its_digest_and_several_have_their_own() -> None:
    with ModelRouter(models={"text": WordCount(), "series": Mean()}) as router:
        alone = Task({"text": Text("a")})
        routed = router.execute(alone)
        assert routed["text"].provenance.input_digest == routed.input_digest == alone.digest()
        both = router.execute(Task({**alone.parts, "series": Series(np.ones(2))}))
        assert both["text"].provenance.input_digest == alone.digest() != both.input_digest


def test_parts_are_answered_side_by_side() -> None:
    """Each of the two models waits for the other; one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)
    left, right = Asking("left", both.wait), Mean()
    right_predict = right.predict
    right.predict = lambda tasks: both.wait() * 0 or right_predict(tasks)  # type: ignore[method-assign]
    with ModelRouter(models={"text": left, "series": right}) as router:
        assert len(router.execute({"text_prompt": "a", "series": [1.0]})) == 2


def test_a_failing_part_gives_up_the_others_and_nothing_is_returned() -> None:
    waits, ended = threading.Event(), threading.Event()

    def until_given_up() -> None:
        waits.set()
        current_request().given_up.wait(30)
        ended.set()

    class Late(Mean):
        def predict(self, tasks: Sequence[Task]) -> list[Result]:
            waits.wait(30)
            raise ZeroDivisionError

    with ModelRouter(models={"text": Asking("slow", until_given_up), "series": Late()}) as router:
        with pytest.raises(ModelError, match="mean failed"):
            router.execute({"text_prompt": "a", "series": [1.0]})
        assert ended.wait(30)


def test_the_request_may_be_passed_or_be_the_current_one() -> None:
    model = Held()
    model.go.set()
    with ModelRouter(models={"text": model}) as router:
        router.execute(ASKED, request=new_request(trace_id="1" * 32))
        with serving(new_request(trace_id="2" * 32)):
            router.execute(ASKED)
    assert model.traces == ["1" * 32, "2" * 32]


def test_the_model_sees_the_idempotency_key_of_its_call_equal_for_every_repeat() -> None:
    keys: list[str] = []
    model = Asking("words", lambda: keys.append(current_request().idempotency_key))
    with ModelRouter(models={"text": model}) as router:
        for key in ("order-7", "order-7", None, None):
            router.execute(ASKED, idempotency_key=key)
    assert keys[0] == keys[1] == "order-7/text/words"
    assert len(set(keys)) == 3


def test_an_expired_deadline_ends_before_any_model_is_asked() -> None:
    model, request = WordCount(), new_request()
    request.give_up()
    with ModelRouter(models={"text": model}) as router, pytest.raises(DeadlineError):
        router.execute(ASKED, request=request)
    assert model.calls == []


def test_a_deadline_is_no_reason_to_fall_back_nor_to_blame_the_model() -> None:
    slow, fallback = Held(), WordCount()
    with ModelRouter(models={"text": [slow, fallback]}) as router:
        for _ in range(6):
            with pytest.raises(DeadlineError):
                router.execute(ASKED, request=new_request(timeout_s=0.01))
        assert router.health.report(slow.profile.identity).state == "closed"
        slow.go.set()
    assert fallback.calls == []


def test_a_model_that_hangs_is_to_blame_when_it_had_its_time() -> None:
    slow = Held()
    health = Health(HealthRules(failures=1, hung_after_s=0.01))
    with ModelRouter(models={"text": slow}, health=health) as router:
        with pytest.raises(DeadlineError):
            router.execute(ASKED, request=new_request(timeout_s=0.05))
        assert router.health.report(slow.profile.identity).state == "open"
        slow.go.set()


def test_a_model_known_to_be_too_slow_is_passed_over_in_favour_of_one_in_time() -> None:
    slow, fast = WordCount("slow", latency_ms=60_000), WordCount("fast", cost=5)
    with ModelRouter(models={"text": [slow, fast]}) as router:
        answer = router.execute(ASKED, request=new_request(timeout_s=20))["text"]
    assert answer.provenance.model == "fast"
    assert answer.rejected[0].startswith("slow needs about 6e+04 ms of the ")


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


def test_a_plan_is_explained_without_asking_a_model() -> None:
    dear, cheap, short = WordCount("dear", cost=3), WordCount("cheap"), WordCount("s", max_length=1)
    with ModelRouter(models={"text": [dear, cheap, short]}) as router:
        plan = router.explain({"text_prompt": "one two three"})["text"]
    assert [model.profile.name for model in plan.models] == ["cheap", "dear"]
    assert plan.reason == "cheap is the cheapest of 2 models that take text (cost 1 against 3)"
    assert plan.rejected == ("s takes 1 tokens, not 3",)
    assert dear.calls == cheap.calls == []


def test_the_policy_of_the_router_holds() -> None:
    models = [WordCount("poor", accuracy=0.6), WordCount("good", accuracy=0.9, cost=2)]
    with ModelRouter(models={"text": models}, policy=Policy(min_accuracy=0.8)) as router:
        answer = router.execute(ASKED)["text"]
    assert answer.provenance.model == "good"
    assert answer.rejected == ("poor has accuracy 0.6, less than 0.8",)


def test_outcomes_teach_which_model_to_prefer() -> None:
    flaky = Failing("flaky", [ZeroDivisionError() for _ in range(3)])
    preference = LearnedPreference(exploration=0.1)
    with ModelRouter(models={"text": [flaky, WordCount()]}, preference=preference) as router:
        reasons = [router.execute(ASKED)["text"].reason for _ in range(3)]
        assert reasons[0] == "words answered after flaky failed (ZeroDivisionError)"
        assert reasons[1].startswith("words is the preferred of 2 models that take text: expected")
        preference.enabled = False
        assert "flaky failed" in router.execute(ASKED)["text"].reason


def test_judgements_teach_what_success_alone_does_not() -> None:
    fluent, right = WordCount("fluent"), WordCount("right")
    preference = LearnedPreference(exploration=0.1, learn_from="judgements")
    with ModelRouter(models={"text": [fluent, right]}, preference=preference) as router:
        for _ in range(12):
            answer = router.execute(ASKED)["text"]
            router.judge(answer, 1.0 if answer.provenance.model == "right" else 0.2)
        assert router.execute(ASKED)["text"].provenance.model == "right"
        with pytest.raises(InputError, match="quality"):
            router.judge(answer, 7)


def test_closing_a_router_ends_its_own_engine_and_leaves_one_that_was_given() -> None:
    with LocalEngine() as engine:
        given = ModelRouter(models={"text": WordCount()}, engine=engine)
        given.close()
        assert given.execute(ASKED)["text"].result.values == {"words": 2}
    own = ModelRouter(models={"text": WordCount()})
    own.close()
    with pytest.raises(OverloadError, match="closing"):
        own.execute(ASKED)


def test_the_language_and_the_shape_of_a_part_choose_the_model() -> None:
    english, chinese = WordCount("en", languages=("en",)), WordCount("zh", languages=("zh",))
    with ModelRouter(models={"text": [english, chinese], "image": WordCount("x")}) as router:
        answer = router.execute(Task({"text": Text("字", "zh")}))["text"]
        assert answer.provenance.model == "zh"
        assert answer.rejected == ("en reads en, not zh",)
        with pytest.raises(RoutingError, match="x takes text, not image"):
            router.execute(Task({"image": Image(np.zeros((2, 2)))}))


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
