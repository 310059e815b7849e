"""Circuits open on failures, let exactly one probe pass, and retries stay a share of requests."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SettingsError
from common.routing.health import Health, HealthRules
from tests.common.routing.small_models import Clock

RULES = HealthRules(failures=3, cooldown_s=5, longest_cooldown_s=20, window_s=60)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(RULES, clock=clock)


def end(health, *verdicts, model="m"):
    """Makes one call for each verdict."""
    for verdict in verdicts:
        with health.admit(model) as admission:
            admission.verdict = verdict


def test_a_model_is_left_alone_after_enough_failures_and_others_are_not(health):
    end(health, False, False)
    assert health.report("m").state == "closed"
    end(health, False)
    assert health.report("m").state == "open"
    assert health.admit("m") is None
    assert health.why_not("m") == ("cools down for 5.0 s more", 5.0)
    assert health.admit("other") is not None


def test_failures_among_many_successes_do_not_count_enough(health):
    end(health, *[True] * 10, *[False] * 9)
    assert health.report("m").state == "closed"
    end(health, False)
    assert health.report("m").state == "open"


def test_failures_before_the_window_are_forgotten(health, clock):
    end(health, False, False)
    clock.now_s += RULES.window_s
    end(health, False, False)
    assert (health.report("m").state, health.report("m").failures) == ("closed", 2)


def test_calls_without_a_verdict_say_nothing(health):
    end(health, *[None] * 20)
    assert (health.report("m").state, health.report("m").calls) == ("closed", 0)


def test_one_probe_passes_after_the_cooldown_and_its_success_closes_the_circuit(health, clock):
    end(health, False, False, False)
    clock.now_s += 5
    probe = health.admit("m")
    assert health.report("m").state == "half-open"
    assert health.admit("m") is None
    assert health.why_not("m")[0] == "is being probed"
    with probe:
        probe.verdict = True
    assert health.report("m").state == "closed"
    assert health.report("m").failures == 0


def test_each_probe_that_fails_doubles_the_cooldown_up_to_the_longest(health, clock):
    end(health, False, False, False)
    for cooldown_s in (10, 20, 20):
        clock.now_s += health.report("m").cooldown_left_s
        end(health, False)
        assert health.report("m").cooldown_left_s == cooldown_s


def test_a_probe_without_a_verdict_frees_its_place(health, clock):
    """BerriAI/litellm#39701: a cancelled probe left the circuit half-open for ever."""
    end(health, False, False, False)
    clock.now_s += 5
    end(health, None)
    assert health.admit("m") is not None


def test_a_probe_that_raises_frees_its_place(health, clock):
    end(health, False, False, False)
    clock.now_s += 5
    with pytest.raises(KeyError), health.admit("m"):
        raise KeyError
    assert health.admit("m") is not None


def test_a_later_failure_never_shortens_a_cooldown(health, clock):
    """BerriAI/litellm#40130: a second failure kept the first, shorter deadline."""
    begun_before = [health.admit("m") for _ in range(4)]
    for admission in begun_before[:3]:
        health.record(admission, succeeded=False)
    clock.now_s += 2
    health.record(begun_before[3], succeeded=False)
    assert health.report("m").cooldown_left_s == 5


def test_a_success_begun_before_the_circuit_opened_does_not_close_it(health, clock):
    early = health.admit("m")
    end(health, False, False, False)
    health.record(early, succeeded=True)
    assert health.report("m").state == "open"
    clock.now_s += 5
    probe = health.admit("m")
    health.record(early, succeeded=True)
    assert health.admit("m") is None, "the probe is still under way"
    health.record(probe, succeeded=True)
    assert health.report("m").state == "closed"


def test_of_many_threads_exactly_one_probes(health, clock):
    end(health, False, False, False)
    for _ in range(20):
        clock.now_s += health.report("m").cooldown_left_s
        gate, passed = threading.Barrier(16), []

        def ask(gate=gate, passed=passed):
            gate.wait(30)
            admission = health.admit("m")
            if admission is not None:
                passed.append(admission)

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(passed) == 1
        health.record(passed[0], succeeded=False)


def test_retries_are_a_share_of_first_calls():
    health = Health(HealthRules(retry_share=0.25, retry_reserve=2))
    assert [health.may_retry("m") for _ in range(3)] == [True, True, False]
    end(health, True, True, True)
    assert not health.may_retry("m")
    end(health, True)
    assert health.may_retry("m")
    health.admit("m", retry=True)
    assert not health.may_retry("m"), "a retry earns no retry"


@pytest.mark.parametrize(
    "fault",
    [
        {"window_s": 0},
        {"failures": 0},
        {"failing_share": 2},
        {"cooldown_s": 99},
        {"retry_share": -1},
    ],
)
def test_rules_out_of_range_are_refused(fault):
    with pytest.raises(SettingsError, match="health rules"):
        HealthRules(**fault)


EVENT = st.one_of(
    st.tuples(st.just("begin"), st.just(0)),
    st.tuples(st.just("success"), st.integers(0, 9)),
    st.tuples(st.just("failure"), st.integers(0, 9)),
    st.tuples(st.just("nothing"), st.integers(0, 9)),
    st.tuples(st.just("pass"), st.integers(1, 30)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT, max_size=60))
def test_whatever_happens_at_most_one_probe_is_under_way(events):
    clock = Clock()
    health = Health(RULES, clock=clock)
    under_way, probes = [], set()
    for kind, number in events:
        if kind == "pass":
            clock.now_s += number
        elif kind == "begin":
            state = health.report("m").state
            admission = health.admit("m")
            assert (state == "open") <= (admission is None)
            if admission is not None:
                under_way.append(admission)
                if state == "half-open":
                    assert not probes, "a second probe beside the first"
                    probes.add(admission)
        elif under_way:
            admission = under_way.pop(number % len(under_way))
            verdict = {"success": True, "failure": False, "nothing": None}[kind]
            health.record(admission, succeeded=verdict)
            probes.discard(admission)
        report = health.report("m")
        assert 0 <= report.retries_left <= RULES.retry_reserve
        assert 0 <= report.failures <= report.calls
        assert report.cooldown_left_s <= RULES.longest_cooldown_s


def test_a_refusal_is_explained_as_it_was_though_the_circuit_has_moved_on(health, clock):
    end(health, False, False, False)
    assert health.admit("m") is None
    assert health.why_not("m") == ("cools down for 5.0 s more", 5.0)
    clock.now_s += RULES.cooldown_s
    assert health.why_not("m") == ("cooled down until now", 0.0)
    with health.admit("m") as probe:
        assert health.admit("m") is None
        assert health.why_not("m") == ("is being probed", RULES.cooldown_s)
        probe.verdict = True
    assert health.why_not("m") == ("was being probed until now", 0.0)
