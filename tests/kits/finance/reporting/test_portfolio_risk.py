"""The companies together: parts add up, never more than the parts alone, or a reason why not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kits.finance.markets.prices import PriceHistory
from kits.finance.reporting.portfolio_risk import aggregate_risk
from kits.finance.reporting.tables import CompanyRow, PortfolioTable, company_record


def row_of(assessment, ticker: str, weight: float, *, seed: int = 0, currency: str = "USD"):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 700)))
    history = PriceHistory(ticker, np.arange(700).astype("datetime64[D]"), close)
    market = replace(assessment.market, history=history)
    return CompanyRow(2 + seed, ticker, weight, currency, replace(assessment, market=market))


def test_the_parts_add_up_and_the_whole_is_less_than_the_parts_alone(assessment) -> None:
    rows = [row_of(assessment, f"T{i}", w, seed=i) for i, w in enumerate((0.2, 0.1, 0.1))]
    risk, reason = aggregate_risk(rows)
    assert reason == ""
    records = [company_record(row, risk) for row in rows]
    assert math.fsum(one["component_var"] for one in records) == pytest.approx(risk.value_at_risk)
    assert math.fsum(one["component_es"] for one in records) == pytest.approx(
        risk.expected_shortfall
    )
    assert 0 < risk.diversification < 1
    assert sum(one.exposure for one in risk.positions) == pytest.approx(1)
    assert PortfolioTable(tuple(rows), risk=risk).summary["value_at_risk"] == risk.value_at_risk


def test_equal_shares_have_the_risk_of_one_of_them(assessment) -> None:
    """Two tickers with the same prices are one position: nothing is diversified away."""
    rows = [row_of(assessment, name, 0.5) for name in ("AAA", "BBB")]
    risk, _ = aggregate_risk(rows)
    assert risk.diversification == pytest.approx(0)
    assert risk.positions[0].component_es == pytest.approx(risk.expected_shortfall / 2)


def test_no_currency_is_said(assessment) -> None:
    rows = [row_of(assessment, f"T{i}", 0.5, seed=i, currency="") for i in range(2)]
    risk, _ = aggregate_risk(rows)
    assert "No currency is stated" in risk.notes[0]
    assert not any("XXX" in note for note in risk.notes)


def test_prices_that_cannot_stand_together_are_told_why(assessment) -> None:
    one = row_of(assessment, "AAA", 0.5)
    other = row_of(assessment, "BBB", 0.5, seed=1)
    history = other.assessment.market.history
    short = PriceHistory("BBB", history.dates[:-1], history.close[:-1])
    early = replace(other.assessment.market, history=short)
    cases = {
        "two companies": [one],
        "several lines": [one, replace(other, ticker="AAA")],
        "2 currencies": [one, replace(other, currency="EUR")],
        "2 different days": [
            one,
            replace(other, assessment=replace(other.assessment, market=early)),
        ],
    }
    for words, rows in cases.items():
        risk, reason = aggregate_risk(rows)
        assert risk is None
        assert words in reason
