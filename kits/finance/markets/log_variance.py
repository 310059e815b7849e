"""Models that are linear in the log of the daily variance: HAR, and the baselines ETS and ARIMA.

    ln v_{T+h} = point_h + e_{T+h} + psi_1 e_{T+h-1} + ... + psi_{h-1} e_{T+1}

Whatever the model, its future is a point forecast and the weights psi by which a shock lives
on. Shocks are drawn again from the residuals, so no distribution is assumed, and expectations
follow exactly: E exp(psi e) is the mean over the residuals (Duan 1983, the smearing estimate).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from kits.finance.markets.har_regression import HAR_WINDOWS, fit_linear, har_regressors
from kits.finance.markets.paths import (
    MAXIMUM_FIT_DAYS,
    MAXIMUM_HORIZON_DAYS,
    N_PATHS,
    VolatilityPaths,
    still_prices,
)
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import daily_variance

__all__ = [
    "FittedHAR",
    "FittedLogVariance",
    "fit_arima",
    "fit_ets",
    "fit_har",
    "har_future",
    "log_daily_variance",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedLogVariance:
    """A linear model of ln v; see the file's head.

    Args:
        point: `(250,)`, forecasts of ln v.
        psi: `(250,)`, from psi_0 = 1.
        residuals: `(n,)`, e in the sample.
    """

    point: Floats
    psi: Floats
    residuals: Floats

    def expected_variance(self, horizon_days: int) -> Floats:
        """Returns E v of each coming day, `(horizon_days,)`."""
        factors = np.exp(np.outer(self.psi[:horizon_days], self.residuals)).mean(axis=1)
        return np.asarray(np.exp(self.point[:horizon_days]) * np.cumprod(factors))

    def simulate(self, horizon_days: int, *, seed: int) -> VolatilityPaths:
        """Returns paths; the conditional variance of a day is E v given the shocks before it."""
        rng = np.random.default_rng(seed)
        shocks = rng.choice(self.residuals, (N_PATHS, horizon_days))
        lags = np.arange(horizon_days)[None, :] - np.arange(horizon_days)[:, None]
        earlier = np.where(lags > 0, self.psi[np.maximum(lags, 0)], 0.0)  # [shock day, day]
        expected = self.point[:horizon_days] + shocks @ earlier
        smearing = float(np.mean(np.exp(self.residuals)))
        return VolatilityPaths(
            conditional_volatility=np.sqrt(np.exp(expected) * smearing),
            variance=np.exp(expected + shocks),
            expected_variance=self.expected_variance(horizon_days),
        )


@dataclass(frozen=True, eq=False)
class FittedHAR(FittedLogVariance):
    """ln v_t = c + b_1 m_1 + b_5 m_5 + b_22 m_22 + e, m_w the mean of ln v over w days.

    Args:
        point: See `FittedLogVariance`; so are `psi` and `residuals`.
        coefficients: `(4,)`: c, b_1, b_5, b_22.
        last: `(22,)`, the latest values of ln v, oldest first.
    """

    coefficients: Floats
    last: Floats


def log_daily_variance(history: PriceHistory) -> Floats:
    """Returns the log of the daily variance of the last 2,500 days.

    A day without any move has no logarithm: it takes the smallest variance of the sample.

    Raises:
        TableError: The prices do not move on half of the days.
    """
    variance = daily_variance(history)[-MAXIMUM_FIT_DAYS:]
    moving = variance[variance > 0]
    if len(moving) < len(variance) / 2:
        raise still_prices(f"{len(variance) - len(moving)} of {len(variance)} days without a move")
    return np.asarray(np.log(np.maximum(variance, moving.min())))


def fit_har(history: PriceHistory) -> FittedHAR:
    """Fits the HAR of log daily variance by least squares (Corsi 2009, in logs).

    Raises:
        TableError: The prices do not move.
    """
    logs = log_daily_variance(history)
    regressors = har_regressors(logs)[HAR_WINDOWS[-1] - 1 : -1]
    target = logs[HAR_WINDOWS[-1] :]
    coefficients = fit_linear(regressors, target)
    last = logs[-HAR_WINDOWS[-1] :]
    point, psi = har_future(coefficients, last)
    return FittedHAR(
        point=point,
        psi=psi,
        residuals=target - regressors @ coefficients,
        coefficients=coefficients,
        last=last,
    )


def har_future(coefficients: Floats, last: Floats) -> tuple[Floats, Floats]:
    """Returns `point` and `psi` of a HAR, each `(..., 250)`, by its AR(22) form.

    Args:
        coefficients: `(..., 4)`: c, b_1, b_5, b_22; leading axes are companies.
        last: `(..., 22)`, the latest values, oldest first.
    """
    longest, companies = HAR_WINDOWS[-1], last.shape[:-1]
    phi = np.zeros_like(last)  # of lags 22 .. 1, oldest first as the values are
    for window, b in zip(HAR_WINDOWS, np.moveaxis(coefficients, -1, 0)[1:], strict=True):
        phi[..., -window:] += b[..., None] / window
    values = np.concatenate([last, np.empty((*companies, MAXIMUM_HORIZON_DAYS))], axis=-1)
    psi = np.zeros_like(values)
    psi[..., longest - 1] = 1.0
    for day in range(MAXIMUM_HORIZON_DAYS):
        run = slice(day, day + longest)
        values[..., day + longest] = coefficients[..., 0] + (phi * values[..., run]).sum(axis=-1)
        psi[..., day + longest] = (phi * psi[..., run]).sum(axis=-1)
    return values[..., longest:], psi[..., longest - 1 : -1]


def fit_ets(history: PriceHistory) -> FittedLogVariance:
    """Fits ETS(A,N,N) of log daily variance: exponential smoothing with an estimated weight.

    Hyndman, Koehler, Ord and Snyder (2008), "Forecasting with exponential smoothing".

    Raises:
        TableError: The prices do not move.
        ModelError: The optimiser found no maximum.
    """
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    fitted = _quietly("ETS fit", ETSModel(log_daily_variance(history), error="add"))
    alpha = float(fitted.smoothing_level)
    return FittedLogVariance(
        point=np.asarray(fitted.forecast(MAXIMUM_HORIZON_DAYS), dtype=np.float64),
        psi=np.concatenate([[1.0], np.full(MAXIMUM_HORIZON_DAYS - 1, alpha)]),
        residuals=np.asarray(fitted.resid, dtype=np.float64),
    )


def fit_arima(history: PriceHistory) -> FittedLogVariance:
    """Fits ARIMA(1,0,1) with a mean to log daily variance: an AR(1) seen through noise.

    Raises:
        TableError: The prices do not move.
        ModelError: The optimiser found no maximum.
    """
    from statsmodels.tsa.arima.model import ARIMA

    fitted = _quietly("ARIMA fit", ARIMA(log_daily_variance(history), order=(1, 0, 1), trend="c"))
    ar, ma = float(fitted.arparams[0]), float(fitted.maparams[0])
    later = (ar + ma) * ar ** np.arange(MAXIMUM_HORIZON_DAYS - 1)
    return FittedLogVariance(
        point=np.asarray(fitted.forecast(MAXIMUM_HORIZON_DAYS), dtype=np.float64),
        psi=np.concatenate([[1.0], later]),
        residuals=np.asarray(fitted.resid, dtype=np.float64)[1:],  # the first is of the mean
    )


def _quietly(subject: str, model: Any) -> Any:
    """Fits a statsmodels model; what it would warn of becomes an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = model.fit(disp=False) if subject.startswith("ETS") else model.fit()
    failed = [w for w in caught if w.category.__name__ == "ConvergenceWarning"]
    if failed or not np.isfinite(fitted.llf):
        raise ModelError(
            subject,
            expected="a maximum of the likelihood",
            found="none",
            remedy="Take the model har, which has a closed form, or give a longer history.",
        )
    return fitted
