"""Forecasts of many days in a row, each from a window of the days before it.

It is the backtest of the HAR forecasters: the regressors are computed once, and the forecast of
each day is exactly that of a forecaster which is fitted anew to what was known on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.har_regression import Estimation, direct_forecast, forward_mean

__all__ = ["rolling_forecasts"]

Floats = npt.NDArray[np.float64]


def rolling_forecasts(
    variance: Floats,
    regressors: Floats,
    origins: npt.NDArray[np.intp],
    *,
    horizon_days: int,
    training_pairs: int = 1000,
    logs: bool = False,
    estimation: Estimation = "ols",
    insanity_filter: bool = True,
) -> Floats:
    """Returns for each origin the forecast of the mean variance of the days after it.

    Args:
        variance: `(T,)`, realized variance, oldest first.
        regressors: `(T, k)`; row t holds what is known at the end of day t, and no row may
            depend on later days (but through a reparametrisation that no fit depends on).
        origins: `(n,)`, positions of the days at whose end a forecast is made.
        horizon_days: h; the target is the mean of days 1 to h after the origin.
        training_pairs: Latest pairs of regressors and targets that each fit uses; the target of
            the last one ends at the origin.
        logs: Regress the logarithm of the target.
        estimation: See `fit_linear`.
        insanity_filter: See `filter_insane`.

    Returns:
        `(n,)`.

    Raises:
        TableError: An origin has too few pairs before it, or a regressor is not finite.
    """
    ahead = forward_mean(variance, horizon_days)
    first = int(origins.min()) - horizon_days - training_pairs + 1
    if first < 0 or int(origins.max()) >= len(variance):
        raise TableError(
            "origins",
            expected=f"positions from {horizon_days + training_pairs - 1} to {len(variance) - 1}",
            found=f"{int(origins.min())} to {int(origins.max())}",
            remedy="Start later, or train on fewer pairs.",
        )
    used = regressors[first : int(origins.max()) + 1]
    if not np.isfinite(used).all():
        raise TableError(
            "regressors",
            expected=f"finite values from day {first} on",
            found=f"{int((~np.isfinite(used)).any(axis=1).sum())} days without",
            remedy="Start later: a mean over 22 days needs 22 days.",
        )
    target = np.log(ahead) if logs else ahead
    forecasts = np.empty(len(origins))
    for position, origin in enumerate(origins):
        last = int(origin) - horizon_days
        rows = slice(last - training_pairs + 1, last + 1)
        forecasts[position] = direct_forecast(
            regressors[rows],
            target[rows],
            regressors[origin],
            logs=logs,
            estimation=estimation,
            insanity_filter=insanity_filter,
        )
    return forecasts
