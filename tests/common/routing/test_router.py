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
from common.routing.policy import Policy
from common.routing.preference import LearnedPreference
from common.task import Image, Result, Series, Task, Text
from tests.common.routing.small_models import Asking, Failing, Held, WordCount


class Mean:
    profile = ModelProfile(name="mean", modality="series", digest="2")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"mean": float(t.parts["series"].values.mean())}) for t in tasks]


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


def test_a_model_known_to_be_too_slow_is_passed_over_in_favour_of_one_in_time() -> None:
    slow, fast = WordCount("slow", latency_ms=60_000), WordCount("fast", cost=5)
    with ModelRouter(models={"text": [slow, fast]}) as router:
        answer = router.execute(ASKED, request=new_request(timeout_s=20))["text"]
    assert answer.provenance.model == "fast"
    assert answer.rejected[0].startswith("slow needs about 6e+04 ms of the ")


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
