"""Regulatory ES is the formula of the standard on the days that it names."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.portfolio import build_portfolio
from kits.finance.risk.regulatory import liquidity_scaled_es, stressed_shortfall, ten_day_es

DAYS = np.arange("2006-12-01", "2012-01-01", dtype="datetime64[D]")
DAYS = DAYS[np.is_busday(DAYS)]
CRISIS = (np.datetime64("2008-06-01") <= DAYS) & (np.datetime64("2009-06-01") > DAYS)


def history(ticker: str, *, seed: int, first: int = 0, quiet: float = 0.01) -> PriceHistory:
    size = np.where(CRISIS, 0.04, quiet)
    steps = size * np.random.default_rng(seed).standard_normal(len(DAYS))
    return PriceHistory(ticker, DAYS[first:], 100 * np.exp(np.cumsum(steps))[first:])


HISTORIES = {"A": history("A", seed=0), "B": history("B", seed=1)}


def test_ten_day_es_is_the_mean_of_the_worst_overlapping_returns() -> None:
    portfolio = build_portfolio({"A": 5.0}, HISTORIES, currency="USD", window_days=250)
    close = HISTORIES["A"].close[-251:]
    losses = np.sort(-5.0 * (close[10:] / close[:-10] - 1))
    first = int(np.ceil(0.975 * len(losses))) - 1
    assert ten_day_es(portfolio) == pytest.approx(losses[first:].mean())


def test_the_stress_period_is_found_and_no_other_is_worse() -> None:
    found = stressed_shortfall({"A": 1.0, "B": 1.0}, HISTORIES, currency="USD")
    assert found.stress_start_date < date(2009, 6, 1)
    assert found.stress_end_date > date(2008, 6, 1)
    assert found.expected_shortfall == pytest.approx(found.reduced_stressed)
    assert found.reduced_stressed > found.full_current
    at = int(np.searchsorted(DAYS, np.datetime64(found.stress_end_date)))
    cut = {
        name: PriceHistory(name, h.dates[: at + 1], h.close[: at + 1])
        for name, h in HISTORIES.items()
    }
    same = build_portfolio({"A": 1.0, "B": 1.0}, cut, currency="USD", window_days=250)
    assert ten_day_es(same) == pytest.approx(found.reduced_stressed)


def test_a_young_position_scales_the_reduced_set_up() -> None:
    histories = HISTORIES | {"NEW": history("NEW", seed=2, first=900)}
    found = stressed_shortfall({"A": 4.0, "NEW": 1.0}, histories, currency="USD")
    assert (found.reduced_set, found.proxied) == (("A",), ("NEW",))
    ratio = max(1.0, found.full_current / found.reduced_current)
    assert found.expected_shortfall == pytest.approx(found.reduced_stressed * ratio)


def test_prices_after_the_as_of_date_change_nothing() -> None:
    as_of = date.fromisoformat(str(DAYS[1000]))
    cut = {
        name: PriceHistory(name, h.dates[:1001], h.close[:1001]) for name, h in HISTORIES.items()
    }
    exposures = {"A": 1.0, "B": 2.0}
    assert stressed_shortfall(exposures, HISTORIES, currency="USD", as_of=as_of) == (
        stressed_shortfall(exposures, cut, currency="USD")
    )


def test_a_reduced_set_that_explains_too_little_is_refused() -> None:
    young = {"NEW": history("NEW", seed=2, first=900, quiet=0.03)}
    with pytest.raises(TableError, match="75%"):
        stressed_shortfall({"A": 1.0, "NEW": 5.0}, HISTORIES | young, currency="USD")
    with pytest.raises(TableError, match="from 2007-01-01"):
        stressed_shortfall({"NEW": 5.0}, young, currency="USD")


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_liquidity_horizons_enter_by_the_square_root_of_their_steps(a, b, c) -> None:
    # Steps of 10, 10, 20 and 20 days; no factor has 40 days, so those of 60 stand for both.
    found = liquidity_scaled_es({10: a, 20: b, 60: c})
    assert found == pytest.approx(np.sqrt(a**2 + b**2 + 2 * c**2 + 2 * c**2))


def test_one_horizon_of_ten_days_changes_nothing() -> None:
    assert liquidity_scaled_es({10: 7.0}) == pytest.approx(7.0)
    # sqrt(3^2 + (4 sqrt(1))^2) = 5
    assert liquidity_scaled_es({10: 3.0, 20: 4.0}) == pytest.approx(5.0)
    for wrong in ({20: 1.0}, {10: 1.0, 15: 1.0}, {10: -1.0}):
        with pytest.raises(TableError, match="liquidity horizons"):
            liquidity_scaled_es(wrong)
