"""Contributions add up, are derivatives, and diversification is never negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.risk.aggregation import portfolio_tail_risk
from kits.finance.risk.filters import fit_filter
from kits.finance.risk.portfolio import Portfolio

DATES = np.arange("2010-01-01", "2012-09-27", dtype="datetime64[D]")
N_DAYS = len(DATES)


def portfolio_of(exposures: list[float], seed: int = 0) -> Portfolio:
    rng = np.random.default_rng(seed)
    n = len(exposures)
    common = rng.standard_t(5, (N_DAYS, 1))
    returns = 0.008 * (common + rng.standard_t(5, (N_DAYS, n)))
    return Portfolio(
        tickers=tuple(f"T{at}" for at in range(n)),
        exposures=tuple(exposures),
        currency="USD",
        dates=DATES,
        returns=returns,
    )


amounts = st.floats(1, 100)


@settings(deadline=None)
@given(st.lists(amounts, min_size=1, max_size=6), st.integers(0, 50), st.floats(0.9, 0.995))
def test_parts_add_up_and_diversification_is_never_negative(exposures, seed, level) -> None:
    risk = portfolio_tail_risk(portfolio_of(exposures, seed), level=level, scenarios="historical")
    total = sum(position.component_es for position in risk.positions)
    assert total == pytest.approx(risk.expected_shortfall, rel=1e-9)
    total = sum(position.component_var for position in risk.positions)
    assert total == pytest.approx(risk.value_at_risk, rel=1e-9)
    assert risk.diversification >= -1e-12
    assert risk.expected_shortfall >= risk.value_at_risk


def test_a_marginal_shortfall_is_the_derivative() -> None:
    exposures, step = [10.0, 20.0, -5.0], 1e-6

    def shortfall(first: float) -> float:
        changed = portfolio_of([first, *exposures[1:]])
        return portfolio_tail_risk(changed, level=0.975, scenarios="historical").expected_shortfall

    risk = portfolio_tail_risk(portfolio_of(exposures), level=0.975, scenarios="historical")
    slope = (shortfall(10.0 + step) - shortfall(10.0 - step)) / (2 * step)
    assert risk.positions[0].marginal_es == pytest.approx(slope, rel=1e-5)


def test_a_hedge_contributes_a_negative_part() -> None:
    risk = portfolio_tail_risk(portfolio_of([10.0, 10.0, -5.0]), scenarios="historical")
    assert risk.positions[2].component_es < 0
    assert risk.positions[2].expected_shortfall > 0


def test_one_position_is_its_own_portfolio() -> None:
    (position,) = (risk := portfolio_tail_risk(portfolio_of([7.0]))).positions
    assert position.component_es == pytest.approx(position.expected_shortfall)
    assert position.component_var == pytest.approx(risk.value_at_risk)
    assert risk.diversification == pytest.approx(0.0)


def test_filtered_scenarios_are_past_shocks_at_tomorrows_volatility() -> None:
    portfolio = portfolio_of([1.0])
    column = np.log1p(portfolio.returns[:, 0])
    fitted = fit_filter(column, model="garch", distribution="normal")
    filtered = fitted.run(column)
    losses = np.sort(-np.expm1(fitted.mean + filtered.next_volatility * filtered.residuals))
    expected = losses[int(np.ceil(0.99 * N_DAYS - 1e-9)) - 1]
    assert portfolio_tail_risk(portfolio).value_at_risk == pytest.approx(float(expected))


def test_doubling_every_exposure_doubles_every_part() -> None:
    once, twice = (
        portfolio_tail_risk(portfolio_of([k * 3.0, k * 4.0]), scenarios="historical")
        for k in (1, 2)
    )
    assert twice.expected_shortfall == pytest.approx(2 * once.expected_shortfall)
    assert twice.positions[1].component_var == pytest.approx(2 * once.positions[1].component_var)


def test_levels_without_losses_beyond_them_are_refused() -> None:
    with pytest.raises(TableError, match="level of value at risk"):
        portfolio_tail_risk(portfolio_of([1.0]), level=0.9999, scenarios="historical")
