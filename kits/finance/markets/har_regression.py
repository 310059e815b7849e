"""The regressions behind the HAR models: regressors, targets, fits, quantiles, the filter.

Arrays are `(T,)`, oldest first; position t holds what is known at the end of day t. A target
at t lies after t. Variances may have any unit: every step here is equivariant to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = [
    "HAR_WINDOWS",
    "Estimation",
    "direct_forecast",
    "filter_insane",
    "fit_linear",
    "forward_mean",
    "har_regressors",
    "quantile_coefficients",
    "rearrange_quantiles",
    "smearing_factor",
    "trailing_means",
]

Floats = npt.NDArray[np.float64]
Estimation = Literal["ols", "wls", "huber"]

HAR_WINDOWS = (1, 5, 22)
"""Day, week and month of trading (Corsi 2009)."""


def trailing_means(values: Floats, windows: Sequence[int] = HAR_WINDOWS) -> Floats:
    """Returns the mean of the last w values at each day, for each window w.

    Returns:
        `(T, len(windows))`; NaN where fewer than w values have been seen.
    """
    means = np.full((len(values), len(windows)), np.nan)
    for column, window in enumerate(windows):
        if len(values) >= window:
            runs = np.lib.stride_tricks.sliding_window_view(values, window)
            means[window - 1 :, column] = runs.mean(axis=-1)
    return means


def forward_mean(values: Floats, horizon_days: int, *, first_day: int = 1) -> Floats:
    """Returns the mean of the values `first_day` to `horizon_days` days after each day.

    Returns:
        `(T,)`; NaN where the days ahead are not all there.
    """
    days = horizon_days - first_day + 1
    ahead = np.full(len(values), np.nan)
    if len(values) > horizon_days:
        runs = np.lib.stride_tricks.sliding_window_view(values[first_day:], days)
        ahead[: len(runs)] = runs.mean(axis=-1)
    return ahead


def har_regressors(
    variance: Floats,
    *,
    windows: Sequence[int] = HAR_WINDOWS,
    logs: bool = False,
    quarticity: Floats | None = None,
    quarticity_windows: Sequence[int] = (1,),
) -> Floats:
    """Returns the regressors of HAR, or with a quarticity those of HARQ.

    HAR (Corsi 2009, doi 10.1093/jjfinec/nbp001): a constant and the means RV_w of the variance
    over each window; in logs, ln RV_w (Andersen, Bollerslev and Diebold 2007, doi
    10.1162/rest.89.4.701). HARQ (Bollerslev, Patton and Quaedvlieg 2016, doi
    10.1016/j.jeconom.2015.10.007) adds, for each quarticity window, (RQ_w^(1/2) - its mean) RV_w:
    a day that was measured badly counts less. In logs the error of ln RV has the standard
    deviation of RQ^(1/2) / RV but for a constant (delta method); what is added is
    (RQ_w^(1/2) / RV_w - its mean) (ln RV_w - ln RV_longest): the worse the measurement, the more
    weight passes from the day to the month. Without any constraint on coefficients a fit does not
    depend on the means that are taken out.

    Args:
        variance: `(T,)`, realized variance; positive where `logs`.
        windows: Days of each mean, rising.
        logs: Regress logarithms.
        quarticity: `(T,)`, realized quarticity, zero or more.
        quarticity_windows: Which windows interact with it: `(1,)` is HARQ, all of them HARQ-F;
            in logs all but the longest.

    Returns:
        `(T, 1 + len(windows) [+ len(quarticity_windows)])`; the first `windows[-1] - 1` rows
        hold NaN.
    """
    means = trailing_means(variance, windows)
    columns = [np.ones(len(variance)), *(np.log(means) if logs else means).T]
    if quarticity is not None:
        averages = trailing_means(variance, quarticity_windows).T
        roots = np.sqrt(trailing_means(quarticity, quarticity_windows)).T
        for average, root in zip(averages, roots, strict=True):
            noise = root / average if logs else root
            level = np.log(average / means[:, -1]) if logs else average
            columns.append((noise - np.nanmean(noise)) * level)
    regressors = np.column_stack(columns)
    regressors[: max(windows) - 1] = np.nan
    return regressors


def fit_linear(regressors: Floats, target: Floats, estimation: Estimation = "ols") -> Floats:
    """Returns the coefficients of a linear regression.

    Args:
        regressors: `(n, k)`.
        target: `(n,)`.
        estimation: "ols"; "wls", weights 1 / fitted values of a first OLS, which are kept above
            the smallest positive target (as Patton and Sheppard 2015, doi
            10.1162/REST_a_00503: the error of a variance grows with its level); "huber",
            Huber's M-estimator, tuned to 95% efficiency (Huber 1964, doi 10.1214/aoms/1177703732).

    Returns:
        `(k,)`. Of collinear regressors the solution with the least norm.
    """
    if estimation == "huber":
        import statsmodels.api as sm

        fitted = sm.RLM(target, regressors, M=sm.robust.norms.HuberT()).fit()
        return np.asarray(fitted.params, dtype=np.float64)
    coefficients = _least_squares(regressors, target)
    if estimation == "wls":
        positive = target[target > 0]
        floor = positive.min() if len(positive) else 1.0
        root = 1.0 / np.sqrt(np.maximum(regressors @ coefficients, floor))
        coefficients = _least_squares(regressors * root[:, np.newaxis], target * root)
    return coefficients


def _least_squares(regressors: Floats, target: Floats) -> Floats:
    scale = np.sqrt(np.mean(regressors**2, axis=0))
    scale[scale == 0.0] = 1.0
    found = np.linalg.lstsq(regressors / scale, target, rcond=None)[0] / scale
    return np.asarray(found, dtype=np.float64)


def direct_forecast(
    regressors: Floats,
    target: Floats,
    latest: Floats,
    *,
    logs: bool = False,
    estimation: Estimation = "ols",
    insanity_filter: bool = True,
) -> float:
    """Returns the mean that a regression expects from the latest regressors.

    Args:
        regressors: `(n, k)`, of the days that are fitted.
        target: `(n,)`, what followed them; its logarithm in logs.
        latest: `(k,)`, of the day of the forecast.
        logs: The target is a logarithm: the mean is exp(m) times `smearing_factor`.
        estimation: See `fit_linear`.
        insanity_filter: See `filter_insane`.
    """
    coefficients = fit_linear(regressors, target, estimation)
    forecast = float(latest @ coefficients)
    if logs:
        forecast = float(np.exp(forecast)) * smearing_factor(target - regressors @ coefficients)
        target = np.exp(target)
    return filter_insane(forecast, target) if insanity_filter else forecast


def smearing_factor(residuals: Floats) -> float:
    """Returns mean exp(e): E[v] = exp(m) E[exp(e)] for ln v = m + e.

    Duan (1983), "Smearing estimate: a nonparametric retransformation method", doi
    10.1080/01621459.1983.10478017.
    """
    return float(np.mean(np.exp(residuals)))


def filter_insane(forecast: float, sample: Floats) -> float:
    """Returns the forecast, or the sample's mean where it lies outside the sample's range.

    The "insanity filter" of Bollerslev, Patton and Quaedvlieg (2016), after Swanson and White
    (1997): a linear model may forecast a negative variance, or one never seen. For the mean of
    several days the sample holds such means: their range is narrower than that of single days.
    """
    sane = bool(sample.min() <= forecast <= sample.max())
    return float(forecast) if sane else float(sample.mean())


def quantile_coefficients(regressors: Floats, target: Floats, level: float) -> Floats:
    """Returns the coefficients of the linear quantile regression at a level.

    Koenker and Bassett (1978), doi 10.2307/1913643: the minimum of sum rho_level(y - X b), found
    exactly as the dual linear programme max y'd, X'd = (1 - level) X'1, 0 <= d <= 1.

    Args:
        regressors: `(n, k)`.
        target: `(n,)`.
        level: Between 0 and 1.

    Raises:
        TableError: A regressor or target is not finite, or the programme was not solved.
    """
    from scipy.optimize import linprog

    if not (np.isfinite(regressors).all() and np.isfinite(target).all()):
        raise _unsolved("values that are not finite")
    scale = np.sqrt(np.mean(regressors**2, axis=0))
    scale[scale == 0.0] = 1.0
    unit = float(np.std(target)) or 1.0
    scaled = regressors / scale
    found = linprog(
        -target / unit,
        A_eq=scaled.T,
        b_eq=(1.0 - level) * scaled.sum(axis=0),
        bounds=(0.0, 1.0),
        method="highs",
    )
    if found.eqlin is None or found.status != 0:
        raise _unsolved(f"a linear programme without solution (status {found.status})")
    return np.asarray(-found.eqlin.marginals * unit / scale, dtype=np.float64)


def _unsolved(found: str) -> TableError:
    return TableError(
        "quantile regression",
        expected="finite regressors and targets",
        found=found,
        remedy="Give more days, and a series that moves.",
    )


def rearrange_quantiles(quantiles: Floats) -> Floats:
    """Returns the quantiles of rising levels in rising order, so that none cross.

    Monotone rearrangement (Chernozhukov, Fernández-Val and Galichon 2010, "Quantile and
    probability curves without crossing", doi 10.3982/ECTA7880): on a grid of levels it sorts,
    and is never further from the true curve than what is sorted.

    Args:
        quantiles: `(..., n_levels)`, one quantile for each level.
    """
    return np.sort(quantiles, axis=-1)
