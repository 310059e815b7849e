"""Simulated paths of volatility, and the forecast that summarises them.

All volatilities are per day and in decimals (0.02 = 2% a day), variances their squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = [
    "MAXIMUM_FIT_DAYS",
    "MAXIMUM_HORIZON_DAYS",
    "N_PATHS",
    "QUANTILE_LEVELS",
    "FittedVolatility",
    "VolatilityForecast",
    "VolatilityPaths",
    "pool",
    "require_horizon",
    "sample_quantiles",
    "still_prices",
    "summarise",
]

Floats = npt.NDArray[np.float64]

QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
N_PATHS = 4000
MAXIMUM_HORIZON_DAYS = 250
MAXIMUM_FIT_DAYS = 2500
"""About ten years: older regimes say little about the next month."""


@dataclass(frozen=True, eq=False)
class VolatilityPaths:
    """What a fitted model says of the next days, by simulation.

    Args:
        conditional_volatility: `(n_paths, horizon)`, expected at the end of the day before.
        variance: `(n_paths, horizon)`, of each simulated day: squared shocks, or the variance
            proxy that the model forecasts.
        expected_variance: `(horizon,)`, the mean over all paths there could be; in closed form
            where there is one.
    """

    conditional_volatility: Floats
    variance: Floats
    expected_variance: Floats


class FittedVolatility(Protocol):
    """A model that was fitted to one history."""

    def expected_variance(self, horizon_days: int) -> Floats:
        """Returns the expected variance of each coming day, `(horizon_days,)`."""
        ...

    def simulate(self, horizon_days: int, *, seed: int) -> VolatilityPaths:
        """Returns `N_PATHS` paths; equal seeds give equal paths."""
        ...


@dataclass(frozen=True, eq=False)
class VolatilityForecast:
    """What a model expects of the next days.

    Args:
        model: Its name in `kits.finance.markets.fitting.MODELS`, or "ensemble".
        horizon_days: Trading days ahead, `horizon`.
        quantile_levels: Levels of the quantiles, rising, `n_levels`.
        daily_volatility_quantiles: `(horizon, n_levels)`, of each day's conditional volatility.
        period_volatility_quantiles: `(n_levels,)`, of the volatility over the whole horizon.
        period_volatility_mean: Its mean.
        expected_variance: `(horizon,)`, of each day; the point forecast.
    """

    model: str
    horizon_days: int
    quantile_levels: tuple[float, ...]
    daily_volatility_quantiles: Floats
    period_volatility_quantiles: Floats
    period_volatility_mean: float
    expected_variance: Floats


def summarise(
    paths: VolatilityPaths, *, model: str, quantile_levels: Sequence[float]
) -> VolatilityForecast:
    """Returns the forecast; its quantiles are those of one sample and cannot cross."""
    levels = np.asarray(quantile_levels, dtype=np.float64)
    period = np.sqrt(paths.variance.mean(axis=1))  # [n_paths]
    return VolatilityForecast(
        model=model,
        horizon_days=paths.variance.shape[1],
        quantile_levels=tuple(float(level) for level in levels),
        daily_volatility_quantiles=sample_quantiles(paths.conditional_volatility, levels),
        period_volatility_quantiles=sample_quantiles(period[:, None], levels)[0],
        period_volatility_mean=float(period.mean()),
        expected_variance=paths.expected_variance,
    )


def sample_quantiles(samples: Floats, levels: Floats) -> Floats:
    """Returns the quantiles of each column, `(n_columns, n_levels)`.

    Those of `numpy.quantile`, linear between order statistics, in a third of its time: one
    sort of each column serves all levels.

    Args:
        samples: `(n, n_columns)`.
        levels: `(n_levels,)`, between 0 and 1.
    """
    ordered = np.sort(np.ascontiguousarray(samples.T), axis=1)
    place = levels * (len(samples) - 1)
    below = np.minimum(place.astype(np.intp), max(len(samples) - 2, 0))
    above = np.minimum(below + 1, len(samples) - 1)
    low, high = ordered[:, below], ordered[:, above]
    return np.asarray(low + (place - below) * (high - low))


def pool(members: Sequence[VolatilityPaths], weights: Floats) -> VolatilityPaths:
    """Returns the linear opinion pool: each member gives its share of the paths.

    The shares are rounded to whole paths by the largest remainder.

    Args:
        members: Each with the same number of paths and days.
        weights: `(n_members,)`, zero or more, summing to 1.
    """
    n_paths = len(members[0].variance)
    exact = weights * n_paths
    counts = np.floor(exact).astype(np.intp)
    short = n_paths - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    pairs = list(zip(members, counts, strict=True))
    return VolatilityPaths(
        conditional_volatility=np.concatenate([m.conditional_volatility[:n] for m, n in pairs]),
        variance=np.concatenate([m.variance[:n] for m, n in pairs]),
        expected_variance=np.asarray(weights @ np.stack([m.expected_variance for m in members])),
    )


def require_horizon(horizon_days: int, quantile_levels: Sequence[float]) -> None:
    """Refuses a horizon or levels that no forecast is made for.

    Raises:
        TableError: The horizon is not 1 to 250 days, or the levels do not rise within 0 to 1.
    """
    levels = np.asarray(quantile_levels, dtype=np.float64)
    rising = bool(np.all(np.diff(levels) > 0)) and bool(np.all((levels > 0) & (levels < 1)))
    if not (1 <= horizon_days <= MAXIMUM_HORIZON_DAYS and levels.size and rising):
        raise TableError(
            "volatility forecast",
            expected=f"1 to {MAXIMUM_HORIZON_DAYS} days, rising levels between 0 and 1",
            found=f"{horizon_days} days, levels {list(quantile_levels)}",
            remedy="Correct horizon_days or quantile_levels.",
        )


def still_prices(found: str) -> TableError:
    """Returns the error for prices that do not move."""
    return TableError(
        "price history",
        expected="prices that move",
        found=found,
        remedy="Suspended or filled-in quotes have no volatility: give the traded prices.",
    )
