"""All credit measures that a company's accounts and prices allow, and why others are absent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError
from kits.finance.risk.altman import AltmanScore, altman_z, altman_z_double_prime, altman_z_prime
from kits.finance.risk.financial_statement import (
    FinancialStatement,
    MarketValue,
    statement_from_filing,
)
from kits.finance.risk.merton import (
    DefaultPoint,
    DistanceToDefault,
    merton_distance_to_default,
    naive_distance_to_default,
)
from kits.finance.risk.ohlson import OhlsonScore, ohlson_o

__all__ = [
    "AltmanScore",
    "CreditMeasures",
    "DefaultPoint",
    "DistanceToDefault",
    "FinancialStatement",
    "MarketEquity",
    "MarketValue",
    "OhlsonScore",
    "altman_z",
    "altman_z_double_prime",
    "altman_z_prime",
    "credit_measures",
    "merton_distance_to_default",
    "naive_distance_to_default",
    "ohlson_o",
    "statement_from_filing",
]

Floats = npt.NDArray[np.float64]
Measure = TypeVar("Measure")

_TRADING_DAYS = 252


@dataclass(frozen=True)
class MarketEquity:
    """Daily market value of all shares up to the as-of date, in whole currency units.

    Args:
        daily: `(n_days,)`, oldest first: close times shares outstanding of that day.
        last: The value of the last day, with its currency and date.
        risk_free_rate: Of one year, continuous.

    Raises:
        TableError: The daily values do not end with the last one.
    """

    daily: Floats
    last: MarketValue
    risk_free_rate: float

    def __post_init__(self) -> None:
        if self.daily.ndim != 1 or not np.isclose(self.daily[-1:], self.last.amount).all():
            raise TableError(
                "market value of equity",
                expected="daily values (n,) that end with the last one",
                found=f"shape {self.daily.shape}, or another end",
                remedy="Give both in whole currency units, up to the same day.",
            )


@dataclass(frozen=True)
class CreditMeasures:
    """What could be computed; the rest is None with its reason in `refused`.

    Args:
        z_double_prime: Altman's four-variable score.
        z_double_prime_emerging: The same with the constant 3.25.
        z: Altman's score of listed manufacturers.
        z_prime: Altman's score of private manufacturers.
        ohlson: Ohlson's O.
        merton: Distance to default by the iteration over daily values.
        naive: Distance to default by Bharath and Shumway's shortcut.
        refused: Measure -> why it is absent.
    """

    z_double_prime: AltmanScore | None
    z_double_prime_emerging: AltmanScore | None
    z: AltmanScore | None
    z_prime: AltmanScore | None
    ohlson: OhlsonScore | None
    merton: DistanceToDefault | None
    naive: DistanceToDefault | None
    refused: Mapping[str, str]


def credit_measures(
    statement: FinancialStatement,
    *,
    market: MarketEquity | None = None,
    price_index_1968: float | None = None,
) -> CreditMeasures:
    """Returns every measure that the figures allow; nothing is estimated to fill a gap.

    The last 252 days of market values are used. Whether the company is a manufacturer, a bank or
    of an emerging market is for the reader to say: see each model's own file.

    Args:
        statement: Accounts of a year.
        market: Market values, without which Z and the distances are absent.
        price_index_1968: GNP price index for Ohlson's size, without which O is absent.
    """
    refused: dict[str, str] = {}

    def attempt(name: str, compute: Callable[[], Measure]) -> Measure | None:
        try:
            return compute()
        except (TableError, ModelError) as reason:
            refused[name] = str(reason)
            return None

    return CreditMeasures(
        z_double_prime=attempt("z_double_prime", lambda: altman_z_double_prime(statement)),
        z_double_prime_emerging=attempt(
            "z_double_prime_emerging",
            lambda: altman_z_double_prime(statement, emerging_market=True),
        ),
        z=attempt("z", lambda: altman_z(statement, _market(market).last)),
        z_prime=attempt("z_prime", lambda: altman_z_prime(statement)),
        ohlson=attempt("ohlson", lambda: _ohlson(statement, price_index_1968)),
        merton=attempt("merton", lambda: _merton(statement, _market(market))),
        naive=attempt("naive", lambda: _naive(statement, _market(market))),
        refused=refused,
    )


def default_point_of(statement: FinancialStatement) -> DefaultPoint:
    """Returns what is owed by the balance sheet, in whole currency units.

    Raises:
        TableError: A debt figure is absent, or there is no debt.
    """
    measure = "distance to default"
    return DefaultPoint(
        statement.figure("short_term_debt", measure=measure),
        statement.figure("long_term_debt", measure=measure),
        statement.currency,
    )


def _merton(statement: FinancialStatement, market: MarketEquity) -> DistanceToDefault:
    market.last.beside(statement, measure="distance to default")
    return merton_distance_to_default(
        market.daily[-_TRADING_DAYS - 1 :],
        default_point_of(statement),
        currency=market.last.currency,
        risk_free_rate=market.risk_free_rate,
        days_per_year=_TRADING_DAYS,
    )


def _naive(statement: FinancialStatement, market: MarketEquity) -> DistanceToDefault:
    market.last.beside(statement, measure="distance to default")
    year = market.daily[-_TRADING_DAYS - 1 :]
    if len(year) <= _TRADING_DAYS:
        raise TableError(
            "naive distance to default",
            expected=f"{_TRADING_DAYS + 1} daily market values, for a year's return",
            found=str(len(year)),
            remedy="Give a longer history.",
        )
    return naive_distance_to_default(
        float(year[-1]),
        default_point_of(statement),
        currency=market.last.currency,
        equity_volatility=float(np.diff(np.log(year)).std(ddof=1)) * float(np.sqrt(_TRADING_DAYS)),
        past_year_return=float(year[-1] / year[0] - 1),
        risk_free_rate=market.risk_free_rate,
    )


def _ohlson(statement: FinancialStatement, price_index_1968: float | None) -> OhlsonScore:
    if price_index_1968 is None:
        raise TableError(
            "Ohlson O",
            expected="a GNP price index (1968 = 100)",
            found="none",
            remedy="Give it for the year before the accounts.",
        )
    return ohlson_o(statement, price_index_1968=price_index_1968)


def _market(market: MarketEquity | None) -> MarketEquity:
    if market is None:
        raise TableError(
            "market value of equity",
            expected="daily market values",
            found="none",
            remedy="Give prices and shares outstanding.",
        )
    return market
