"""The leverage effect as regressors: what the returns of a day, week and month say of the next.

Arrays are `(T,)`, oldest first; position t holds what is known at the end of day t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from kits.finance.markets.har_regression import HAR_WINDOWS, trailing_means

__all__ = ["LEVERAGES", "Leverage", "leverage_regressors"]

Floats = npt.NDArray[np.float64]
Leverage = Literal["negative", "standardized"]

LEVERAGES: tuple[Leverage, ...] = ("negative", "standardized")


def leverage_regressors(
    returns: Floats,
    variance: Floats,
    kind: Leverage,
    *,
    windows: Sequence[int] = HAR_WINDOWS,
) -> Floats:
    """Returns for each window how prices moved in it.

    "negative": the mean of min(r, 0) over the window, as in the LHAR of Corsi and Renò (2012,
    "Discrete-time volatility forecasting with persistent leverage effect and the link with
    continuous-time volatility modeling", doi 10.1080/07350015.2012.663261). A crash moves it
    without bound, and in logs the forecast exponentially.

    "standardized": the return of the window over its realized volatility, sum r / sqrt(sum RV):
    a crash counts as much as a common fall that was as large beside the volatility of its days.

    Args:
        returns: `(T,)`, of each day from the close before, in any unit.
        variance: `(T,)`, realized variance above zero, in any unit.
        kind: "negative" or "standardized".
        windows: Days of each window.

    Returns:
        `(T, len(windows))`; NaN where fewer days have been seen.
    """
    if kind == "negative":
        return trailing_means(np.minimum(returns, 0.0), windows)
    lengths = np.asarray(windows, dtype=np.float64)
    volatility = np.sqrt(trailing_means(variance, windows) * lengths)
    return np.asarray(trailing_means(returns, windows) * lengths / volatility)
