"""The panel's models one company at a time, as `arch` gives them, and its fits held to theirs.

GARCH and GJR with Student's t: `arch_model(...).fit()` and its analytic variance forecast. HAR:
`arch.univariate.HARX` on the log of the daily variance, iterated. EWMA: `ZeroMean` with
`EWMAVariance(0.94)`. sktime has no HAR, and its `ARCH` wraps `arch`: it is timed for GARCH.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kits.finance.markets.garch_fit import PERCENT, FittedGarch
from kits.finance.markets.log_variance import log_daily_variance
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import log_returns

__all__ = ["PEERS", "Agreement", "agreement", "har_difference", "sktime_arch"]

Floats = npt.NDArray[np.float64]

HAR_LAGS = (1, 5, 22)
_TIGHT = 1e-13  # SLSQP's tolerance when arch's own optimum is polished
_SAME = 1e-8  # relative: two likelihoods nearer than this are one maximum


@dataclass(frozen=True)
class Agreement:
    """One company's fit beside `arch`'s; differences are relative, ours less theirs.

    Args:
        over_default: Of the log-likelihood, to `arch` as it is called.
        over_polished: To `arch` started again from its own optimum at a tolerance of 1e-13.
        forecast_default: Largest over the days, to `arch` as it is called.
        forecast_polished: To the polished fit.
        forecast_fixed: To `arch`'s forecast at our parameters.
    """

    over_default: float
    over_polished: float
    forecast_default: float
    forecast_polished: float
    forecast_fixed: float

    @property
    def is_higher(self) -> bool:
        """Whether `arch`'s polished search ended below our likelihood: another maximum."""
        return self.over_polished > _SAME


def _garch_model(history: PriceHistory, *, asymmetric: bool) -> Any:
    from arch import arch_model

    returns = PERCENT * log_returns(history.close)
    return arch_model(
        returns, mean="Constant", p=1, o=int(asymmetric), q=1, dist="t", rescale=False
    )


def _variance(result: Any, horizon_days: int) -> Floats:
    ahead = result.forecast(horizon=horizon_days, reindex=False)
    return np.asarray(ahead.variance.to_numpy()[-1], dtype=np.float64)


def garch(history: PriceHistory, horizon_days: int) -> Floats:
    """Returns arch's variance forecast of GARCH(1,1)-t, `(horizon_days,)`, in percent squared."""
    fitted = _garch_model(history, asymmetric=False).fit(disp="off", show_warning=False)
    return _variance(fitted, horizon_days)


def gjr(history: PriceHistory, horizon_days: int) -> Floats:
    """Returns arch's variance forecast of GJR(1,1,1)-t."""
    fitted = _garch_model(history, asymmetric=True).fit(disp="off", show_warning=False)
    return _variance(fitted, horizon_days)


def har(history: PriceHistory, horizon_days: int) -> Floats:
    """Returns arch's iterated HAR forecast of log variance."""
    from arch.univariate import HARX

    fitted = HARX(log_daily_variance(history), lags=list(HAR_LAGS)).fit(disp="off")
    mean = fitted.forecast(horizon=horizon_days, reindex=False).mean
    return np.asarray(mean.to_numpy()[-1], dtype=np.float64)


def ewma(history: PriceHistory, horizon_days: int) -> Floats:
    """Returns arch's EWMA variance forecast."""
    from arch.univariate import EWMAVariance, ZeroMean

    model = ZeroMean(PERCENT * log_returns(history.close), volatility=EWMAVariance(0.94))
    return _variance(model.fit(disp="off"), horizon_days)


PEERS: Mapping[str, Callable[[PriceHistory, int], Floats]] = {
    "ewma": ewma,
    "garch": garch,
    "gjr": gjr,
    "har": har,
}
"""The panel's model to what `arch` does for one company."""


def sktime_arch(history: PriceHistory, horizon_days: int) -> None:
    """Fits sktime's ARCH as GARCH(1,1)-t and predicts; its predictions are of the mean."""
    import pandas as pd
    from sktime.forecasting.arch import ARCH

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sktime's, of changes to come
        model = ARCH(mean="Constant", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        model.fit(pd.Series(PERCENT * log_returns(history.close)))
        model.predict(fh=list(range(1, horizon_days + 1)))


def agreement(history: PriceHistory, ours: FittedGarch, horizon_days: int) -> Agreement:
    """Holds one GARCH or GJR fit of the panel against arch's."""
    described = _garch_model(history, asymmetric=ours.model == "gjr")
    default = described.fit(disp="off", show_warning=False)
    polished = described.fit(
        disp="off",
        show_warning=False,
        tol=_TIGHT,
        starting_values=default.params.to_numpy(),
        options={"maxiter": 1000},
    )
    fixed = described.fix(list(ours.parameters.values()))
    in_percent = ours.log_likelihood - len(ours.standardized_residuals) * np.log(PERCENT)
    path = PERCENT**2 * ours.expected_variance(horizon_days)
    forecasts = [
        float(np.abs(path / _variance(result, horizon_days) - 1.0).max())
        for result in (default, polished, fixed)
    ]
    over = [
        float((in_percent - result.loglikelihood) / abs(result.loglikelihood))
        for result in (default, polished)
    ]
    return Agreement(over[0], over[1], *forecasts)


def har_difference(history: PriceHistory, point: Floats, horizon_days: int) -> float:
    """Returns the largest difference of forecasts of ln v, which is a relative one of v."""
    return float(np.abs(har(history, horizon_days) - point[:horizon_days]).max())
