"""A preference is learned from outcomes by context, repeats itself, and survives a restart."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError, StoreError
from common.models.base import ModelProfile
from common.routing.preference import Context, LearnedPreference

A = ModelProfile(name="a", modality="text", digest="1")
B = ModelProfile(name="b", modality="text", digest="2")
SHORT = Context("text", 20, "en")
LONG = Context("text", 1_000_000, "en")
CHINESE = Context("text", 20, "zh")


def best(preference, context):
    return max((A, B), key=lambda profile: preference.estimate(profile, context).score).name


def test_a_model_without_outcomes_stands_where_its_own_test_put_it():
    known = ModelProfile(name="c", modality="text", digest="3", accuracy=0.8)
    preference = LearnedPreference(exploration=0)
    assert preference.estimate(known, SHORT).score == 0.8
    assert preference.estimate(A, SHORT).score == 0.5


def test_the_estimate_is_the_ridge_regression_of_the_outcomes():
    """Against the closed form of Li et al. 2010, algorithm 1, written out here."""
    preference = LearnedPreference(exploration=0.7)
    outcomes = [(SHORT, 1.0), (LONG, 0.25), (CHINESE, 0.5), (SHORT, 0.75)]
    for context, quality in outcomes:
        preference.record(A, context, quality)
    x = np.stack([context.features() for context, _ in outcomes])
    residual = np.array([quality for _, quality in outcomes]) - 0.5
    inverse = np.linalg.inv(np.eye(x.shape[1]) + x.T @ x)
    new = LONG.features()
    estimate = preference.estimate(A, LONG)
    assert estimate.expected == pytest.approx(0.5 + new @ inverse @ x.T @ residual)
    assert estimate.bonus == pytest.approx(0.7 * np.sqrt(new @ inverse @ new))
    assert estimate.outcomes == 4


def test_it_learns_which_model_is_good_at_what():
    preference = LearnedPreference(exploration=0)
    for _ in range(200):
        preference.record(A, SHORT, 1.0)
        preference.record(A, CHINESE, 0.1)
        preference.record(B, SHORT, 0.6)
        preference.record(B, CHINESE, 0.7)
    assert (best(preference, SHORT), best(preference, CHINESE)) == ("a", "b")


def test_what_is_little_known_is_tried_and_the_reason_says_so():
    preference = LearnedPreference(exploration=1.0)
    for _ in range(50):
        preference.record(A, SHORT, 0.6)
    mine, theirs = preference.estimate(B, SHORT), preference.estimate(A, SHORT)
    assert mine.score > theirs.score
    assert mine.against(theirs, "a") == (
        "expected quality 0.50 from 0 outcomes against 0.60 from 50 of a, "
        "tried because less is known of it here"
    )


def test_regret_falls_behind_a_constant_choice():
    """Two models, each good in one context: the learner finds both, as a fixed order cannot."""
    random, preference = np.random.default_rng(0), LearnedPreference(exploration=0.3)
    truth = {("a", SHORT): 0.9, ("a", CHINESE): 0.3, ("b", SHORT): 0.4, ("b", CHINESE): 0.8}
    earned = 0.0
    for _ in range(600):
        context = (SHORT, CHINESE)[random.integers(2)]
        name = best(preference, context)
        earned += truth[name, context]
        quality = float(random.random() < truth[name, context])
        preference.record({"a": A, "b": B}[name], context, quality)
    assert earned / 600 > 0.78  # the best constant choice earns .6, knowing all .85


def test_switched_off_it_does_not_learn():
    preference = LearnedPreference(enabled=False)
    preference.record(A, SHORT, 0.0)
    assert preference.estimate(A, SHORT).outcomes == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.sampled_from([SHORT, LONG, CHINESE]), st.floats(0, 1))
    )
)
def test_equal_outcomes_lead_to_equal_choices_and_bounded_expectations(outcomes):
    twins = LearnedPreference(), LearnedPreference()
    for profile, context, quality in outcomes:
        for twin in twins:
            twin.record(profile, context, quality)
    for profile in (A, B):
        for context in (SHORT, LONG, CHINESE):
            first, second = (twin.estimate(profile, context) for twin in twins)
            assert first == second
            assert 0 <= first.expected <= 1
            assert first.bonus >= 0


def test_what_was_learned_is_kept_in_a_file_for_its_owner(tmp_path):
    preference, again = LearnedPreference(), LearnedPreference()
    preference.record(A, SHORT, 0.3)
    preference.record(A, CHINESE, 0.9)
    preference.save(tmp_path / "preference.json")
    again.load(tmp_path / "preference.json")
    assert again.estimate(A, LONG) == preference.estimate(A, LONG)
    assert (tmp_path / "preference.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["preference.json"]


def _with_unknown_sums(state):
    models = {name: {**one, "sums": [math.nan] * 11} for name, one in state["models"].items()}
    return {**state, "models": models}


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda state: {**state, "format": 2}, "format 2"),
        (lambda state: {**state, "features": ["other"]}, "other features"),
        (lambda state: {"format": 1}, "KeyError"),
        (lambda state: [], "TypeError"),
        (_with_unknown_sums, "ValueError"),
        (lambda state: {**state, "models": {"a": {"count": 1}}}, "KeyError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_nothing_forgotten(tmp_path, spoil, found):
    preference = LearnedPreference()
    preference.record(A, SHORT, 0.3)
    path = tmp_path / "preference.json"
    preference.save(path)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(StoreError, match=found):
        preference.load(path)
    with pytest.raises(StoreError, match="FileNotFoundError"):
        preference.load(tmp_path / "absent.json")
    assert preference.estimate(A, SHORT).outcomes == 1


def test_unusable_arguments_are_refused():
    with pytest.raises(InputError, match="learn_from"):
        LearnedPreference(learn_from="gossip")
    with pytest.raises(InputError, match="quality"):
        LearnedPreference().record(A, SHORT, 1.5)
