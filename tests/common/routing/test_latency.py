"""What was measured lately tells how long a model will take; what is old is forgotten."""

from __future__ import annotations

import pytest

from common.models.base import ModelProfile
from common.routing.latency import Latencies
from tests.common.routing.small_models import Clock

PROFILE = ModelProfile(name="m", modality="text", digest="1", latency_ms=40)


def test_before_any_call_the_profile_counts():
    assert Latencies().expected_s(PROFILE, 1) == 0.04
    assert Latencies().expected_s(ModelProfile(name="m", modality="text", digest="1"), 1) is None


def test_the_mean_follows_the_times():
    latencies = Latencies(clock=Clock())
    for _ in range(40):
        latencies.record(PROFILE, 1, 0.1)
    assert latencies.expected_s(PROFILE, 1) == pytest.approx(0.1)
    for _ in range(40):
        latencies.record(PROFILE, 1, 0.2)
    assert latencies.expected_s(PROFILE, 1) == pytest.approx(0.2, rel=1e-3)


def test_a_batch_takes_no_less_than_a_smaller_one_and_tells_nothing_of_it():
    latencies = Latencies(clock=Clock())
    latencies.record(PROFILE, 16, 0.5)
    assert latencies.expected_s(PROFILE, 1) == 0.04
    assert latencies.expected_s(PROFILE, 100) == 0.5


def test_what_is_not_fed_is_forgotten_so_that_a_model_once_slow_gets_another_chance():
    clock = Clock()
    latencies = Latencies(clock=clock, forget_after_s=60)
    latencies.record(PROFILE, 1, 9.0)
    clock.now_s += 60
    assert latencies.expected_s(PROFILE, 1) == 9.0
    clock.now_s += 1
    assert latencies.expected_s(PROFILE, 1) == 0.04
    latencies.record(PROFILE, 1, 0.01)
    assert latencies.expected_s(PROFILE, 1) == 0.01


def test_another_version_of_a_model_is_another_model():
    latencies = Latencies()
    latencies.record(PROFILE, 1, 0.2)
    other = ModelProfile(name="m", modality="text", digest="1", adapter_digest="2")
    assert latencies.expected_s(other, 1) is None
