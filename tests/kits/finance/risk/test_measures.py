"""Tail risk agrees with a route of its own and is coherent."""

from __future__ import annotations

import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import TableError
from kits.finance.markets.forecasters import FittedGarch
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


def test_the_sp500_gives_what_the_written_out_recursion_gives() -> None:
    table = sp500.load()
    history = PriceHistory(
        ticker="SP500",
        dates=table.index.to_numpy().astype("datetime64[D]"),
        close=table["Close"].to_numpy(np.float64),
    )
    tail = one_day_var_es(history)
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
