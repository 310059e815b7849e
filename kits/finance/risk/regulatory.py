"""Expected shortfall as the market risk standard asks for it (Basel Framework, chapter MAR33).

97.5% ES over 10 days (MAR33.3, MAR33.4), calibrated to the worst twelve months that a reduced
set of positions remembers (MAR33.5 to MAR33.7). Losses are positive, in the portfolio's
currency. Here a position's price is its risk factor. What the standard asks beyond this
(desks, classes of risk factors, non-modellable ones, approval) is not done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.portfolio import Portfolio, build_portfolio

__all__ = ["StressedShortfall", "liquidity_scaled_es", "stressed_shortfall", "ten_day_es"]

Floats = npt.NDArray[np.float64]

ES_LEVEL = 0.975  # MAR33.3
BASE_HORIZON_DAYS = 10  # MAR33.4
LIQUIDITY_HORIZONS_DAYS = (10, 20, 40, 60, 120)  # MAR33.4, Table 1
# MAR33.5 to MAR33.7:
PERIOD_DAYS = 250  # twelve months of trading
STRESS_FROM = date(2007, 1, 1)  # the search goes back to and includes 2007
LEAST_REDUCED_SHARE = 0.75  # of the full set's ES; asked on average over 12 weeks, here on one day


@dataclass(frozen=True)
class StressedShortfall:
    """ES calibrated to stress: `ES_RS x max(1, ES_FC / ES_RC)`.

    Args:
        currency: ISO 4217 code of the amounts.
        expected_shortfall: The result.
        reduced_stressed: ES_RS, of the reduced set in the stress period.
        full_current: ES_FC, of all positions in the last twelve months.
        reduced_current: ES_RC, of the reduced set in the last twelve months.
        stress_start_date: First day of the stress period.
        stress_end_date: Its last day.
        reduced_set: Positions whose history reaches back to 2007.
        proxied: The others: the ratio stands in for them.
        notes: What limits the figure.
    """

    currency: str
    expected_shortfall: float
    reduced_stressed: float
    full_current: float
    reduced_current: float
    stress_start_date: date
    stress_end_date: date
    reduced_set: tuple[str, ...]
    proxied: tuple[str, ...]
    notes: tuple[str, ...]


def ten_day_es(portfolio: Portfolio) -> float:
    """Returns ES at 97.5% of the overlapping 10-day returns of the portfolio's days.

    Changes over 10 days, not one day's scaled up (MAR33.4); exposures are held.

    Raises:
        TableError: There are fewer than twelve months of days.
    """
    if len(portfolio.returns) < PERIOD_DAYS:
        raise TableError(
            "ten-day expected shortfall",
            expected=f"{PERIOD_DAYS} or more days",
            found=f"{len(portfolio.returns)}",
            remedy="Build the portfolio with a longer window.",
        )
    losses = _ten_day_losses(portfolio)[np.newaxis]
    return float(_es(losses)[0])


def stressed_shortfall(
    exposures: Mapping[str, float],
    histories: Mapping[str, PriceHistory],
    *,
    currency: str,
    as_of: date | None = None,
) -> StressedShortfall:
    """Returns ES calibrated to the worst twelve months since 2007.

    The period is the one in which the reduced set's own ES is largest, searched day by day.

    Args:
        exposures: Ticker to value in `currency`.
        histories: Ticker to prices in `currency`.
        currency: ISO 4217 code.
        as_of: Prices after it are cut first.

    Raises:
        TableError: No history reaches back to 2007, those that do explain less than 75% of
            today's ES, a position lacks the last twelve months, or an input is faulty.
    """
    current = build_portfolio(
        exposures, histories, currency=currency, as_of=as_of, window_days=PERIOD_DAYS
    )
    oldest = np.datetime64(STRESS_FROM, "D") + np.timedelta64(10, "D")
    reduced = tuple(ticker for ticker in exposures if histories[ticker].dates[0] <= oldest)
    if not reduced:
        raise TableError(
            "stressed expected shortfall",
            expected=f"a position with prices from {STRESS_FROM} on",
            found="none",
            remedy="Give longer histories, or histories of similar positions in their place.",
        )
    weights = {ticker: exposures[ticker] for ticker in reduced}
    full_current = ten_day_es(current)
    reduced_current = ten_day_es(
        build_portfolio(weights, histories, currency=currency, as_of=as_of, window_days=PERIOD_DAYS)
    )
    _require_explained(reduced_current, full_current)
    memory = build_portfolio(
        weights,
        histories,
        currency=currency,
        as_of=as_of,
        window_days=_days_since_2007(histories, reduced, as_of),
    )
    stressed, start, end = _worst_period(memory)
    return StressedShortfall(
        currency=currency,
        expected_shortfall=stressed * max(1.0, full_current / reduced_current),
        reduced_stressed=stressed,
        full_current=full_current,
        reduced_current=reduced_current,
        stress_start_date=start,
        stress_end_date=end,
        reduced_set=reduced,
        proxied=tuple(ticker for ticker in exposures if ticker not in reduced),
        notes=(
            *memory.notes,
            "One liquidity horizon of 10 days for every position.",
            "A period of 250 days holds 241 overlapping 10-day returns; 25 do not overlap.",
        ),
    )


def liquidity_scaled_es(es_by_horizon: Mapping[int, float]) -> float:
    """Returns the ES that allows for liquidity horizons, MAR33.4.

    `sqrt(sum_j (ES_j sqrt((LH_j - LH_{j-1}) / 10))^2)`, ES_j the 10-day ES of a shock to the
    risk factors with a liquidity horizon of LH_j days or more, the others held constant.

    Args:
        es_by_horizon: LH_j (10, 20, 40, 60 or 120 days) to ES_j; 10 is needed.

    Raises:
        TableError: A horizon is not one of these, 10 is absent, or an ES is negative.
    """
    known = set(LIQUIDITY_HORIZONS_DAYS)
    usable = all(np.isfinite(es) and es >= 0 for es in es_by_horizon.values())
    if not set(es_by_horizon) <= known or BASE_HORIZON_DAYS not in es_by_horizon or not usable:
        raise TableError(
            "liquidity horizons",
            expected=f"10-day ES of zero or more for horizons of {LIQUIDITY_HORIZONS_DAYS} days, "
            "the first among them",
            found=f"horizons {sorted(es_by_horizon)}",
            remedy="Give ES by the horizons of MAR33.12.",
        )
    total, es = 0.0, 0.0
    for shorter, horizon in reversed([*pairwise((0, *LIQUIDITY_HORIZONS_DAYS))]):
        es = es_by_horizon.get(horizon, es)  # no factor of just this horizon: those beyond it
        total += es**2 * (horizon - shorter) / BASE_HORIZON_DAYS
    return float(np.sqrt(total))


def _ten_day_losses(portfolio: Portfolio) -> Floats:
    """Returns the loss of each overlapping run of 10 days, `(T - 9,)`."""
    growth = np.log1p(portfolio.returns)
    runs = np.lib.stride_tricks.sliding_window_view(growth, BASE_HORIZON_DAYS, axis=0)
    return np.asarray(-np.expm1(runs.sum(axis=-1)) @ np.array(portfolio.exposures))


def _es(losses: Floats) -> Floats:
    """Returns the mean of each row's losses from VaR upwards, `(n_rows,)`."""
    n = losses.shape[1]
    first = int(np.ceil(ES_LEVEL * n - 1e-9)) - 1
    return np.asarray(np.partition(losses, first, axis=1)[:, first:].mean(axis=1))


def _worst_period(memory: Portfolio) -> tuple[float, date, date]:
    losses = _ten_day_losses(memory)
    length = PERIOD_DAYS - BASE_HORIZON_DAYS + 1
    shortfalls = _es(np.lib.stride_tricks.sliding_window_view(losses, length))
    worst = int(np.argmax(shortfalls))
    start, end = memory.dates[worst], memory.dates[worst + PERIOD_DAYS - 1]
    return (
        float(shortfalls[worst]),
        date.fromisoformat(str(start)),
        date.fromisoformat(str(end)),
    )


def _days_since_2007(
    histories: Mapping[str, PriceHistory], tickers: tuple[str, ...], as_of: date | None
) -> int:
    """Returns the common returns of these positions since 2007."""
    first = np.datetime64(STRESS_FROM, "D")
    days: npt.NDArray[np.datetime64] = histories[tickers[0]].dates
    for ticker in tickers[1:]:
        days = np.intersect1d(days, histories[ticker].dates)
    days = days[days >= first]
    if as_of is not None:
        days = days[days <= np.datetime64(as_of, "D")]
    return len(days) - 1


def _require_explained(reduced: float, full: float) -> None:
    if reduced >= LEAST_REDUCED_SHARE * full and reduced > 0:
        return
    raise TableError(
        "stressed expected shortfall",
        expected=f"positions with a history from {STRESS_FROM} on that explain "
        f"{LEAST_REDUCED_SHARE:.0%} of today's ES or more",
        found=f"{reduced / full:.0%}" if full > 0 else "a portfolio that does not lose",
        remedy="Give longer histories, or histories of similar positions in their place.",
    )
