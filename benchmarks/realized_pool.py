"""A pool of the candidates of `finance.realized`, weighted each day by their known losses.

Nothing is chosen once and for all: on each day the weights are proportional to 1 / mean QLIKE of
the forecasts whose outcome is known by then (Bates and Granger 1969, doi 10.1057/jors.1969.103).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.realized_models import MODELS, can_run, model_forecasts
from benchmarks.realized_series import RealizedSeries
from kits.finance.markets.har_regression import forward_mean
from kits.finance.markets.losses import qlike_loss

__all__ = ["past_weights", "pooled_forecasts"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

REMEMBERED = 250  # a year of trading
AT_LEAST = 22  # before a month of outcomes is known, all weigh the same


def past_weights(
    losses: Floats, lag: int, *, remembered: int = REMEMBERED, at_least: int = AT_LEAST
) -> Floats:
    """Returns the weights at each origin, `(n_models, n)`; they sum to 1 over the models.

    Args:
        losses: `(n_models, n)`, above zero, of the forecast that was made at each origin.
        lag: The loss of the origin `lag` positions before is the latest one known.
        remembered: Latest known losses that count.
        at_least: With fewer known losses the weights are equal.
    """
    n_models, n = losses.shape
    sums = np.concatenate([np.zeros((n_models, 1)), np.cumsum(losses, axis=1)], axis=1)
    known = np.maximum(np.arange(n) - lag + 1, 0)  # how many losses are known at each origin
    first = np.maximum(known - remembered, 0)
    counted = np.maximum(known - first, 1)
    means = (sums[:, known] - sums[:, first]) / counted
    means[:, known < at_least] = 1.0
    inverse = 1.0 / means
    return np.asarray(inverse / inverse.sum(axis=0))


def pooled_forecasts(
    names: Sequence[str],
    series: RealizedSeries,
    origins: Indices,
    *,
    earlier: Indices,
    horizon_days: int,
    training_pairs: int,
) -> Floats:
    """Returns the pool's forecast from each origin, `(n,)`.

    Args:
        names: Of the candidates; those that the series does not allow are left out.
        series: What is forecast.
        origins: `(n,)`, evenly spaced positions of days.
        earlier: `(m,)`, the same spacing before them: days on which the candidates are tried.
        horizon_days: Days ahead.
        training_pairs: In each window.
    """
    days = np.concatenate([earlier, origins])
    spacing = int(days[1] - days[0])
    forecasts = np.stack(
        [
            model_forecasts(
                MODELS[name],
                series,
                days,
                horizon_days=horizon_days,
                training_pairs=training_pairs,
            )
            for name in names
            if can_run(MODELS[name], series)
        ]
    )
    outcome = forward_mean(series.variance, horizon_days)[days]
    losses = np.stack([qlike_loss(outcome, each) for each in forecasts])
    weights = past_weights(
        losses,
        lag=-(-horizon_days // spacing),
        remembered=REMEMBERED // spacing,
        at_least=AT_LEAST // spacing,
    )
    return np.asarray((weights * forecasts).sum(axis=0)[len(earlier) :])
