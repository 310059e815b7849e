"""Tail risk agrees with a route of its own and is coherent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom

from common.errors import TableError
from kits.finance.markets.forecasters import PERCENT, FittedGarch, fit_garch
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.measures import one_day_var_es, tail_risk_of

# Printed by tests/reference/tail_risk_sp500.py.
VALUE_AT_RISK_FROM_RECURSION = 0.054908
EXPECTED_SHORTFALL_FROM_RECURSION = 0.070566

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


@given(residuals)
def test_expected_shortfall_is_at_least_value_at_risk(z: np.ndarray) -> None:
    tail = tail_risk_of(fitted_with(z), level=0.99)
    assert tail.expected_shortfall >= tail.value_at_risk - 1e-12


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
