"""VaR and ES of a portfolio's companies together, where their prices allow it.

They do where the companies have prices in one currency up to one day. Weights are the
exposures: the whole is 1, so that every figure is a share of the portfolio's scored part.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from common.errors import ModelError, TableError

if TYPE_CHECKING:
    from kits.finance.markets.prices import PriceHistory
    from kits.finance.reporting.tables import CompanyRow
    from kits.finance.risk.aggregation import PortfolioTailRisk

__all__ = ["aggregate_risk"]

_NO_CURRENCY = "XXX"  # ISO 4217: no currency is stated
_LONGEST_WINDOW_DAYS, _SHORTEST_WINDOW_DAYS = 1000, 250


def aggregate_risk(rows: Sequence[CompanyRow]) -> tuple[PortfolioTailRisk | None, str]:
    """Returns one-day VaR and ES of the scored rows together, or None and the reason.

    The level is that of the companies' own VaR. The window is the longest of 250 to 1,000
    days that every company has.
    """
    from kits.finance.risk.aggregation import portfolio_tail_risk
    from kits.finance.risk.portfolio import build_portfolio

    scored = [(row, row.assessment.market) for row in rows if row.assessment is not None]
    markets = [(row, market) for row, market in scored if market is not None]
    histories = {row.ticker: market.history for row, market in markets}
    reason = _reason_against([row for row, _ in markets], histories)
    if reason:
        return None, f"No VaR of the portfolio as a whole: {reason}."
    total = math.fsum(row.weight for row, _ in markets)
    shortest = min(len(history.dates) for history in histories.values()) - 1
    try:
        portfolio = build_portfolio(
            {row.ticker: row.weight / total for row, _ in markets},
            histories,
            currency=markets[0][0].currency or _NO_CURRENCY,
            window_days=max(_SHORTEST_WINDOW_DAYS, min(_LONGEST_WINDOW_DAYS, shortest)),
        )
        found = portfolio_tail_risk(portfolio, level=markets[0][1].tail.level)
    except (ModelError, TableError) as error:
        return None, f"No VaR of the portfolio as a whole: {error.found}."
    if found.currency != _NO_CURRENCY:
        return found, ""
    unstated = "No currency is stated: prices are taken to be in one."
    return replace(found, notes=(unstated, *found.notes[1:])), ""


def _reason_against(rows: Sequence[CompanyRow], histories: dict[str, PriceHistory]) -> str:
    """Returns why the rows' prices cannot stand together, or ""."""
    if len(rows) < 2:
        return "it takes two companies with prices"
    if len(histories) < len(rows):
        return "a ticker stands on several lines"
    currencies = Counter(row.currency for row in rows)
    if len(currencies) > 1:
        return f"prices are in {len(currencies)} currencies, and none is converted"
    last = {history.last_date for history in histories.values()}
    if len(last) > 1:
        return f"prices end on {len(last)} different days"
    return ""
