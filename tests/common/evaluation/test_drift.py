"""Drift that is there is found, and drift that is not is found as rarely as the test says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import InputError
from common.evaluation.drift import calibration_drift, feature_drift, population_stability_index
from common.evaluation.logistic import sigmoid


def test_the_index_of_two_halves_is_what_the_formula_says() -> None:
    """Bins split at the median; 10 and 10 rows against 5 and 15, each plus one half."""
    current = np.repeat([0.0, 19.0], [5, 15])
    index = population_stability_index(np.arange(20.0), current, n_bins=2)
    p, q = (10.5 / 21, 10.5 / 21), (5.5 / 21, 15.5 / 21)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert index.value == pytest.approx(expected)
    assert index.band == "shifting"


@given(hnp.arrays(np.float64, st.integers(10, 80), elements=st.floats(-5, 5) | st.just(np.nan)))
def test_a_period_against_itself_is_stable(values: np.ndarray) -> None:
    index = population_stability_index(values, values)
    assert index.value == pytest.approx(0)
    assert index.band == "stable"
    assert sum(index.reference_shares) == pytest.approx(1)


def test_the_index_without_drift_is_significant_as_rarely_as_it_says() -> None:
    random = np.random.default_rng(0)
    p = [
        population_stability_index(random.normal(size=800), random.normal(size=600)).p_value
        for _ in range(400)
    ]
    assert 8 <= np.sum(np.array(p) < 0.05) <= 34  # 20 expected, sd 4.4


def test_missing_values_have_a_bin_of_their_own() -> None:
    reference = np.append(np.arange(90.0), np.full(10, np.nan))
    current = np.append(np.arange(60.0), np.full(40, np.nan))
    index = population_stability_index(reference, current, n_bins=3)
    assert len(index.current_shares) == 4
    assert index.current_shares[-1] == pytest.approx(40.5 / 102)


def test_a_shifted_level_and_a_weaker_slope_are_recovered() -> None:
    random = np.random.default_rng(1)
    x = random.normal(-1, 1, size=(2, 60_000))
    first = random.random(60_000) < sigmoid(x[0])
    second = random.random(60_000) < sigmoid(0.5 + 0.7 * x[1])
    drift = calibration_drift((sigmoid(x[0]), first), (sigmoid(x[1]), second))
    assert drift.intercept_change == pytest.approx(0.5, abs=0.06)
    assert drift.slope_change == pytest.approx(-0.3, abs=0.05)
    assert drift.p_value < 1e-6
    assert drift.reference_ratio == pytest.approx(1, abs=0.03)
    assert drift.current_ratio > 1.2


def test_calibration_that_holds_is_doubted_as_rarely_as_the_test_says() -> None:
    random = np.random.default_rng(2)
    p_values = []
    for _ in range(400):
        p = sigmoid(random.normal(-1, 1, size=(2, 400)))
        events = random.random((2, 400)) < p
        p_values.append(calibration_drift((p[0], events[0]), (p[1], events[1])).p_value)
    assert 8 <= np.sum(np.array(p_values) < 0.05) <= 34


def test_a_moved_feature_travels_its_distance() -> None:
    random = np.random.default_rng(0)
    a = random.normal(0, 2, size=5000)
    drift = feature_drift(a, np.append(a + 1, np.nan))
    assert drift.wasserstein == pytest.approx(1 / a.std(), rel=1e-6)
    assert drift.p_value < 1e-6
    assert (drift.reference_missing, drift.current_missing) == (0, pytest.approx(1 / 5001))
    assert math.isnan(feature_drift(np.ones(5), np.zeros(5)).wasserstein)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="1 infinite"):
        population_stability_index(np.arange(20.0), np.append(np.arange(20.0), np.inf))
    with pytest.raises(InputError, match="10 or more values"):
        population_stability_index(np.arange(20.0), np.arange(5.0))
    with pytest.raises(InputError, match="missing ones alone"):
        feature_drift(np.arange(3.0), np.full(3, np.nan))
    fine = (np.linspace(0.1, 0.9, 40), np.arange(40) % 2)
    with pytest.raises(InputError, match="1 of 0 or 1"):
        calibration_drift(fine, (np.linspace(0, 0.9, 40), fine[1]))
