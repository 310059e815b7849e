"""One assessment with prices, made of known figures and hostile text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kits.finance.markets.forecasters import forecast_volatility
from kits.finance.markets.prices import PriceHistory
from kits.finance.reporting.tables import CompanyRow, PortfolioTable
from kits.finance.risk.measures import one_day_var_es
from kits.finance.risk.score import (
    Evidence,
    MarketView,
    Reason,
    RiskAssessment,
    TextSignal,
    probability,
)

ATTACK = '<script>alert(1)</script> & a "quote"'


@pytest.fixture(scope="module")
def market() -> MarketView:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    dates = np.arange(900).astype("datetime64[D]")
    history = PriceHistory(ticker="ABC", dates=dates, close=close)
    har, garch = (forecast_volatility(history, model=model) for model in ("har", "garch"))
    return MarketView(history=history, har=har, garch=garch, tail=one_day_var_es(history))


@pytest.fixture(scope="module")
def assessment(market: MarketView) -> RiskAssessment:
    evidence = Evidence(ATTACK, 10, 40, 20, 60, "item_1a", 0.01)
    return RiskAssessment(
        ticker="ABC",
        as_of=None,
        form="10-K",
        document_digest="0" * 64,
        text=TextSignal(0.02, 61.0, 12, (evidence,)),
        market=market,
        event_definition="Volatility is high.",
        event_probability=probability(-0.7),
        event_probability_prices_only=probability(-1.0),
        baseline_log_odds=-1.5,
        score=100 * probability(-0.7),
        reasons=(
            Reason("PRICE_VOLATILITY", "Prices moved.", 0.5),
            Reason("TEXT_TONE", "Words.", 0.3, (evidence,)),
        ),
        notes=("A note.",),
        provenance=(),
    )


@pytest.fixture(scope="module")
def table(assessment: RiskAssessment) -> PortfolioTable:
    text_only = replace(
        assessment,
        market=None,
        event_probability=None,
        event_probability_prices_only=None,
        baseline_log_odds=None,
        score=None,
        reasons=(Reason("TEXT_TONE", '=HYPERLINK("x")', 0.0),),
    )
    return PortfolioTable(
        (
            CompanyRow(2, "ABC", 0.5, "USD", assessment, report="companies/0002-ABC/report.html"),
            CompanyRow(3, "BAD", 0.3, "", None, failure=f"=1+1 {ATTACK}"),
            CompanyRow(4, "TXT", 0.2, "EUR", text_only, report="companies/0004-TXT/report.html"),
        ),
        notes=("A note.",),
    )
