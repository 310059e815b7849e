"""The linkage's fits recover what was simulated, and its measures are those of the books."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.weights.calls import CallSet
from kits.finance.weights.evaluation import (
    area_under_curve,
    correlation,
    evaluate,
    fit_calibration,
    fit_linkage,
    fit_price_ridge,
    fit_text_weight,
    paired_interval,
)


def simulated(*, effect, n=1200, seed=0):
    """Calls whose target is a linear function of prices plus `effect` x a text signal."""
    rng = np.random.default_rng(seed)
    level = rng.normal(-4, 0.4, n)
    features = level[:, None] + rng.normal(0, 0.1, (n, 7))
    signal = rng.normal(0, 0.3, n)
    target = -0.5 + 0.9 * features.mean(1) + effect * signal + rng.normal(0, 0.2, n)
    role = np.array(["train", "selection", "linkage", "test"])[np.arange(n) * 4 // n]
    calls = CallSet(
        call_id=np.arange(n).astype(str),
        ticker=(np.arange(n) % 300).astype(str),
        day=np.datetime64("2015-01-01") + np.arange(n),
        role=role,
        features=features,
        target=target,
        text=("",) * n,
    )
    return calls, signal


def test_the_ridge_recovers_the_price_model():
    """Its error on other calls is that of the noise."""
    calls, _ = simulated(effect=0.0)
    ridge = fit_price_ridge(calls)
    assert ridge.selection_mse == pytest.approx(0.04, rel=0.25)


def test_a_text_effect_is_found_weighed_and_measured():
    """The weight is near the true effect, and the interval of the gain excludes zero."""
    calls, signal = simulated(effect=0.5)
    linkage, fit = fit_linkage(calls, signal, fit_price_ridge(calls), adapter_digest="a")
    assert fit["weight"] == pytest.approx(0.5, abs=4 * fit["standard_error"])
    block = evaluate(calls, signal, linkage)["all"]
    assert block["linked"]["mse"] < block["prices_only"]["mse"]
    assert block["mse_gain_interval"][0] > 0
    assert block["shuffled_transcripts"]["mse_mean"] > block["prices_only"]["mse"]
    assert block["linked"]["event_auc"] > block["prices_only"]["event_auc"]


def test_the_interval_covers_as_often_as_it_says():
    """Calibrated on selection and linkage calls, it holds nine test calls in ten."""
    calls, signal = simulated(effect=0.5, n=4000)
    linkage, _ = fit_linkage(calls, signal, fit_price_ridge(calls), adapter_digest="a")
    assert linkage.interval_calls == 2000
    block = evaluate(calls, signal, linkage)["all"]
    assert block["interval_coverage"] == pytest.approx(0.9, abs=0.03)


def test_nothing_but_the_linkage_calls_decides_the_weight():
    """Changing the test and training targets leaves it as it was."""
    calls, signal = simulated(effect=0.5)
    ridge = fit_price_ridge(calls)
    before = fit_linkage(calls, signal, ridge, adapter_digest="a")[1]
    calls.target[calls.in_role("test")] += 1.0
    assert fit_linkage(calls, signal, ridge, adapter_digest="a")[1] == before


def test_noise_gets_hardly_any_weight():
    """Over 200 draws without effect the shrunken weight is 0 at least three times in five."""
    rng = np.random.default_rng(0)
    weights = [
        fit_text_weight(rng.normal(size=150), rng.normal(size=150))["weight"] for _ in range(200)
    ]
    assert np.mean(np.array(weights) == 0) > 0.6


def test_a_constant_or_contrary_signal_gets_no_weight():
    """Neither divides by zero nor turns the text's sign round."""
    residual = np.random.default_rng(0).normal(size=50)
    assert fit_text_weight(residual, np.ones(50))["weight"] == 0.0
    assert fit_text_weight(residual, -residual)["weight"] == 0.0


def test_calibration_recovers_a_logistic_curve():
    """Coefficients are those that the events were drawn with, within their error."""
    rng = np.random.default_rng(0)
    x = rng.normal(-4, 0.4, 20_000)
    event = rng.random(20_000) < 1 / (1 + np.exp(-(18 + 5 * x)))
    a, b = fit_calibration(x, event)
    assert (a, b) == (pytest.approx(18, rel=0.1), pytest.approx(5, rel=0.1))
    assert (1 / (1 + np.exp(-(a + b * x)))).mean() == pytest.approx(event.mean(), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_area_counts_pairs(rows):
    """It equals the share of event and non-event pairs in the right order, ties half."""
    score = np.array([float(s) for s, _ in rows])
    event = np.array([e for _, e in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[event] for b in score[~event]]
    found = area_under_curve(score, event)
    assert found == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found)


def test_a_company_is_drawn_whole():
    """One company's repeated gains widen the interval as one observation would."""
    rng = np.random.default_rng(0)
    gain = rng.normal(size=50)
    alone = paired_interval(gain, np.arange(50).astype(str))
    repeated = paired_interval(np.repeat(gain, 4), np.repeat(np.arange(50), 4).astype(str))
    assert repeated == pytest.approx(alone)


def test_correlation_of_a_constant_is_zero():
    """It is never NaN, which JSON does not have."""
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0
