"""Tail risk agrees with a route of its own and is coherent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom

from common.errors import TableError
from kits.finance.markets.forecasters import PERCENT, FittedGarch, fit_garch
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.measures import one_day_var_es, tail_risk, tail_risk_of
from kits.finance.risk.methods import METHODS

# Printed by tests/reference/tail_risk_sp500.py.
VALUE_AT_RISK_FROM_RECURSION = 0.054908
EXPECTED_SHORTFALL_FROM_RECURSION = 0.070566
# Printed by tests/reference/tail_methods.py: VaR and ES at 97.5%, last 1,500 returns.
FROM_LOOPS_AND_INTEGRALS = {
    "historical": (0.0184812461, 0.0249057230),
    "age-weighted": (0.0271122542, 0.0310371318),
    "fhs-garch": (0.0398309511, 0.0523968494),
    "fhs-gjr": (0.0349613057, 0.0466836248),
    "garch-t": (0.0373154211, 0.0508677890),
    "evt": (0.0432394291, 0.05899567),
}

residuals = hnp.arrays(np.float64, st.integers(500, 700), elements=st.floats(-6, 6, width=32))


def fitted_with(z: np.ndarray) -> FittedGarch:
    return FittedGarch(
        mean=0.0, next_volatility=0.01, standardized_residuals=z, parameters={}, result=None
    )


def sp500_until(row: int | None = None) -> PriceHistory:
    table = sp500.load().iloc[:row]
    return PriceHistory(
        ticker="SP500",
        dates=table.index.to_numpy().astype("datetime64[D]"),
        close=table["Close"].to_numpy(np.float64),
    )


def test_the_sp500_gives_what_the_written_out_recursion_gives() -> None:
    tail = one_day_var_es(sp500_until())
    assert tail.value_at_risk == pytest.approx(VALUE_AT_RISK_FROM_RECURSION, rel=1e-4)
    assert tail.expected_shortfall == pytest.approx(EXPECTED_SHORTFALL_FROM_RECURSION, rel=1e-4)


@settings(deadline=None)
@given(residuals)
def test_expected_shortfall_is_at_least_value_at_risk(z: np.ndarray) -> None:
    tail = tail_risk_of(fitted_with(z), level=0.99)
    assert tail.expected_shortfall >= tail.value_at_risk - 1e-12


@settings(deadline=None)
@given(residuals)
def test_a_higher_level_never_has_a_lower_value_at_risk(z: np.ndarray) -> None:
    low, high = (tail_risk_of(fitted_with(z), level=level) for level in (0.95, 0.99))
    assert high.value_at_risk >= low.value_at_risk


def test_losses_are_positive_decimals() -> None:
    z = np.concatenate([np.full(10, -3.0), np.zeros(990)])
    tail = tail_risk_of(fitted_with(z), level=0.995)
    assert tail.value_at_risk == pytest.approx(1 - np.exp(-0.03))


@pytest.mark.parametrize("level", [0.3, 1.0, 0.9999])
def test_levels_without_losses_beyond_them_are_refused(level: float) -> None:
    with pytest.raises(TableError, match="level of value at risk"):
        tail_risk_of(fitted_with(np.linspace(-3, 3, 600)), level=level)


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_violations_on_the_sp500_lie_in_a_binomial_band(level: float) -> None:
    """Over the last 500 days, refitted every 50, VaR is exceeded 14 and 6 times; 25 and 5
    are expected.

    The band holds 99.9% of the binomial distribution. Between fits only the variance
    recursion runs on; each day's VaR uses the closes before it.
    """
    close = sp500_until().close
    returns = np.diff(np.log(close))
    violations = 0
    for start in range(len(returns) - 500, len(returns), 50):
        fitted = fit_garch(sp500_until(start + 1))  # closes 0 .. start, returns before `start`
        omega, alpha, beta = (fitted.parameters[k] for k in ("omega", "alpha[1]", "beta[1]"))
        volatility = fitted.next_volatility
        for day in range(start, start + 50):
            today = replace(fitted, next_volatility=volatility)
            loss = -np.expm1(returns[day])
            violations += loss > tail_risk_of(today, level=level).value_at_risk
            shock = returns[day] - fitted.mean
            volatility = np.sqrt(omega / PERCENT**2 + alpha * shock**2 + beta * volatility**2)
    low, high = binom.interval(0.999, 500, 1 - level)
    assert low <= violations <= high


def sp500_returns(n: int) -> np.ndarray:
    return np.diff(np.log(sp500_until().close))[-n:]


@pytest.mark.parametrize("method", FROM_LOOPS_AND_INTEGRALS)
def test_each_method_gives_what_loops_and_integrals_give(method: str) -> None:
    tail = tail_risk(sp500_returns(1500), method=method, level=0.975)
    found = (tail.value_at_risk, tail.expected_shortfall)
    assert found == pytest.approx(FROM_LOOPS_AND_INTEGRALS[method], rel=2e-5)


def test_the_ensemble_is_the_mean_of_its_members() -> None:
    returns = sp500_returns(800)
    members = [tail_risk(returns, method=name) for name in METHODS["evt-ensemble"].members]
    ensemble = tail_risk(returns, method="evt-ensemble")
    mean = np.mean([member.expected_shortfall for member in members])
    assert ensemble.expected_shortfall == pytest.approx(mean)


@pytest.mark.parametrize("horizon_days", [1, 10])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_has_a_shortfall_below_its_var(method: str, horizon_days: int) -> None:
    tail = tail_risk(
        sp500_returns(600), method=method, level=0.975, horizon_days=horizon_days, n_paths=2000
    )
    assert 0 < tail.value_at_risk <= tail.expected_shortfall < 1
    assert (tail.horizon_days, tail.n_returns) == (horizon_days, 600)


def test_prices_after_the_as_of_date_change_nothing() -> None:
    history = sp500_until()
    as_of = history.dates[3000].astype(object)
    cut = PriceHistory("SP500", history.dates[:3001], history.close[:3001])
    scrambled = history.close.copy()
    scrambled[3001:] = np.random.default_rng(0).uniform(1, 2, len(scrambled) - 3001)
    later = PriceHistory("SP500", history.dates, scrambled)
    for method, horizon_days in (("historical", 10), ("evt", 1), ("fhs-garch", 10)):
        asked = {"method": method, "horizon_days": horizon_days, "n_paths": 2000}
        assert tail_risk(later, as_of=as_of, **asked) == tail_risk(cut, **asked)


def test_one_simulated_day_is_the_tail_of_that_day() -> None:
    """Ten days are simulated; the same route over a day gives the day's own figures."""
    from kits.finance.risk.filters import fit_filter
    from kits.finance.risk.innovations import draw_residuals
    from kits.finance.risk.tails import EmpiricalTail

    returns = sp500_returns(1000)
    fitted = fit_filter(returns, model="garch", distribution="normal")
    filtered = fitted.run(returns)
    tail = EmpiricalTail.of(-filtered.residuals)
    drawn = draw_residuals(tail, filtered.residuals, (400_000, 1), np.random.default_rng(0))
    paths = fitted.simulate(float(filtered.variance[-1]), drawn)[:, 0]
    simulated = EmpiricalTail.of(-np.expm1(paths)).shortfall(0.975)
    closed = tail_risk(returns, method="fhs-garch", level=0.975).expected_shortfall
    assert simulated == pytest.approx(closed, rel=0.01)


def test_ten_days_of_independent_returns_are_about_a_root_of_ten_days() -> None:
    returns = 0.01 * np.random.default_rng(3).standard_normal(5000)
    ten = tail_risk(returns, method="historical", horizon_days=10, window_days=5000)
    assert ten.value_at_risk == pytest.approx(0.01 * 2.326 * np.sqrt(10), rel=0.12)
    assert "overlapping 10-day returns" in ten.notes[0]


def test_equal_seeds_give_equal_figures_and_others_do_not() -> None:
    asked = {"method": "evt", "horizon_days": 10, "n_paths": 2000}
    returns = sp500_returns(600)
    first, again, other = (tail_risk(returns, seed=seed, **asked) for seed in (1, 1, 2))
    assert first == again
    assert first.value_at_risk != other.value_at_risk


def test_thin_weights_are_said_to_be_thin() -> None:
    assert "2.0 equal losses" in tail_risk(sp500_returns(2000), method="age-weighted").notes[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "sqrt-of-time"},
        {"level": 0.9999},
        {"horizon_days": 0},
        {"horizon_days": 250},
        {"window_days": 100},
        {"as_of": np.datetime64("2015-01-01", "D").astype(object)},
    ],
)
def test_what_cannot_be_computed_is_refused(asked: dict) -> None:
    with pytest.raises(TableError):
        tail_risk(sp500_returns(600), **asked)
