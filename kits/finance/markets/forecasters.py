"""Volatility forecasts with quantiles: HAR and GARCH(1,1) with Student's t, by simulation.

All volatilities are per day and in decimals (0.02 = 2% a day). The daily fan holds the
quantiles of the *conditional* volatility along simulated paths; the period figures are those
of the volatility that the simulated days then have together, sqrt(mean variance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import daily_variance, log_returns

__all__ = [
    "FittedGarch",
    "FittedHAR",
    "VolatilityForecast",
    "fit_garch",
    "fit_har",
    "forecast_volatility",
]

Floats = npt.NDArray[np.float64]

QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
N_PATHS = 4000
MAXIMUM_FIT_DAYS = 2500  # about ten years: older regimes say little about the next month
PERCENT = 100.0  # arch's optimiser wants returns near 1, hence in percent
HAR_WINDOWS = (1, 5, 22)  # day, week, month of trading (Corsi 2009)


@dataclass(frozen=True, eq=False)
class VolatilityForecast:
    """What a model expects of the next days.

    Args:
        model: "har" or "garch".
        horizon_days: Trading days ahead, `horizon`.
        quantile_levels: Levels of the quantiles, rising, `n_levels`.
        daily_volatility_quantiles: `(horizon, n_levels)`, of each day's conditional volatility.
        period_volatility_quantiles: `(n_levels,)`, of the volatility over the whole horizon.
        period_volatility_mean: Its mean.
    """

    model: str
    horizon_days: int
    quantile_levels: tuple[float, ...]
    daily_volatility_quantiles: Floats
    period_volatility_quantiles: Floats
    period_volatility_mean: float


@dataclass(frozen=True, eq=False)
class FittedHAR:
    """ln v_t = c + b_1 m_1 + b_5 m_5 + b_22 m_22 + e, m_w the mean of ln v over w days.

    Args:
        coefficients: `(4,)`: c, b_1, b_5, b_22.
        residuals: `(n,)`, e in the sample.
        last: `(22,)`, the latest values of ln v, oldest first.
    """

    coefficients: Floats
    residuals: Floats
    last: Floats


@dataclass(frozen=True, eq=False)
class FittedGarch:
    """r_t = mu + s_t z_t, s_t^2 = omega + alpha (r_{t-1} - mu)^2 + beta s_{t-1}^2, z ~ t(nu).

    Args:
        mean: mu, a day's log return, decimal.
        next_volatility: s of the day after the last close, decimal.
        standardized_residuals: `(n,)`, z in the sample.
        parameters: mu, omega, alpha[1], beta[1] and nu of returns in percent.
        result: arch's own result object.
    """

    mean: float
    next_volatility: float
    standardized_residuals: Floats
    parameters: dict[str, float]
    result: Any


def forecast_volatility(
    history: PriceHistory,
    *,
    horizon_days: int = 30,
    quantile_levels: Sequence[float] = QUANTILE_LEVELS,
    model: Literal["har", "garch"] = "har",
    seed: int = 0,
) -> VolatilityForecast:
    """Forecasts volatility by simulating 4,000 paths; equal seeds give equal forecasts.

    Args:
        history: Prices up to the day of the forecast.
        horizon_days: Trading days ahead, 1 to 250.
        quantile_levels: Levels between 0 and 1, rising.
        model: "har" (Corsi 2009, "A simple approximate long-memory model of realized
            volatility", in logs) or "garch" (Bollerslev 1987, with Student's t).
        seed: Seed of the simulation.

    Raises:
        TableError: Model, horizon or levels are out of bounds, or the prices do not move.
        ModelError: The likelihood of the GARCH model has no maximum that could be found.
    """
    levels = np.asarray(quantile_levels, dtype=np.float64)
    rising = bool(np.all(np.diff(levels) > 0)) and bool(np.all((levels > 0) & (levels < 1)))
    if (
        model not in ("har", "garch")
        or not 1 <= horizon_days <= 250
        or not levels.size
        or not rising
    ):
        raise TableError(
            "volatility forecast",
            expected="model har or garch, 1 to 250 days, rising levels between 0 and 1",
            found=f"model {model}, {horizon_days} days, levels {list(quantile_levels)}",
            remedy="Correct model, horizon_days or quantile_levels.",
        )
    rng = np.random.default_rng(seed)
    if model == "har":
        conditional, variance = _simulate_har(fit_har(history), horizon_days, rng)
    else:
        conditional, variance = _simulate_garch(fit_garch(history), horizon_days, seed)
    period = np.sqrt(variance.mean(axis=1))  # (n_paths,)
    return VolatilityForecast(
        model=model,
        horizon_days=horizon_days,
        quantile_levels=tuple(float(level) for level in levels),
        daily_volatility_quantiles=np.quantile(conditional, levels, axis=0).T,
        period_volatility_quantiles=np.quantile(period, levels),
        period_volatility_mean=float(period.mean()),
    )


def fit_har(history: PriceHistory) -> FittedHAR:
    """Fits the HAR of log daily variance by least squares to the last 2,500 days.

    A day without any move has no logarithm: it takes the smallest variance of the sample.

    Raises:
        TableError: The prices do not move.
    """
    import statsmodels.api as sm

    variance = daily_variance(history)[-MAXIMUM_FIT_DAYS:]
    moving = variance[variance > 0]
    if len(moving) < len(variance) / 2:
        raise _still_prices(f"{len(variance) - len(moving)} of {len(variance)} days without a move")
    logs = np.log(np.maximum(variance, moving.min()))
    longest = HAR_WINDOWS[-1]
    regressors = sm.add_constant(
        np.column_stack([_trailing_mean(logs, w)[longest - w : -1] for w in HAR_WINDOWS])
    )
    fitted = sm.OLS(logs[longest:], regressors).fit()
    return FittedHAR(
        coefficients=np.asarray(fitted.params, dtype=np.float64),
        residuals=np.asarray(fitted.resid, dtype=np.float64),
        last=logs[-longest:],
    )


def fit_garch(history: PriceHistory) -> FittedGarch:
    """Fits GARCH(1,1) with Student's t by maximum likelihood to the last 2,500 log returns.

    Raises:
        TableError: The prices do not move.
        ModelError: The optimiser found no maximum.
    """
    from arch import arch_model

    returns = PERCENT * log_returns(history.close)[-MAXIMUM_FIT_DAYS:]
    if np.std(returns) == 0:
        raise _still_prices("equal returns on all days")
    model = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    result = model.fit(disp="off", show_warning=False)
    if result.convergence_flag != 0:
        raise ModelError(
            "GARCH(1,1) fit",
            expected="a maximum of the likelihood",
            found=f"none (optimiser status {result.convergence_flag})",
            remedy="Check the prices for filled-in or erroneous values, or give a longer history.",
        )
    ahead = result.forecast(horizon=1, reindex=False)
    return FittedGarch(
        mean=float(result.params["mu"]) / PERCENT,
        next_volatility=float(np.sqrt(ahead.variance.to_numpy()[-1, 0])) / PERCENT,
        standardized_residuals=np.asarray(result.std_resid, dtype=np.float64),
        parameters={name: float(value) for name, value in result.params.items()},
        result=result,
    )


def _simulate_har(
    fitted: FittedHAR, horizon: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Returns conditional volatility and variance of each path and day, `(N_PATHS, horizon)`.

    Residuals are drawn with replacement from the sample, so no distribution is assumed;
    E[v] = exp(m) E[exp(e)] (Duan 1983, the smearing estimate).
    """
    smearing = float(np.mean(np.exp(fitted.residuals)))
    logs = np.tile(fitted.last, (N_PATHS, 1))  # (N_PATHS, 22 + days so far)
    conditional = np.empty((N_PATHS, horizon))
    for day in range(horizon):
        means = np.column_stack([logs[:, -w:].mean(axis=1) for w in HAR_WINDOWS])
        expected = fitted.coefficients[0] + means @ fitted.coefficients[1:]
        conditional[:, day] = np.sqrt(np.exp(expected) * smearing)
        drawn = expected + rng.choice(fitted.residuals, N_PATHS)
        logs = np.column_stack([logs, drawn])
    return conditional, np.exp(logs[:, -horizon:])


def _simulate_garch(fitted: FittedGarch, horizon: int, seed: int) -> tuple[Floats, Floats]:
    """Returns conditional volatility and squared shocks of each path and day."""
    from arch.univariate import StudentsT

    # arch's own random_state does not reach the simulation: the draws are seeded here.
    draws = StudentsT(seed=np.random.RandomState(seed)).simulate([fitted.parameters["nu"]])
    simulated = fitted.result.forecast(
        horizon=horizon,
        method="simulation",
        simulations=N_PATHS,
        reindex=False,
        rng=draws,
    ).simulations
    variance = np.asarray(simulated.residual_variances[-1], dtype=np.float64)
    shocks = np.asarray(simulated.residuals[-1], dtype=np.float64)
    return np.sqrt(variance) / PERCENT, shocks**2 / PERCENT**2


def _trailing_mean(values: Floats, window: int) -> Floats:
    """Returns the mean of each run of `window` values, `(len(values) - window + 1,)`."""
    runs = np.lib.stride_tricks.sliding_window_view(values, window)
    return np.asarray(runs.mean(axis=-1), dtype=np.float64)


def _still_prices(found: str) -> TableError:
    return TableError(
        "price history",
        expected="prices that move",
        found=found,
        remedy="Suspended or filled-in quotes have no volatility: give the traded prices.",
    )
