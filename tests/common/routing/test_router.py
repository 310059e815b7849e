"""The router sends parts to models, falls back, caches and says why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError, ModelError, RoutingError, TaskError
from common.models.base import ModelProfile
from common.routing import ModelRouter
from common.routing.cache import ResultCache
from common.task import Result, Series, Task, Text


class WordCount:
    """A real, tiny model: counts words."""

    def __init__(self, name: str = "words", *, deterministic: bool = True) -> None:
        self.profile = ModelProfile(
            name=name, modality="text", digest="1", deterministic=deterministic
        )
        self.calls: list[int] = []

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self.calls.append(len(tasks))
        return [Result(values={"words": len(task.parts["text"].text.split())}) for task in tasks]


class Mean:
    profile = ModelProfile(name="mean", modality="series", digest="2")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        return [Result(values={"mean": float(t.parts["series"].values.mean())}) for t in tasks]


class Broken(WordCount):
    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        raise ZeroDivisionError


class Refusing(WordCount):
    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        raise TaskError("text", expected="a", found="b", remedy="C.")


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
