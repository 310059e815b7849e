"""The policy explains what it chose and what it rejected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DeadlineError, RoutingError, SettingsError
from common.models.base import ModelProfile
from common.routing.latency import Latencies
from common.routing.policy import Demand, Policy, choose
from common.routing.preference import LearnedPreference
from common.task import Image, ImageRequest, Series, Table, Text, Volume


class Silent:
    def __init__(self, name: str, modality: str = "text", **facts: object) -> None:
        self.profile = ModelProfile(name=name, modality=modality, digest="0", **facts)

    def predict(self, tasks):
        raise AssertionError


class Counting(Silent):
    def count_tokens(self, texts):
        return [2 + len(text.split("-")) for text in texts]


def text(*texts: str, language: str = "en", remaining_s: float = float("inf")) -> Demand:
    return Demand("text", tuple(Text(t, language) for t in texts), remaining_s)


def names(candidates) -> list[str]:
    return [model.profile.name for model in candidates.models]


def test_models_of_the_modality_keep_their_order() -> None:
    first, second, other = Silent("a"), Silent("b"), Silent("c", "image")
    candidates = choose(text("x"), [first, other, second])
    assert candidates.models == (first, second)
    assert candidates.reason == "a is the first of 2 models that take text"
    assert candidates.rejected == ("c takes image, not text",)


def test_no_model_is_an_error_that_lists_the_rejected() -> None:
    with pytest.raises(RoutingError, match="c takes image, not text"):
        choose(text("x"), [Silent("c", "image")])
    with pytest.raises(RoutingError, match="no model for this part"):
        choose(text("x"), [])


@pytest.mark.parametrize(
    ("part", "shapes", "fault"),
    [
        (Image(np.zeros((8, 8))), ((None, None),), None),
        (Image(np.zeros((8, 8, 3))), ((None, None), (None, None, 3)), None),
        (Image(np.zeros((8, 8, 4))), ((None, None), (None, None, 3)), "not (8, 8, 4)"),
        (Image(np.zeros((8, 9))), ((8, 8),), "takes shape (8, 8), not (8, 9)"),
        (Volume(np.zeros((2, 3, 4))), ((None, 3, 4),), None),
        (Series(np.zeros((5, 2))), ((None,),), "takes shape (any), not (5, 2)"),
        (Table({"a": np.zeros(4), "b": np.zeros(4)}), ((None, 3),), "not (4, 2)"),
        (ImageRequest(64), ((64, 64),), None),
    ],
)
def test_one_of_the_shapes_has_to_fit(part, shapes, fault) -> None:
    model = Silent("m", part.modality, shapes=shapes)
    if fault is None:
        assert choose(Demand("part", (part,)), [model]).models == (model,)
    else:
        with pytest.raises(RoutingError) as caught:
            choose(Demand("part", (part,)), [model])
        assert fault in str(caught.value)


def test_the_shapes_of_all_tasks_count() -> None:
    pictures = (Image(np.zeros((8, 8))), Image(np.zeros((8, 9))))
    with pytest.raises(RoutingError, match=r"not \(8, 9\)"):
        choose(Demand("image", pictures), [Silent("m", "image", shapes=((8, 8),))])


def test_a_series_is_not_longer_than_the_model_takes() -> None:
    series = Demand("series", (Series(np.zeros(10)),))
    assert choose(series, [Silent("m", "series", max_length=10)]).rejected == ()
    with pytest.raises(RoutingError, match="takes 9 steps, not 10"):
        choose(series, [Silent("m", "series", max_length=9)])


def test_tokens_are_counted_by_the_model_where_the_characters_leave_doubt() -> None:
    counting = Counting("m", max_length=4)
    assert choose(text("aaaaaaaaa-bbbbbbbbb"), [counting]).models == (counting,)
    with pytest.raises(RoutingError, match="takes 4 tokens, not 5"):
        choose(text("a", "aaaaa-bbbbb-ccccc"), [counting])


def test_a_model_that_fails_to_count_gives_way_to_the_next() -> None:
    class Miscounting(Silent):
        def count_tokens(self, texts):
            raise ZeroDivisionError

    candidates = choose(text("aaaaa bbbbb"), [Miscounting("broken", max_length=4), Silent("m")])
    assert names(candidates) == ["m"]
    assert candidates.rejected == ("broken failed to count the tokens (ZeroDivisionError)",)


def test_a_text_with_more_words_than_tokens_is_surely_too_long() -> None:
    long, short = Silent("short", max_length=3), Silent("long", max_length=300)
    candidates = choose(text("one two three four"), [long, short])
    assert names(candidates) == ["long"]
    assert candidates.rejected == ("short takes 3 tokens, not 4",)


@pytest.mark.parametrize(
    ("language", "reads", "fits"),
    [
        ("en", ("en",), True),
        ("en-GB", ("en",), True),
        ("EN", ("en",), True),
        ("enx", ("en",), False),
        ("en", ("en-GB",), False),
        ("zh", ("en", "zh"), True),
        ("zh", (), True),
    ],
)
def test_languages_match_as_ranges(language, reads, fits) -> None:
    """RFC 4647, section 3.3.1."""
    models = [Silent("m", languages=reads), Silent("any")]
    assert (names(choose(text("x", language=language), models))[0] == "m") == fits


def test_bounds_of_the_policy_reject_with_figures() -> None:
    models = [
        Silent("dear", cost=9),
        Silent("poor", accuracy=0.5),
        Silent("dark"),
        Silent("good", accuracy=0.9),
    ]
    candidates = choose(text("x"), models, policy=Policy(max_cost=5, min_accuracy=0.8))
    assert names(candidates) == ["good"]
    assert candidates.rejected == (
        "dear costs 9, more than 5",
        "poor has accuracy 0.5, less than 0.8",
        "dark has accuracy unknown, less than 0.8",
    )


def test_the_cheapest_is_first_and_among_equals_the_most_accurate() -> None:
    models = [
        Silent("a", cost=2, accuracy=0.9),
        Silent("b", accuracy=0.7),
        Silent("c", accuracy=0.8),
        Silent("d"),
    ]
    candidates = choose(text("x"), models)
    assert names(candidates) == ["c", "b", "d", "a"]
    assert (
        candidates.reason == "c is the most accurate of 4 models that take text (0.8 against 0.7)"
    )
    cheap = choose(text("x"), models[:2])
    assert cheap.reason == "b is the cheapest of 2 models that take text (cost 1 against 2)"


def test_a_policy_may_put_accuracy_first() -> None:
    models = [Silent("a", cost=2, accuracy=0.9), Silent("b", accuracy=0.7)]
    candidates = choose(text("x"), models, policy=Policy(first="accuracy"))
    assert (
        candidates.reason == "a is the most accurate of 2 models that take text (0.9 against 0.7)"
    )


@pytest.mark.parametrize(
    "fault", [{"first": "speed"}, {"max_cost": float("nan")}, {"min_accuracy": float("nan")}]
)
def test_a_policy_that_cannot_be_followed_is_refused(fault) -> None:
    with pytest.raises(SettingsError, match="policy"):
        Policy(**fault)


def test_a_model_that_is_known_to_be_too_slow_is_rejected() -> None:
    slow, fast = Silent("slow", latency_ms=500), Silent("fast", latency_ms=5, cost=3)
    candidates = choose(text("x", remaining_s=0.1), [slow, fast])
    assert candidates.rejected == ("slow needs about 500 ms of the 100 ms left",)
    assert names(choose(text("x"), [slow, fast])) == ["slow", "fast"]


def test_what_was_measured_counts_more_than_what_the_profile_says() -> None:
    model, latencies = Silent("m", latency_ms=500), Latencies()
    for _ in range(3):
        latencies.record(model.profile, 1, 0.001)
    assert names(choose(text("x", remaining_s=0.1), [model], latencies=latencies)) == ["m"]


def test_no_model_in_time_is_a_matter_of_the_deadline() -> None:
    with pytest.raises(DeadlineError, match="needs about 500 ms"):
        choose(text("x", remaining_s=0.1), [Silent("m", latency_ms=500), Silent("i", "image")])


def test_what_was_learned_replaces_the_accuracy_and_says_so() -> None:
    models = [Silent("a", accuracy=0.5), Silent("b", accuracy=0.5)]
    preference = LearnedPreference(exploration=0)
    demand = text("x")
    for _ in range(20):
        preference.record(models[1].profile, demand.context, 1.0)
    candidates = choose(demand, models, preference=preference)
    assert names(candidates) == ["b", "a"]
    assert candidates.reason == (
        "b is the preferred of 2 models that take text: "
        "expected quality 0.99 from 20 outcomes against 0.50 from 0 of a"
    )
    preference.enabled = False
    assert names(choose(demand, models, preference=preference)) == ["a", "b"]


MODELS = st.lists(
    st.builds(
        dict,
        modality=st.sampled_from(["text", "image"]),
        cost=st.sampled_from([1.0, 2.0]),
        accuracy=st.sampled_from([None, 0.5, 0.9]),
        max_length=st.sampled_from([None, 1, 50]),
        languages=st.sampled_from([(), ("en",), ("zh",)]),
        latency_ms=st.sampled_from([None, 1.0, 1000.0]),
    ),
    max_size=6,
)


@given(MODELS, st.sampled_from(["en", "zh"]), st.sampled_from([0.1, float("inf")]))
def test_every_model_is_either_a_candidate_or_rejected_with_a_reason(
    facts, language, left_s
) -> None:
    models = [Silent(f"m{i}", **f) for i, f in enumerate(facts)]
    every = {model.profile.name for model in models}
    demand = text("two words", language=language, remaining_s=left_s)
    try:
        candidates = choose(demand, models)
    except (RoutingError, DeadlineError) as error:
        found = error.found
    else:
        found = "; ".join(candidates.rejected)
        assert names(candidates)[0] == candidates.reason.split()[0]
        costs = [model.profile.cost for model in candidates.models]
        assert costs == sorted(costs)
        every -= set(names(candidates))
    told = {sentence.partition(" ")[0] for sentence in found.split("; ")}
    assert told & {model.profile.name for model in models} == every
