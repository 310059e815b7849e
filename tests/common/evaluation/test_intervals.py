"""Intervals cover as often as they say, and clusters are drawn whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from common.errors import InputError
from common.evaluation.intervals import Interval, bootstrap_interval, mean_interval, paired_gain


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_fast_mean_is_the_general_bootstrap_of_the_mean(method) -> None:
    values = np.random.default_rng(0).exponential(size=150)
    cluster = np.arange(150) // 3
    fast = mean_interval(values, cluster, method=method)
    slow = bootstrap_interval(lambda rows: float(values[rows].mean()), cluster, method=method)
    assert fast.value == pytest.approx(slow.value)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.02)


def test_bca_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=60)
    ours = mean_interval(values, np.arange(60), method="bca", draws=20_000)
    peer = bootstrap((values,), np.mean, method="BCa", n_resamples=20_000, rng=1)
    low, high = peer.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.015)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_clustered_rows_cover_as_often_as_they_say(method) -> None:
    """Forty companies with an effect of their own; an interval over rows would be too short."""
    random = np.random.default_rng(5)
    company = np.repeat(np.arange(40), 6)
    covered = covered_by_rows = 0
    for trial in range(200):
        values = 1.0 + random.normal(size=40)[company] + 0.3 * random.normal(size=240)
        by_company = mean_interval(values, company, draws=500, method=method, seed=trial)
        by_row = mean_interval(values, np.arange(240), draws=500, method=method, seed=trial)
        covered += by_company.low <= 1.0 <= by_company.high
        covered_by_rows += by_row.low <= 1.0 <= by_row.high
    assert covered >= 178  # 190 expected, sd 3.1, and percentile intervals are a little short
    assert covered_by_rows < 150


def test_a_gain_is_paired() -> None:
    """Two losses that share their noise differ by 0.1 in every row."""
    noise = np.random.default_rng(0).normal(size=100)
    gain = paired_gain(noise + 0.1, noise, np.arange(100))
    assert gain.value == pytest.approx(0.1)
    assert gain.above_zero
    assert not gain.below_zero
    assert gain.high - gain.low < 1e-9


def test_draws_without_a_value_are_left_out() -> None:
    event = np.array([1] + [0] * 9)

    def rate_where_it_happens(rows: np.ndarray) -> float:
        return float(event[rows].mean()) if event[rows].any() else float("nan")

    interval = bootstrap_interval(rate_where_it_happens, np.arange(10), draws=200)
    assert interval.low >= 0.1


@pytest.mark.parametrize("cluster", [np.zeros(5), np.zeros((5, 1)), np.arange(4)])
def test_what_cannot_be_drawn_is_refused(cluster) -> None:
    with pytest.raises(InputError, match="bootstrap"):
        mean_interval(np.arange(5.0), cluster)


def test_losses_of_other_rows_are_refused() -> None:
    with pytest.raises(InputError, match="same rows"):
        paired_gain(np.zeros(4), np.zeros(5), np.arange(5))
    with pytest.raises(InputError, match="a statistic with a value"):
        bootstrap_interval(lambda rows: float("nan"), np.arange(5), draws=10)


def test_an_interval_says_on_which_side_of_zero_it_lies() -> None:
    assert Interval(-2, -3, -1).below_zero
    assert not Interval(0, -1, 1).above_zero
