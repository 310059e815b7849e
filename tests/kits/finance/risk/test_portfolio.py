"""Portfolios are aligned on common days, and what is missing is said or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.portfolio import build_portfolio

DAYS = np.arange("2010-01-01", "2014-12-31", dtype="datetime64[D]")
DAYS = DAYS[np.is_busday(DAYS)]


def history(ticker: str, *, seed: int = 0, keep: slice | np.ndarray = slice(None)) -> PriceHistory:
    steps = 0.01 * np.random.default_rng(seed).standard_normal(len(DAYS))
    return PriceHistory(ticker, DAYS[keep], 100 * np.exp(np.cumsum(steps))[keep])


HISTORIES = {name: history(name, seed=seed) for seed, name in enumerate("ABC")}


def test_returns_are_those_of_the_common_days() -> None:
    without = np.delete(np.arange(len(DAYS)), [900, 1000])
    histories = {"A": HISTORIES["A"], "B": history("B", seed=1, keep=without)}
    portfolio = build_portfolio({"A": 1.0, "B": -2.0}, histories, currency="EUR", window_days=500)
    assert portfolio.returns.shape == (500, 2)
    at = np.searchsorted(HISTORIES["A"].dates, portfolio.dates)
    growth = HISTORIES["A"].close[at[-1]] / HISTORIES["A"].close[at[0]]
    assert np.prod(1 + portfolio.returns[1:, 0]) == pytest.approx(growth)
    assert DAYS[900] not in portfolio.dates
    assert any("2 days" in note for note in portfolio.notes)
    assert any("EUR" in note for note in portfolio.notes)


def test_prices_after_the_as_of_date_change_nothing() -> None:
    exposures = {"A": 1.0, "B": 2.0}
    cut = {name: history(name, seed=seed, keep=slice(1000)) for seed, name in enumerate("AB")}
    as_of = date.fromisoformat(str(DAYS[999]))
    whole = build_portfolio(exposures, HISTORIES, currency="USD", as_of=as_of, window_days=400)
    alone = build_portfolio(exposures, cut, currency="USD", window_days=400)
    assert np.array_equal(whole.returns, alone.returns)


def test_short_histories_are_refused_or_left_out_by_name() -> None:
    histories = HISTORIES | {"C": history("C", seed=2, keep=slice(1000, None))}
    exposures = {"A": 3.0, "C": -1.0, "D": 1.0}
    with pytest.raises(TableError, match=r"C \d+, D 0"):
        build_portfolio(exposures, histories, currency="USD")
    portfolio = build_portfolio(exposures, histories, currency="USD", missing="leave out")
    assert portfolio.tickers == ("A",)
    assert portfolio.left_out == ("C", "D")
    assert any("40.0% of the gross exposure" in note for note in portfolio.notes)


def test_prices_in_another_currency_are_refused_and_pence_are_pounds() -> None:
    def priced(currency: str | None) -> dict[str, PriceHistory]:
        return {"A": replace(HISTORIES["A"], currency=currency)}

    with pytest.raises(TableError, match="prices of A in EUR"):
        build_portfolio({"A": 1.0}, priced("EUR"), currency="USD")
    pounds = build_portfolio({"A": 1.0}, priced("GBp"), currency="GBP")
    assert pounds.notes == ("Amounts and prices in GBP.",)
    silent = build_portfolio({"A": 1.0}, priced(None), currency="GBP")
    assert silent.notes == (
        "Amounts in GBP; prices that name no currency are taken to be in GBP: A.",
    )


def test_calendars_with_little_in_common_are_refused() -> None:
    histories = {
        "A": history("A", keep=np.arange(0, len(DAYS), 2)),
        "B": history("B", keep=np.arange(1, len(DAYS), 2)),
    }
    with pytest.raises(TableError, match="common days"):
        build_portfolio({"A": 1.0, "B": 1.0}, histories, currency="USD", window_days=300)


@pytest.mark.parametrize(
    ("exposures", "currency", "window_days"),
    [
        ({}, "USD", 500),
        ({"A": 0.0}, "USD", 500),
        ({"A": np.nan}, "USD", 500),
        ({"A": 1.0}, "usd", 500),
        ({"A": 1.0}, "USD", 100),
    ],
)
def test_faulty_positions_are_refused(exposures, currency, window_days) -> None:
    with pytest.raises(TableError, match="portfolio"):
        build_portfolio(exposures, HISTORIES, currency=currency, window_days=window_days)
