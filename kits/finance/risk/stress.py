"""What today's positions would have lost in named stretches of history.

Losses are positive, in the portfolio's currency. The positions are held unchanged over the
window: a loss is minus the sum of exposure times the price's simple change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.prices import MAXIMUM_GAP_DAYS, PriceHistory
from kits.finance.risk.portfolio import foreign_currencies

__all__ = ["STRESS_WINDOWS", "StressLoss", "StressWindow", "stress_loss"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StressWindow:
    """A stretch of history.

    Args:
        name: As callers name it.
        what: What happened, in a few words.
        start_date: The last close before it.
        end_date: The last close in it.
    """

    name: str
    what: str
    start_date: date
    end_date: date


STRESS_WINDOWS: tuple[StressWindow, ...] = (
    # From the Friday before Lehman Brothers filed to the S&P 500's low of that autumn.
    StressWindow("2008-09", "failure of Lehman Brothers", date(2008, 9, 12), date(2008, 11, 20)),
    # From before the sell-off to the close after Standard & Poor's lowered the United States.
    StressWindow("2011-08", "euro debts, US downgrade", date(2011, 7, 22), date(2011, 8, 8)),
    # From before the renminbi was devalued to the low of late August.
    StressWindow("2015-08", "devaluation of the renminbi", date(2015, 8, 10), date(2015, 8, 25)),
    # From the S&P 500's high to its low.
    StressWindow("2020-03", "outbreak of Covid-19", date(2020, 2, 19), date(2020, 3, 23)),
)


@dataclass(frozen=True)
class StressLoss:
    """The loss of today's positions in one window.

    Args:
        window: The window.
        currency: ISO 4217 code of the amounts.
        loss: From its first close to its last.
        worst_loss: From its first close to the worst one in it.
        worst_date: When that was.
        worst_day_loss: The largest loss from one close to the next, on today's exposures.
        by_position: Ticker to its part of `loss`; the parts add up.
    """

    window: StressWindow
    currency: str
    loss: float
    worst_loss: float
    worst_date: date
    worst_day_loss: float
    by_position: Mapping[str, float]


def stress_loss(
    exposures: Mapping[str, float],
    histories: Mapping[str, PriceHistory],
    window: StressWindow | str,
    *,
    currency: str,
    as_of: date | None = None,
) -> StressLoss:
    """Returns what the positions would have lost.

    Only days on which every position has a price count.

    Args:
        exposures: Ticker to value in `currency`, negative when sold short.
        histories: Ticker to prices in `currency`.
        window: One of `STRESS_WINDOWS`, its name, or a window of your own.
        currency: ISO 4217 code; nothing is converted, and prices that name another are refused.
        as_of: A window that ends after this day is refused.

    Raises:
        TableError: The window is unknown or in the future, there is no position, prices are in
            another currency, or the history of one position does not cover the window; every
            such position is named with its dates.
    """
    chosen = _window(window)
    _require_past(chosen, exposures, as_of)
    _require_currency(chosen, exposures, histories, currency)
    _require_cover(chosen, exposures, histories)
    dates, closes = _closes(chosen, exposures, histories)
    amounts = np.array(list(exposures.values()), dtype=np.float64)
    since_start = -(closes / closes[0] - 1.0) * amounts  # [days, n]
    by_day = -(closes[1:] / closes[:-1] - 1.0) @ amounts
    total = since_start.sum(axis=1)
    worst = int(np.argmax(total))
    return StressLoss(
        window=chosen,
        currency=currency,
        loss=float(total[-1]),
        worst_loss=float(total[worst]),
        worst_date=date.fromisoformat(str(dates[worst])),
        worst_day_loss=float(by_day.max()),
        by_position={
            ticker: float(part) for ticker, part in zip(exposures, since_start[-1], strict=True)
        },
    )


def _window(window: StressWindow | str) -> StressWindow:
    if isinstance(window, StressWindow):
        return window
    named = {known.name: known for known in STRESS_WINDOWS}
    if window not in named:
        raise TableError(
            "stress window",
            expected=f"one of {', '.join(named)}",
            found=repr(window),
            remedy="Name one of these, or give a StressWindow.",
        )
    return named[window]


def _require_past(window: StressWindow, exposures: Mapping[str, float], as_of: date | None) -> None:
    faults = []
    if as_of is not None and window.end_date > as_of:
        faults.append(f"a window that ends on {window.end_date}")
    if window.end_date <= window.start_date:
        faults.append(f"a window from {window.start_date} to {window.end_date}")
    if not exposures or not np.isfinite(list(exposures.values())).all():
        faults.append("no position, or one whose exposure is no number")
    if faults:
        raise TableError(
            f"stress window {window.name}",
            expected="positions, and a window that ends after its start"
            + (f" and by {as_of}" if as_of else ""),
            found="; ".join(faults),
            remedy="Correct the exposures, or choose another window.",
        )


def _require_currency(
    window: StressWindow,
    exposures: Mapping[str, float],
    histories: Mapping[str, PriceHistory],
    currency: str,
) -> None:
    foreign = foreign_currencies(exposures, histories, currency)
    if foreign:
        raise TableError(
            f"stress window {window.name}",
            expected=f"prices in {currency}",
            found=", ".join(foreign),
            remedy="Convert these prices first, or name their currency.",
        )


def _require_cover(
    window: StressWindow, exposures: Mapping[str, float], histories: Mapping[str, PriceHistory]
) -> None:
    faults = [
        f"{ticker}: {reason}"
        for ticker in exposures
        if (reason := _uncovered(histories.get(ticker), window))
    ]
    if faults:
        raise TableError(
            f"stress window {window.name}",
            expected=f"prices of every position on {window.start_date} (or up to "
            f"{MAXIMUM_GAP_DAYS} days before) and without gaps to {window.end_date}",
            found="; ".join(faults),
            remedy="Leave these positions out and say so, stand a similar share in for them, or "
            "choose a window that their histories cover.",
        )


def _uncovered(history: PriceHistory | None, window: StressWindow) -> str:
    """Returns why the history does not cover the window, or nothing."""
    if history is None:
        return "no history"
    dates = history.dates
    start, end = (np.datetime64(day, "D") for day in (window.start_date, window.end_date))
    allowed = np.timedelta64(MAXIMUM_GAP_DAYS, "D")
    if dates[0] > start:
        return f"first price {dates[0]}"
    if dates[-1] < end:
        return f"last price {dates[-1]}"
    first = int(np.searchsorted(dates, start, "right")) - 1
    last = int(np.searchsorted(dates, end, "right"))
    inside = np.concatenate([dates[first:last], [end]])
    if start - dates[first] > allowed or np.diff(inside).max() > allowed:
        return f"a gap of more than {MAXIMUM_GAP_DAYS} days within it"
    return ""


def _closes(
    window: StressWindow, exposures: Mapping[str, float], histories: Mapping[str, PriceHistory]
) -> tuple[npt.NDArray[np.datetime64], Floats]:
    """Returns the common days of the window and the closes on them, `(days, n)`.

    The first row holds each position's last close up to the start.
    """
    start, end = (np.datetime64(day, "D") for day in (window.start_date, window.end_date))
    common = reduce(np.intersect1d, (histories[ticker].dates for ticker in exposures))
    inside = common[(common > start) & (common <= end)]
    columns = []
    for ticker in exposures:
        history = histories[ticker]
        first = int(np.searchsorted(history.dates, start, "right")) - 1
        at = np.concatenate([[first], np.searchsorted(history.dates, inside)])
        columns.append(history.close[at])
    return np.concatenate([[start], inside]), np.column_stack(columns)
