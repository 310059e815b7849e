"""Positions of one portfolio beside the returns of their common days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import simple_returns

__all__ = ["MissingHistory", "Portfolio", "build_portfolio", "foreign_currencies"]

Floats = npt.NDArray[np.float64]
MissingHistory = Literal["leave out", "refuse"]

WINDOW_DAYS = 1000
MINIMUM_DAYS = 250  # twelve months of trading
MAXIMUM_LOST_SHARE = 0.1  # of a position's days that are not days of all others


@dataclass(frozen=True, eq=False)
class Portfolio:
    """Exposures and simple returns of days on which every position has a price.

    Args:
        tickers: `n` of them, in the order of the columns.
        exposures: `n` values in `currency`, negative when sold short, never zero.
        currency: ISO 4217 code.
        dates: `(T,)`, the day on which a return ends.
        returns: `(T, n)`, simple returns.
        left_out: Tickers without enough history, when they were to be left out.
        notes: What was done, in words for a report.
    """

    tickers: tuple[str, ...]
    exposures: tuple[float, ...]
    currency: str
    dates: npt.NDArray[np.datetime64]
    returns: Floats
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def build_portfolio(
    exposures: Mapping[str, float],
    histories: Mapping[str, PriceHistory],
    *,
    currency: str,
    as_of: date | None = None,
    window_days: int = WINDOW_DAYS,
    missing: MissingHistory = "refuse",
) -> Portfolio:
    """Aligns the histories on their common days.

    Nothing is converted: a history that names another currency is refused, and one that names
    none is taken to be in `currency`. A return over days that one position lacks spans them
    for all.

    Args:
        exposures: Ticker to value in `currency`, finite and not zero.
        histories: Ticker to prices; more than are needed may be there.
        currency: ISO 4217 code, three capitals.
        as_of: Prices after it are cut first.
        window_days: Returns wanted.
        missing: What happens to a position without prices on `window_days` + 1 days: the
            portfolio is refused, or the position is left out and named, with its share.

    Raises:
        TableError: An exposure or the currency is faulty, a history is missing or too short,
            or the common days are too few. All faults are listed.
    """
    _require_positions(exposures, histories, currency, window_days)
    known = {
        ticker: _until(histories[ticker], as_of) for ticker in exposures if ticker in histories
    }
    short = {
        ticker: len(known[ticker][0]) if ticker in known else 0
        for ticker in exposures
        if ticker not in known or len(known[ticker][0]) < window_days + 1
    }
    if short and (missing == "refuse" or len(short) == len(exposures)):
        listed = ", ".join(f"{ticker} {days}" for ticker, days in short.items())
        raise TableError(
            "portfolio",
            expected=f"{window_days + 1} or more prices up to the as-of date for each position",
            found=f"fewer for {listed}",
            remedy="Give longer histories or a shorter window, or leave these positions out.",
        )
    kept = tuple(ticker for ticker in exposures if ticker not in short)
    dates, closes, lost = _common(kept, known, window_days)
    return Portfolio(
        tickers=kept,
        exposures=tuple(float(exposures[ticker]) for ticker in kept),
        currency=currency,
        dates=dates[1:],
        returns=np.column_stack([simple_returns(column) for column in closes.T]),
        left_out=tuple(short),
        notes=(
            *_currency_notes(kept, histories, currency),
            *_notes(exposures, short, len(dates) - 1, lost),
        ),
    )


def foreign_currencies(
    tickers: Iterable[str], histories: Mapping[str, PriceHistory], currency: str
) -> tuple[str, ...]:
    """Returns "TICKER in XXX" for each history that names another currency.

    Pence and pounds ("GBp", "GBP") count as one: returns are the same in both.
    """
    named = {ticker: histories[ticker].currency for ticker in tickers if ticker in histories}
    return tuple(
        f"{ticker} in {other}"
        for ticker, other in named.items()
        if other is not None and other.upper() != currency
    )


def _until(history: PriceHistory, as_of: date | None) -> tuple[npt.NDArray[np.datetime64], Floats]:
    last = len(history.dates)
    if as_of is not None:
        last = int(np.searchsorted(history.dates, np.datetime64(as_of, "D"), "right"))
    return history.dates[:last], history.close[:last]


def _common(
    tickers: tuple[str, ...],
    known: Mapping[str, tuple[npt.NDArray[np.datetime64], Floats]],
    window_days: int,
) -> tuple[npt.NDArray[np.datetime64], Floats, int]:
    """Returns the last common dates, the closes on them, and how many days were given up."""
    shared = reduce(np.intersect1d, (known[ticker][0] for ticker in tickers))
    dates = shared[-(window_days + 1) :]
    spans = {
        ticker: int(np.sum(known[ticker][0] >= dates[0])) if len(dates) else 0 for ticker in tickers
    }
    lost = max(spans.values()) - len(dates)
    if len(dates) < window_days + 1 or lost > MAXIMUM_LOST_SHARE * len(dates):
        raise TableError(
            "portfolio",
            expected=f"{window_days + 1} days with prices of all positions, at most "
            f"{MAXIMUM_LOST_SHARE:.0%} of their days given up for it",
            found=f"{len(dates)} common days, {lost} given up",
            remedy="Check the calendars and last dates of the histories, or shorten the window.",
        )
    closes = [known[ticker][1][np.searchsorted(known[ticker][0], dates)] for ticker in tickers]
    return dates, np.column_stack(closes), lost


def _currency_notes(
    tickers: tuple[str, ...], histories: Mapping[str, PriceHistory], currency: str
) -> tuple[str, ...]:
    silent = [ticker for ticker in tickers if histories[ticker].currency is None]
    if not silent:
        return (f"Amounts and prices in {currency}.",)
    words = "prices that name no currency are taken to be in"
    return (f"Amounts in {currency}; {words} {currency}: {', '.join(silent)}.",)


def _notes(
    exposures: Mapping[str, float], short: Mapping[str, int], n_days: int, lost: int
) -> tuple[str, ...]:
    notes = []
    if lost:
        notes.append(
            f"{lost} days on which not every position has a price were left out; the returns over "
            f"them are among the {n_days:,}."
        )
    if short:
        gross = sum(abs(value) for value in exposures.values())
        share = sum(abs(exposures[ticker]) for ticker in short) / gross
        notes.append(
            f"Left out for want of history, and not in any figure: {', '.join(short)} "
            f"({share:.1%} of the gross exposure)."
        )
    return tuple(notes)


def _require_positions(
    exposures: Mapping[str, float],
    histories: Mapping[str, PriceHistory],
    currency: str,
    window_days: int,
) -> None:
    faults = [
        f"exposure of {ticker} is {value:g}"
        for ticker, value in exposures.items()
        if not np.isfinite(value) or value == 0
    ]
    if not exposures:
        faults.append("no position")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        faults.append(f"currency {currency!r}")
    faults += [f"prices of {words}" for words in foreign_currencies(exposures, histories, currency)]
    if window_days < MINIMUM_DAYS:
        faults.append(f"a window of {window_days} days")
    if faults:
        raise TableError(
            "portfolio",
            expected="positions with finite exposures other than zero, a currency code such as "
            f"USD in which all prices are, and a window of {MINIMUM_DAYS} or more days",
            found="; ".join(faults),
            remedy="Correct these; convert prices in other currencies first.",
        )
