"""What was measured lately tells how long a model takes at least; what is old is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.models.base import ModelProfile
from common.routing.latency import Latencies
from tests.common.routing.small_models import Clock

PROFILE = ModelProfile(name="m", modality="text", digest="1", latency_ms=40)


def feed(latencies, *seconds, n_tasks=1):
    for each in seconds:
        latencies.record(PROFILE, n_tasks, each)


def test_before_any_call_the_profile_counts():
    assert Latencies().expected_s(PROFILE, 1) == 0.04
    assert Latencies().expected_s(ModelProfile(name="m", modality="text", digest="1"), 1) is None


def test_a_slow_first_call_is_no_reason_to_pass_a_model_over():
    latencies = Latencies(clock=Clock())
    feed(latencies, 9.0, 9.0)
    assert latencies.expected_s(PROFILE, 1) == 0.04
    feed(latencies, 0.1, 0.3)
    assert latencies.expected_s(PROFILE, 1) == 0.1


def test_only_the_newest_times_count():
    latencies = Latencies(clock=Clock())
    feed(latencies, 0.1, *[0.5] * 7)
    assert latencies.expected_s(PROFILE, 1) == 0.1
    feed(latencies, 0.5)
    assert latencies.expected_s(PROFILE, 1) == 0.5


def test_a_batch_takes_no_less_than_a_smaller_one_and_tells_nothing_of_it():
    latencies = Latencies(clock=Clock())
    feed(latencies, *[0.5] * 3, n_tasks=16)
    assert latencies.expected_s(PROFILE, 1) == 0.04
    assert latencies.expected_s(PROFILE, 100) == 0.5


def test_what_is_not_fed_is_forgotten_so_that_a_model_once_slow_gets_another_chance():
    clock = Clock()
    latencies = Latencies(clock=clock, forget_after_s=60)
    feed(latencies, 9.0, 9.0, 9.0)
    clock.now_s += 60
    assert latencies.expected_s(PROFILE, 1) == 9.0
    clock.now_s += 1
    assert latencies.expected_s(PROFILE, 1) == 0.04
    feed(latencies, 0.01, 0.02, 0.03)
    assert latencies.expected_s(PROFILE, 1) == 0.01


def test_another_version_of_a_model_is_another_model():
    latencies = Latencies()
    feed(latencies, 0.2, 0.2, 0.2)
    other = ModelProfile(name="m", modality="text", digest="1", adapter_digest="2")
    assert latencies.expected_s(other, 1) is None


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.001, 10)), max_size=40))
def test_what_is_expected_was_measured_and_grows_with_the_batch(calls):
    latencies, unknown = Latencies(clock=Clock()), ModelProfile("m", "text", "1")
    for n_tasks, seconds in calls:
        latencies.record(unknown, n_tasks, seconds)
    expected = [latencies.expected_s(unknown, n_tasks) for n_tasks in range(1, 64)]
    measured = [x for x in expected if x is not None]
    assert measured == sorted(measured)
    assert set(measured) <= {seconds for _, seconds in calls}


def test_a_call_that_was_cut_off_counts_as_twice_its_time():
    latencies = Latencies(clock=Clock())
    for _ in range(3):
        latencies.record(PROFILE, 1, 0.25, finished=False)
    assert latencies.expected_s(PROFILE, 1) == 0.5
    feed(latencies, 0.1)
    assert latencies.expected_s(PROFILE, 1) == 0.1
