"""The forecasters that `finance.realized` compares, each as regressions and their mean.

Names with Q use the realized quarticity, with L the returns; where a series has no quarticity,
an L-model does without and a HARQ is not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from benchmarks.realized_series import RealizedSeries
from kits.finance.markets.har_regression import (
    HAR_WINDOWS,
    Estimation,
    har_regressors,
    trailing_means,
)
from kits.finance.markets.leverage import LEVERAGES, Leverage, leverage_regressors
from kits.finance.markets.rolling import rolling_forecasts

__all__ = ["MODELS", "RealizedModel", "can_run", "model_forecasts", "random_walk"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RealizedModel:
    """How a forecaster regresses; with leverages one regression each, averaged.

    Args:
        logs: In logarithms.
        error_windows: Windows that interact with the quarticity; none for plain HAR.
        leverages: Kinds of leverage.
        implied: With the log of the implied variance.
        estimation: How it is fitted.
    """

    logs: bool = False
    error_windows: Sequence[int] = ()
    leverages: Sequence[Leverage] = ()
    implied: bool = False
    estimation: Estimation = "ols"


MODELS: Mapping[str, RealizedModel] = MappingProxyType(
    {
        "HAR": RealizedModel(),
        "HAR weighted": RealizedModel(estimation="wls"),
        "HARQ": RealizedModel(error_windows=(1,)),
        "HARQ weighted": RealizedModel(error_windows=(1,), estimation="wls"),
        "HARQ-F": RealizedModel(error_windows=HAR_WINDOWS),
        "log-HAR": RealizedModel(logs=True),
        "log-HARQ": RealizedModel(logs=True, error_windows=(1,)),
        "LHAR negative": RealizedModel(logs=True, leverages=("negative",)),
        "LHAR standardized": RealizedModel(logs=True, leverages=("standardized",)),
        "LHAR": RealizedModel(logs=True, leverages=LEVERAGES),
        "LHARQ negative": RealizedModel(logs=True, error_windows=(1,), leverages=("negative",)),
        "LHARQ standardized": RealizedModel(
            logs=True, error_windows=(1,), leverages=("standardized",)
        ),
        "LHARQ": RealizedModel(logs=True, error_windows=(1,), leverages=LEVERAGES),
        "log-HARQ implied": RealizedModel(logs=True, error_windows=(1,), implied=True),
        "LHARQ implied": RealizedModel(
            logs=True, error_windows=(1,), leverages=LEVERAGES, implied=True
        ),
    }
)


def can_run(model: RealizedModel, series: RealizedSeries) -> bool:
    """Returns whether the series has what the model needs."""
    lacks_quarticity = bool(model.error_windows) and series.quarticity is None
    lacks_implied = model.implied and series.implied is None
    return not lacks_implied and not (lacks_quarticity and not model.leverages)


def model_forecasts(
    model: RealizedModel,
    series: RealizedSeries,
    origins: npt.NDArray[np.intp],
    *,
    horizon_days: int,
    training_pairs: int,
    insanity_filter: bool = True,
    shuffle_seed: int | None = None,
) -> Floats:
    """Returns the forecast of the mean variance of the next days from each origin, `(n,)`.

    Args:
        model: How to regress.
        series: What to forecast.
        origins: `(n,)`, positions of days.
        horizon_days: Days ahead.
        training_pairs: In each window.
        insanity_filter: See `filter_insane`. Without it forecasts are kept above the smallest
            variance before the first origin, so that none is negative.
        shuffle_seed: Deals the days' regressors out anew, for the control.
    """
    members = []
    for design in _designs(model, series):
        regressors = design
        if shuffle_seed is not None:
            rows = np.arange(max(HAR_WINDOWS) - 1, len(design))
            regressors = design.copy()
            regressors[rows] = design[np.random.default_rng(shuffle_seed).permutation(rows)]
        members.append(
            rolling_forecasts(
                series.variance,
                regressors,
                origins,
                horizon_days=horizon_days,
                training_pairs=training_pairs,
                logs=model.logs,
                estimation=model.estimation,
                insanity_filter=insanity_filter,
            )
        )
    forecasts = np.asarray(np.mean(members, axis=0), dtype=np.float64)
    if insanity_filter:
        return forecasts
    floor = series.variance[: int(origins.min())].min()
    return np.asarray(np.maximum(forecasts, floor), dtype=np.float64)


def random_walk(series: RealizedSeries, origins: npt.NDArray[np.intp], horizon_days: int) -> Floats:
    """Returns the mean of the last `horizon_days` days as the forecast of the next, `(n,)`."""
    means = trailing_means(series.variance, (horizon_days,))
    return np.asarray(means[origins, 0], dtype=np.float64)


def _designs(model: RealizedModel, series: RealizedSeries) -> list[Floats]:
    base = har_regressors(
        series.variance,
        logs=model.logs,
        quarticity=series.quarticity if model.error_windows else None,
        quarticity_windows=model.error_windows,
    )
    if model.implied and series.implied is not None:
        base = np.column_stack([base, np.log(series.implied)])
    if not model.leverages:
        return [base]
    return [
        np.column_stack([base, leverage_regressors(series.returns, series.variance, kind)])
        for kind in model.leverages
    ]
