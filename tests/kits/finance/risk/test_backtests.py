"""Backtests give the statistics of their papers, and reject as often as they should."""

from __future__ import annotations

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from common.errors import TableError
from kits.finance.risk.backtests import (
    acerbi_szekely,
    conditional_coverage,
    dynamic_quantile,
    exceptions_of,
    green_share,
    independence,
    kupiec,
    run_backtests,
    traffic_light,
)

# Printed by tests/reference/backtest_statistics.py.
LEVEL, VAR, ES = 0.975, 0.025, 0.036
KUPIEC_FROM_MPMATH = (19.7876595282, 8.653960862e-06)
INDEPENDENCE_FROM_MPMATH = (2.4422082008, 0.1181098551)
CONDITIONAL_COVERAGE_FROM_MPMATH = (22.2298677290, 1.488831524e-05)
DYNAMIC_QUANTILE_FROM_STATSMODELS = (57.3462999821, 1.554531214e-10)
Z1_FROM_LOOPS, Z2_FROM_LOOPS = 0.1140147128, 0.6692321594
CUMULATIVE_FROM_MPMATH = {4: 0.8921876269, 5: 0.9588168159, 9: 0.9997498099, 10: 0.9999461014}

LOSSES = -np.diff(np.log(sp500.load()["Close"].to_numpy()))[-1500:]
CONSTANT = np.full(1500, VAR)
flags = hnp.arrays(np.bool_, st.integers(2, 400))


def with_exceptions(count: int, n: int = 250) -> np.ndarray:
    return np.arange(n) < count


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (kupiec, KUPIEC_FROM_MPMATH),
        (independence, INDEPENDENCE_FROM_MPMATH),
        (conditional_coverage, CONDITIONAL_COVERAGE_FROM_MPMATH),
    ],
)
def test_likelihood_ratios_are_those_of_fifty_digits(test, expected) -> None:
    result = test(exceptions_of(LOSSES, CONSTANT), level=LEVEL)
    assert (result.statistic, result.p_value) == pytest.approx(expected, rel=1e-7)
    assert (result.n_exceptions, result.n_days) == (14, 1500)


def test_the_dynamic_quantile_is_the_wald_form_of_a_regression() -> None:
    moving = VAR * (1 + 0.3 * np.sin(np.arange(1500) / 50))
    result = dynamic_quantile(exceptions_of(LOSSES, moving), moving, level=LEVEL)
    found = (result.statistic, result.p_value)
    assert found == pytest.approx(DYNAMIC_QUANTILE_FROM_STATSMODELS, rel=1e-7)


def test_a_constant_var_is_no_regressor_beside_the_constant() -> None:
    exceptions = exceptions_of(LOSSES, CONSTANT)
    with_it = dynamic_quantile(exceptions, CONSTANT, level=LEVEL)
    assert with_it.p_value == pytest.approx(stats.chi2.sf(with_it.statistic, 5))


def test_shortfall_statistics_are_those_of_the_paper() -> None:
    z1, z2 = acerbi_szekely(LOSSES, CONSTANT, np.full(1500, ES), level=LEVEL, n_scenarios=1000)
    assert z1.statistic == pytest.approx(Z1_FROM_LOOPS, rel=1e-8)
    assert z2.statistic == pytest.approx(Z2_FROM_LOOPS, rel=1e-8)


@pytest.mark.parametrize(
    ("count", "zone", "multiplier"),
    [(0, "green", 1.5), (4, "green", 1.5), (5, "amber", 1.7), (9, "amber", 1.92), (10, "red", 2.0)],
)
def test_zones_begin_where_the_standard_has_them(count, zone, multiplier) -> None:
    light = traffic_light(with_exceptions(count))
    assert (light.zone, light.multiplier) == (zone, multiplier)
    if count in CUMULATIVE_FROM_MPMATH:
        expected = CUMULATIVE_FROM_MPMATH[count]
        assert light.cumulative_probability == pytest.approx(expected, abs=1e-9)


def test_only_250_days_at_99_percent_have_a_multiplier() -> None:
    assert traffic_light(with_exceptions(2, 200)).multiplier is None
    assert traffic_light(with_exceptions(2), level=0.975).multiplier is None
    assert traffic_light(np.append(np.ones(50, bool), with_exceptions(0))).n_exceptions == 0


def test_the_green_share_counts_every_run_of_250_days() -> None:
    exceptions = np.zeros(600, dtype=bool)
    exceptions[300:305] = True
    amber = sum(exceptions[at : at + 250].sum() > 4 for at in range(351))
    assert green_share(exceptions) == pytest.approx(1 - amber / 351)


@settings(deadline=None)
@given(flags, st.floats(0.5, 0.999))
def test_statistics_are_finite_and_p_values_probabilities(exceptions, level) -> None:
    for test in (kupiec, independence, conditional_coverage):
        result = test(exceptions, level=level)
        assert result.statistic >= 0
        assert 0 <= result.p_value <= 1


def _rejection_rate(test, draws: int, n: int, level: float) -> float:
    rng = np.random.default_rng(0)
    rejected = [test(rng.random(n) > level, level=level).p_value < 0.05 for _ in range(draws)]
    return float(np.mean(rejected))


@pytest.mark.parametrize("test", [kupiec, independence, conditional_coverage])
def test_right_forecasts_are_rejected_about_as_often_as_stated(test) -> None:
    assert _rejection_rate(test, 800, 5000, 0.95) == pytest.approx(0.05, abs=0.025)


def test_the_dynamic_quantile_has_about_its_size() -> None:
    rng = np.random.default_rng(0)
    var = 0.02 * np.exp(0.3 * rng.standard_normal((500, 2000)))
    rejected = [
        dynamic_quantile(rng.random(2000) > 0.95, row, level=0.95).p_value < 0.05 for row in var
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_too_frequent_and_clustered_exceptions_are_found() -> None:
    rng = np.random.default_rng(0)
    assert (
        np.mean([kupiec(rng.random(1000) > 0.97, level=0.99).p_value < 0.05 for _ in range(200)])
        > 0.95
    )
    clustered = [np.repeat(rng.random(500) > 0.95, 2) for _ in range(200)]
    assert np.mean([independence(row, level=0.95).p_value < 0.05 for row in clustered]) > 0.95
    quiet = 0.02 * np.ones(1000)
    assert (
        np.mean([dynamic_quantile(row, quiet, level=0.95).p_value < 0.05 for row in clustered])
        > 0.95
    )


def _student_forecasts(n: int, scale: float) -> tuple[float, float]:
    law = stats.t(5)
    var = law.ppf(0.975)
    es = law.pdf(var) / 0.025 * (5 + var**2) / 4  # McNeil, Frey and Embrechts (2015), 2.25
    return scale * var, scale * es


@pytest.mark.parametrize(("scale", "lowest", "highest"), [(1.0, 0.01, 0.1), (0.7, 0.9, 1.0)])
def test_shortfall_tests_find_forecasts_that_are_too_low(scale, lowest, highest) -> None:
    rng = np.random.default_rng(0)
    var, es = _student_forecasts(500, scale)
    rejected = []
    for _ in range(200):
        losses = rng.standard_t(5, 500)
        ones = np.ones(500)
        tests = acerbi_szekely(
            losses, var * ones, es * ones, level=0.975, tail_shape=0.2, n_scenarios=500
        )
        rejected.append(tests[1].p_value < 0.05)
    assert lowest <= np.mean(rejected) <= highest


def test_equal_seeds_give_equal_p_values() -> None:
    tests = [run_backtests(LOSSES, CONSTANT, np.full(1500, ES), level=LEVEL) for _ in range(2)]
    assert tests[0] == tests[1]
    assert len(tests[0]) == 6


def test_days_without_exceptions_have_no_shortfall_to_test() -> None:
    z1, z2 = acerbi_szekely(
        np.zeros(300), np.ones(300), np.full(300, 1.2), level=0.99, n_scenarios=200
    )
    assert (z1.statistic, z1.p_value) == (0.0, 1.0)
    assert z2.statistic == 1.0


def test_faulty_input_is_refused() -> None:
    with pytest.raises(TableError, match="same days"):
        exceptions_of(LOSSES, CONSTANT[1:])
    with pytest.raises(TableError, match="not finite"):
        exceptions_of(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(TableError, match="days"):
        kupiec(np.zeros(0, dtype=bool), level=0.99)
    with pytest.raises(TableError, match="ES below VaR"):
        acerbi_szekely(LOSSES, CONSTANT, CONSTANT / 2, level=LEVEL)
