"""A backtest as the report, the command and the API show it: every test, and a verdict each.

VaR and ES of each day come from the days before it alone (`risk.rolling`), or from whoever
made the forecasts. Losses are positive; those of prices are minus daily log returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import ModelError, TableError

if TYPE_CHECKING:
    from kits.finance.markets.prices import PriceHistory
    from kits.finance.risk.backtests import BacktestResult, TrafficLight

__all__ = [
    "SIGNIFICANCE",
    "Backtest",
    "backtest_forecasts",
    "backtest_history",
    "read_history",
    "recent_backtest",
    "rejects",
]

SIGNIFICANCE = 0.05
"""A p value below it speaks against the forecasts."""

METHOD = "fhs-garch"
LONGEST_WINDOW_DAYS, SHORTEST_WINDOW_DAYS = 1000, 250
LEAST_TESTED_DAYS = 100
UNNAMED = "PRICES"  # what a file without tickers is called
RECENT_DAYS = 250  # a year, as the traffic light counts


@dataclass(frozen=True)
class Backtest:
    """Tests of VaR and ES forecasts over some days.

    Args:
        method: How the forecasts were made, in words.
        level: Confidence level.
        first_date: First day tested, or "" where days have no dates.
        last_date: Last day tested, or "".
        n_days: Days tested.
        n_exceptions: Days whose loss was above VaR.
        mean_value_at_risk: Mean of the forecasts.
        tests: Each test's result.
        traffic_light: The supervisors' zone of the last 250 days.
        green_share: Share of all runs of 250 days in the green zone; None with fewer days.
        notes: What was not computed and why.
        losses: One a day, for a picture.
        value_at_risk: Forecast for the same days.
    """

    method: str
    level: float
    first_date: str
    last_date: str
    n_days: int
    n_exceptions: int
    mean_value_at_risk: float
    tests: tuple[BacktestResult, ...]
    traffic_light: TrafficLight
    green_share: float | None
    notes: tuple[str, ...] = ()
    losses: tuple[float, ...] = field(default=(), repr=False)
    value_at_risk: tuple[float, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only, keys in a stable order; the days themselves left out."""
        tests = [{**asdict(one), "rejects": rejects(one)} for one in self.tests]
        told = {**asdict(self), "losses": None, "value_at_risk": None}
        return {
            **{name: value for name, value in told.items() if value is not None},
            "green_share": self.green_share,
            "expected_exceptions": self.n_days * (1.0 - self.level),
            "significance": SIGNIFICANCE,
            "tests": tests,
            "notes": list(self.notes),
        }


def rejects(test: BacktestResult) -> bool:
    """Returns whether the test speaks against the forecasts."""
    return test.p_value < SIGNIFICANCE


def backtest_history(
    history: PriceHistory,
    *,
    level: float = 0.99,
    method: str = METHOD,
    days: int | None = None,
) -> Backtest:
    """Forecasts each day's VaR and ES from the days before it, and tests them.

    A forecast uses the last 1,000 returns, or fewer (250 at least) where the history is
    short; parameters are estimated anew every 20 days.

    Args:
        history: Prices up to the last day tested.
        level: Confidence level.
        method: A key of `kits.finance.risk.methods.METHODS`.
        days: Days to test, the last ones; None tests every day that a window precedes.

    Raises:
        TableError: The history is too short, the method is unknown, or the level leaves too
            few losses beyond it.
        ModelError: The volatility model could not be fitted.
    """
    from kits.finance.markets.volatility import log_returns
    from kits.finance.risk.rolling import roll_tail_risk

    returns = log_returns(history.close)
    window = min(LONGEST_WINDOW_DAYS, len(returns) - (days or LEAST_TESTED_DAYS))
    if window < SHORTEST_WINDOW_DAYS:
        raise TableError(
            f"prices of {history.ticker}",
            expected=f"{SHORTEST_WINDOW_DAYS + (days or LEAST_TESTED_DAYS) + 1} or more rows",
            found=f"{len(history.close)}",
            remedy="Give a longer history.",
        )
    if days is not None:
        returns = returns[-(window + days) :]
    rolled = roll_tail_risk(returns, method=method, level=level, window_days=window)
    dates = history.dates[-len(rolled.losses) :]
    return _tested(
        rolled.losses,
        rolled.value_at_risk,
        rolled.expected_shortfall,
        level=level,
        method=f"{rolled.method}, window {window} days",
        dates=(str(dates[0]), str(dates[-1])),
    )


def read_history(path: Path, *, ticker: str | None, as_of: date | None) -> PriceHistory:
    """Returns the history of one ticker in a price file.

    Args:
        path: CSV or Parquet.
        ticker: Which one; a file of a single ticker, or without any, needs none.
        as_of: Nothing later than this day is used.

    Raises:
        TableError: The file has several tickers and none is named, or cannot be used.
    """
    from kits.finance.markets.prices import read_prices

    table = read_prices(path)
    names = [UNNAMED] if table.positions is None else sorted(table.positions)
    if ticker is None and len(names) != 1:
        raise TableError(
            "price table",
            expected="one ticker, or the name of one",
            found=f"{len(names)} tickers",
            remedy="Name the ticker.",
        )
    return table.history(ticker or names[0], as_of=as_of)


def recent_backtest(history: PriceHistory, *, level: float) -> Backtest | None:
    """Returns the backtest of the last year, for a report.

    None where prices are too few, or a fit in the middle of them fails: a report without a
    backtest says so, and is still a report.
    """
    try:
        return backtest_history(history, level=level, days=RECENT_DAYS)
    except (ModelError, TableError):
        return None


def backtest_forecasts(
    losses: Sequence[float],
    value_at_risk: Sequence[float],
    expected_shortfall: Sequence[float] | None = None,
    *,
    level: float,
) -> Backtest:
    """Tests forecasts that someone else made; one entry a day, losses positive.

    Raises:
        TableError: The columns do not belong together, or are too short.
    """
    es = None if expected_shortfall is None else np.asarray(expected_shortfall, np.float64)
    return _tested(
        np.asarray(losses, np.float64),
        np.asarray(value_at_risk, np.float64),
        es,
        level=level,
        method="forecasts as given",
        dates=("", ""),
    )


def _tested(
    losses: np.ndarray[Any, np.dtype[np.float64]],
    value_at_risk: np.ndarray[Any, np.dtype[np.float64]],
    expected_shortfall: np.ndarray[Any, np.dtype[np.float64]] | None,
    *,
    level: float,
    method: str,
    dates: tuple[str, str],
) -> Backtest:
    from kits.finance.risk import backtests

    exceptions = backtests.exceptions_of(losses, value_at_risk)
    tests = [
        backtests.kupiec(exceptions, level=level),
        backtests.independence(exceptions, level=level),
        backtests.conditional_coverage(exceptions, level=level),
    ]
    notes = []
    try:
        tests.append(backtests.dynamic_quantile(exceptions, value_at_risk, level=level))
    except TableError as error:
        notes.append(f"No dynamic quantile test: {error.found}.")
    if expected_shortfall is None:
        notes.append("No test of expected shortfall: none was given.")
    else:
        tests += backtests.acerbi_szekely(losses, value_at_risk, expected_shortfall, level=level)
    enough = len(losses) >= backtests.WINDOW_DAYS
    if len(losses) * (1.0 - level) < 5:  # the usual bound for a chi-squared approximation
        notes.append(
            f"{len(losses) * (1.0 - level):.1f} exceptions are expected: so few days leave the "
            "p values coarse: a bad model is often not found, and the dynamic quantile test "
            "rejects too often."
        )
    return Backtest(
        method=method,
        level=level,
        first_date=dates[0],
        last_date=dates[1],
        n_days=len(losses),
        n_exceptions=int(exceptions.sum()),
        mean_value_at_risk=math.fsum(value_at_risk) / len(value_at_risk),
        tests=tuple(tests),
        traffic_light=backtests.traffic_light(exceptions, level=level),
        green_share=backtests.green_share(exceptions, level=level) if enough else None,
        notes=tuple(notes),
        losses=tuple(losses.tolist()),
        value_at_risk=tuple(value_at_risk.tolist()),
    )
