"""Volatility of daily prices: estimators, features and the label of the MAEC calls.

All volatilities are per day and in decimals (0.02 = 2% a day), never annualised. Arrays are
`(T,)`, oldest first; a return at position t leads from close t to close t + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory

__all__ = [
    "daily_variance",
    "forward_log_volatility",
    "garman_klass_variance",
    "log_returns",
    "log_volatility",
    "parkinson_variance",
    "past_log_volatility",
    "realized_volatility",
    "simple_returns",
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
