"""Losses of volatility and quantile forecasts, and the Diebold-Mariano test between two.

Every loss is smaller for the better forecast. Arrays are `(n,)`, in the order of time; outcome
and forecast have one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = ["DieboldMariano", "diebold_mariano", "pinball_loss", "qlike_loss", "squared_error"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DieboldMariano:
    """The outcome of a test of equal accuracy.

    Args:
        statistic: Harvey's corrected statistic; negative where the first forecast is better.
        p_value: Two-sided, from Student's t with n - 1 degrees of freedom.
        mean_difference: Mean of first loss minus second loss.
        lags: Autocovariances in the variance of that mean.
        n: Pairs of losses.
    """

    statistic: float
    p_value: float
    mean_difference: float
    lags: int
    n: int


def squared_error(outcome: Floats, forecast: Floats) -> Floats:
    """Returns (y - f)^2, in the squared unit of y.

    Raises:
        TableError: The arrays differ in length, are empty or not finite.
    """
    _refuse_unusable("outcomes and forecasts", outcome, forecast)
    return np.asarray((outcome - forecast) ** 2, dtype=np.float64)


def qlike_loss(outcome: Floats, forecast: Floats) -> Floats:
    """Returns y / f - ln(y / f) - 1 of two variances; zero where they are equal.

    Patton (2011), "Volatility forecast comparison using imperfect volatility proxies", doi
    10.1016/j.jeconom.2010.03.034: like the squared error, it ranks forecasts as the true variance
    would although y is a noisy proxy of it. Too low a forecast costs more than too high a one.

    Raises:
        TableError: The arrays differ in length, are empty, not finite or not above zero.
    """
    _refuse_unusable("variances", outcome, forecast)
    if (outcome <= 0).any() or (forecast <= 0).any():
        raise TableError(
            "variances",
            expected="outcomes and forecasts above zero",
            found=f"{int((outcome <= 0).sum())} outcomes and {int((forecast <= 0).sum())} "
            "forecasts that are not",
            remedy="Leave these days out, or filter the forecasts (filter_insane).",
        )
    ratio = outcome / forecast
    return np.asarray(ratio - np.log(ratio) - 1.0, dtype=np.float64)


def pinball_loss(outcome: Floats, quantile: Floats, level: float) -> Floats:
    """Returns max(level (y - q), (level - 1) (y - q)), in the unit of y.

    The loss that the quantile of that level minimises (Koenker and Bassett 1978, doi
    10.2307/1913643).

    Raises:
        TableError: The level is not between 0 and 1, or the arrays differ in length, are empty
            or not finite.
    """
    _refuse_unusable("outcomes and quantiles", outcome, quantile)
    if not 0.0 < level < 1.0:
        raise TableError(
            "quantile level",
            expected="a level between 0 and 1",
            found=f"{level}",
            remedy="Give 0.05 for the 5% quantile.",
        )
    error = outcome - quantile
    return np.asarray(np.maximum(level * error, (level - 1.0) * error), dtype=np.float64)


def diebold_mariano(
    first_loss: Floats,
    second_loss: Floats,
    *,
    horizon_days: int = 1,
    lags: int | None = None,
    kernel: Literal["bartlett", "rectangular"] = "bartlett",
) -> DieboldMariano:
    """Tests whether two forecasts of the same days are equally accurate.

    d = first loss - second loss; S = mean d / sqrt(V / n), V the long-run variance of d (Diebold
    and Mariano 1995, doi 10.1080/07350015.1995.10524599). S is multiplied by
    sqrt((n + 1 - 2 h + h (h - 1) / n) / n) and compared with Student's t (Harvey, Leybourne and
    Newbold 1997, doi 10.1016/S0169-2070(96)00719-4).

    The Bartlett kernel (Newey and West 1987, doi 10.2307/1913610) cannot give a negative V. The
    rectangular one with h - 1 lags is that of Harvey et al.; where its V is not positive it is
    replaced by Bartlett's. It supposes that loss differences of days more than h - 1 apart do not
    correlate; those of volatilities do.

    Args:
        first_loss: `(n,)`.
        second_loss: `(n,)`.
        horizon_days: h: forecasts overlap by h - 1 days.
        lags: Autocovariances in V. None: for Bartlett the larger of 2 (h - 1) and
            4 (n / 100)^(2/9) (Newey and West 1994, doi 10.2307/2297912); for the rectangular
            kernel h - 1.
        kernel: Weights of the autocovariances: 1 - j / (lags + 1), or 1.

    Raises:
        TableError: The losses differ in length, are not finite, are too few for the horizon or
            lags, or do not differ at all.
    """
    _refuse_unusable("losses", first_loss, second_loss)
    difference = first_loss - second_loss
    n, h = len(difference), horizon_days
    if lags is None:
        newey_west = int(4.0 * (n / 100.0) ** (2.0 / 9.0))
        lags = h - 1 if kernel == "rectangular" else max(2 * (h - 1), newey_west)
    if h < 1 or lags < 0 or n <= max(lags, 2 * h):
        raise TableError(
            "losses",
            expected=f"more than {max(lags, 2 * h)} days, a horizon of 1 or more, no negative lags",
            found=f"{n} days, a horizon of {h}, {lags} lags",
            remedy="Give more days or a shorter horizon.",
        )
    variance = _long_run_variance(difference, lags, bartlett=kernel == "bartlett")
    if variance <= 0.0:
        variance = _long_run_variance(difference, lags, bartlett=True)
    if variance <= 0.0:
        raise TableError(
            "losses",
            expected="losses of two forecasts that differ",
            found="a difference that is the same on all days",
            remedy="Equal forecasts need no test.",
        )
    correction = np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    statistic = float(correction * difference.mean() / np.sqrt(variance / n))
    return DieboldMariano(
        statistic=statistic,
        p_value=_two_sided(statistic, n - 1),
        mean_difference=float(difference.mean()),
        lags=lags,
        n=n,
    )


def _long_run_variance(values: Floats, lags: int, *, bartlett: bool) -> float:
    centred = values - values.mean()
    n = len(values)
    total = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        weight = 1.0 - lag / (lags + 1.0) if bartlett else 1.0
        total += 2.0 * weight * float(centred[lag:] @ centred[:-lag]) / n
    return total


def _two_sided(statistic: float, degrees_of_freedom: int) -> float:
    from scipy.stats import t

    return float(2.0 * t.sf(abs(statistic), degrees_of_freedom))


def _refuse_unusable(subject: str, first: Floats, second: Floats) -> None:
    usable = first.ndim == 1 and first.shape == second.shape and len(first) > 0
    if not usable or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise TableError(
            subject,
            expected="two arrays (n,) of equal length, all finite",
            found=f"shapes {first.shape} and {second.shape}, "
            f"{sum(int((~np.isfinite(each)).sum()) for each in (first, second))} not finite",
            remedy="Align both by day and leave out days that lack one.",
        )
