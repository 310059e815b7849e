"""The one door to volatility forecasts of one company: every model by name, with quantiles.

All volatilities are per day and in decimals (0.02 = 2% a day). The daily fan holds the
quantiles of the *conditional* volatility along simulated paths; the period figures are those
of the volatility that the simulated days then have together, sqrt(mean variance).
"""

from __future__ import annotations

from collections.abc import Sequence

from kits.finance.markets.ensemble import fit_ensemble
from kits.finance.markets.fitting import MODELS, fit_volatility
from kits.finance.markets.garch_fit import PERCENT, FittedGarch, fit_garch
from kits.finance.markets.log_variance import FittedHAR, fit_har
from kits.finance.markets.paths import (
    MAXIMUM_FIT_DAYS,
    N_PATHS,
    QUANTILE_LEVELS,
    FittedVolatility,
    VolatilityForecast,
    require_horizon,
    summarise,
)
from kits.finance.markets.prices import PriceHistory

__all__ = [
    "MAXIMUM_FIT_DAYS",
    "MODELS",
    "N_PATHS",
    "PERCENT",
    "QUANTILE_LEVELS",
    "FittedGarch",
    "FittedHAR",
    "VolatilityForecast",
    "fit_garch",
    "fit_har",
    "forecast_volatility",
]


def forecast_volatility(
    history: PriceHistory,
    *,
    horizon_days: int = 30,
    quantile_levels: Sequence[float] = QUANTILE_LEVELS,
    model: str = "har",
    seed: int = 0,
    fitted: FittedVolatility | None = None,
) -> VolatilityForecast:
    """Forecasts volatility by simulating 4,000 paths; equal seeds give equal forecasts.

    Args:
        history: Prices up to the day of the forecast.
        horizon_days: Trading days ahead, 1 to 250.
        quantile_levels: Levels between 0 and 1, rising.
        model: A name of `MODELS`: "har", "ets" and "arima" (of the log of the daily variance),
            "ewma", "garch", "gjr" and "egarch" (Student's t; "garch-skewt", "gjr-skewt",
            "egarch-skewt" with the skewed t), or "ensemble".
        seed: Seed of the simulation.
        fitted: A fit of this model to this history that is at hand; fitted here without it.

    Raises:
        TableError: Model, horizon or levels are out of bounds, or the prices do not move.
        ModelError: The likelihood of the model has no maximum that could be found.
    """
    require_horizon(horizon_days, quantile_levels)
    if fitted is None and model == "ensemble":
        fitted = fit_ensemble(history, horizon_days=horizon_days)
    elif fitted is None:
        fitted = fit_volatility(history, model=model)
    paths = fitted.simulate(horizon_days, seed=seed)
    return summarise(paths, model=model, quantile_levels=quantile_levels)
