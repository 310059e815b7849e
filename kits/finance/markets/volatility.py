"""Volatility of daily prices: estimators, features and the label of the MAEC calls.

All volatilities are per day and in decimals (0.02 = 2% a day), never annualised; variances are
their squares. Arrays are `(T,)`, oldest first; a return at position t leads from close t to
close t + 1. What each estimator of a variance sees, and what biases it:

    close-to-close    night and day; drift where the mean is not taken out
    Parkinson         the day alone; drift biases it upwards
    Garman-Klass      the day alone; drift biases it
    Rogers-Satchell   the day alone; free of drift
    Yang-Zhang        night and day; free of drift, and of jumps at the opening

Prices seen at intervals miss part of the range: every range estimator lies low on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory

__all__ = [
    "close_to_close_variance",
    "daily_variance",
    "forward_log_volatility",
    "garman_klass_variance",
    "log_returns",
    "log_volatility",
    "parkinson_variance",
    "past_log_volatility",
    "realized_volatility",
    "rogers_satchell_variance",
    "simple_returns",
    "yang_zhang_variance",
]

Floats = npt.NDArray[np.float64]


def simple_returns(close: Floats) -> Floats:
    """Returns `close[1:] / close[:-1] - 1`, `(T - 1,)`."""
    return close[1:] / close[:-1] - 1.0


def log_returns(close: Floats) -> Floats:
    """Returns `ln(close[1:] / close[:-1])`, `(T - 1,)`."""
    return np.diff(np.log(close))


def log_volatility(returns: Floats, window: int) -> float:
    """Returns the log-volatility of the last `window` returns.

    `ln sqrt(mean_j (R_j - mean R)^2)`, with divisor `window`, as the labels of MAEC
    (Li et al. 2020, "MAEC: a multimodal aligned earnings conference call dataset").

    Raises:
        TableError: There are fewer returns, or all of them are equal.
    """
    if not 2 <= window <= len(returns):
        raise TableError(
            "price history",
            expected=f"{max(window, 2)} returns for a window of {window}",
            found=f"{len(returns)}",
            remedy="Give a longer history.",
        )
    deviation = float(np.std(returns[-window:]))
    if deviation == 0.0:
        raise TableError(
            "price history",
            expected=f"closes that move within {window} days",
            found="equal returns on all of them",
            remedy="Suspended or stale quotes have no volatility: give the traded prices.",
        )
    return float(np.log(deviation))


def past_log_volatility(history: PriceHistory, windows: Sequence[int] = (5, 22, 60, 250)) -> Floats:
    """Returns the log-volatility of simple returns over each window up to the last close.

    Equal to the columns `past_lv_w` of the open MAEC label file.

    Returns:
        `(len(windows),)`.

    Raises:
        TableError: The history is shorter than a window, or does not move in one.
    """
    returns = simple_returns(history.close)
    return np.array([log_volatility(returns, window) for window in windows])


def forward_log_volatility(
    close: Floats, day: int, *, window: int = 30, include_reaction: bool = False
) -> float:
    """Returns the log-volatility of the `window` simple returns after close `day`.

    It looks ahead: a label for training and evaluation, never a feature. MAEC's label skips
    the first return after the call, the reaction to it; `include_reaction` starts with it.

    Raises:
        TableError: There are too few closes after `day`, or they do not move.
    """
    first = day if include_reaction else day + 1
    returns = simple_returns(close)[first : first + window]
    return log_volatility(returns, window)


def realized_volatility(returns: Floats, window: int) -> Floats:
    """Returns the close-to-close volatility of each run of `window` returns.

    `sqrt(mean_j (r_j - mean r)^2)`.

    Returns:
        `(len(returns) - window + 1,)`; entry i covers returns i to i + window - 1.
    """
    runs = np.lib.stride_tricks.sliding_window_view(returns, window)
    return np.asarray(runs.std(axis=-1), dtype=np.float64)


def close_to_close_variance(close: Floats) -> float:
    """Returns the variance of the daily log returns, `sum_j (r_j - mean r)^2 / (n - 1)`.

    The classical estimator, unbiased also with drift; night and day together.

    Raises:
        TableError: There are fewer than three closes.
    """
    _refuse_few_days(len(close), at_least=3)
    return float(np.var(log_returns(close), ddof=1))


def parkinson_variance(high: Floats, low: Floats) -> Floats:
    """Returns the range estimate of a day's variance, `ln(high / low)^2 / (4 ln 2)`.

    Parkinson (1980), "The extreme value method for estimating the variance of the rate of
    return". It sees the trading day only, not the night before.
    """
    return np.asarray(np.log(high / low) ** 2 / (4.0 * np.log(2.0)))


def garman_klass_variance(open: Floats, high: Floats, low: Floats, close: Floats) -> Floats:  # noqa: A002
    """Returns `ln(high/low)^2 / 2 - (2 ln 2 - 1) ln(close/open)^2` for each day.

    Garman and Klass (1980), "On the estimation of security price volatilities from historical
    data", their practical estimator. Never negative where open and close lie within low to
    high. It sees the trading day only, not the night before.
    """
    return np.asarray(
        0.5 * np.log(high / low) ** 2 - (2.0 * np.log(2.0) - 1.0) * np.log(close / open) ** 2
    )


def rogers_satchell_variance(open: Floats, high: Floats, low: Floats, close: Floats) -> Floats:  # noqa: A002
    """Returns `ln(high/close) ln(high/open) + ln(low/close) ln(low/open)` for each day.

    Rogers and Satchell (1991), "Estimating variance from high, low and closing prices", doi
    10.1214/aoap/1177005835. Unbiased whatever the drift, and never negative where open and close
    lie within low to high. It sees the trading day only, not the night before.
    """
    up = np.log(high / close) * np.log(high / open)
    down = np.log(low / close) * np.log(low / open)
    return np.asarray(up + down)


def yang_zhang_variance(open: Floats, high: Floats, low: Floats, close: Floats) -> float:  # noqa: A002
    """Returns the variance of a day, from its night, its open-to-close return and its range.

    `V_night + k V_session + (1 - k) mean V_RS` over the n days after the first, V_night and
    V_session the variances (divisor n - 1) of ln(open / previous close) and ln(close / open), V_RS
    Rogers-Satchell, k = 0.34 / (1.34 + (n + 1) / (n - 1)). Yang and Zhang (2000),
    "Drift-independent volatility estimation based on high, low, open, and close prices", doi
    10.1086/209650. Unbiased with drift and with jumps at the opening.

    Raises:
        TableError: There are fewer than three days.
    """
    _refuse_few_days(len(close), at_least=3)
    n = len(close) - 1
    night = np.log(open[1:] / close[:-1])
    session = np.log(close[1:] / open[1:])
    ranged = rogers_satchell_variance(open[1:], high[1:], low[1:], close[1:])
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    return float(np.var(night, ddof=1) + k * np.var(session, ddof=1) + (1.0 - k) * np.mean(ranged))


def daily_variance(history: PriceHistory) -> Floats:
    """Returns a proxy of the variance from each close to the next, `(T - 1,)`.

    Squared overnight return plus Garman-Klass where the day's bar is whole; squared overnight-
    and-day return where it is not; days without a move give zero.
    """
    squared = log_returns(history.close) ** 2
    if history.open is None or history.high is None or history.low is None:
        return squared
    overnight = np.log(history.open[1:] / history.close[:-1]) ** 2
    session = garman_klass_variance(
        history.open[1:], history.high[1:], history.low[1:], history.close[1:]
    )
    whole = overnight + np.maximum(session, 0.0)  # rounding of flat bars
    return np.where(np.isfinite(whole), whole, squared)


def _refuse_few_days(n_days: int, *, at_least: int) -> None:
    if n_days < at_least:
        raise TableError(
            "price history",
            expected=f"{at_least} days or more",
            found=f"{n_days}",
            remedy="Give a longer history.",
        )
