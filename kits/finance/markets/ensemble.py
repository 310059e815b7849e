"""A pool of volatility models, weighted by how each forecast in the past.

At past days the members are fitted to what was known then, and their forecast of the mean
variance of the following days is held against what came:

    QLIKE = v / f - ln(v / f) - 1                                          (Patton 2011)

Weights are proportional to 1 / mean QLIKE (Bates and Granger 1969, doi 10.1057/jors.1969.103).
Nothing later than the last close enters, and no weight is fitted to the days that it is used on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from kits.finance.markets.fitting import fit_volatility
from kits.finance.markets.losses import qlike_loss
from kits.finance.markets.paths import FittedVolatility, VolatilityPaths, pool
from kits.finance.markets.prices import MINIMUM_ROWS, PriceHistory
from kits.finance.markets.volatility import daily_variance

__all__ = [
    "MEMBERS",
    "FittedEnsemble",
    "fit_ensemble",
    "inverse_loss_weights",
    "past_losses",
]

Floats = npt.NDArray[np.float64]

MEMBERS = ("ewma", "garch", "gjr", "har")
N_ORIGINS = 12
ORIGIN_STEP_DAYS = 22  # a month apart: about a year of past forecasts


@dataclass(frozen=True, eq=False)
class FittedEnsemble:
    """Members that were fitted to one history, and the weights that their past earned.

    Args:
        members: Name to fit.
        weights: Name to weight; they sum to 1.
        losses: Name to mean past QLIKE; empty where the history was too short for one.
        n_origins: Past days on which they were tried.
    """

    members: Mapping[str, FittedVolatility]
    weights: Mapping[str, float]
    losses: Mapping[str, float]
    n_origins: int

    def expected_variance(self, horizon_days: int) -> Floats:
        """Returns the weighted mean of the members' expectations, `(horizon_days,)`."""
        expected = [fit.expected_variance(horizon_days) for fit in self.members.values()]
        return np.asarray(self._weights() @ np.stack(expected))

    def simulate(self, horizon_days: int, *, seed: int) -> VolatilityPaths:
        """Returns the linear opinion pool of the members' paths."""
        paths = [fit.simulate(horizon_days, seed=seed) for fit in self.members.values()]
        return pool(paths, self._weights())

    def _weights(self) -> Floats:
        return np.array([self.weights[name] for name in self.members])


def inverse_loss_weights(losses: Mapping[str, float]) -> dict[str, float]:
    """Returns weights proportional to 1 / loss, summing to 1; losses are above zero."""
    inverse = {name: 1.0 / loss for name, loss in losses.items()}
    total = sum(inverse.values())
    return {name: value / total for name, value in inverse.items()}


def fit_ensemble(
    history: PriceHistory, *, horizon_days: int, members: Sequence[str] = MEMBERS
) -> FittedEnsemble:
    """Fits the members and weighs them by their past forecasts of `horizon_days` days.

    A member that cannot be fitted now, or could not at a past day, is left out. Weights are
    equal where the history is too short for a single past day.

    Raises:
        TableError: A member has no such name, or the prices do not move.
        ModelError: No member could be fitted.
    """
    losses = past_losses(history, horizon_days=horizon_days, members=members)
    fits, failures = {}, []
    for name in losses:
        try:
            fits[name] = fit_volatility(history, model=name)
        except ModelError as error:
            failures.append(error)
    if not fits:
        raise ModelError(
            "ensemble fit",
            expected="a member that can be fitted",
            found=f"none of {len(members)} ({len(failures)} without a maximum now)",
            remedy="Check the prices for filled-in or erroneous values, or name other members.",
        )
    known = {name: float(np.mean(losses[name])) for name in fits if losses[name]}
    equal = dict.fromkeys(fits, 1.0 / len(fits))
    return FittedEnsemble(
        members=fits,
        weights=inverse_loss_weights(known) if known else equal,
        losses=known,
        n_origins=min((len(losses[name]) for name in fits), default=0),
    )


def past_losses(
    history: PriceHistory, *, horizon_days: int, members: Sequence[str] = MEMBERS
) -> dict[str, list[float]]:
    """Returns each member's QLIKE at the past days, oldest first.

    What came is the mean `daily_variance` of the `horizon_days` days after the day. A member
    that failed at one of the days is absent.

    Raises:
        TableError: A member has no such name, or the prices do not move.
    """
    variance = daily_variance(history)
    losses: dict[str, list[float]] = {name: [] for name in members}
    for last in _origins(len(history.close), horizon_days):
        came = variance[last : last + horizon_days].mean()
        known = history.part(slice(last + 1))
        if came == 0.0:
            continue
        for name in list(losses):
            try:
                forecast = fit_volatility(known, model=name).expected_variance(horizon_days).mean()
            except ModelError:
                del losses[name]  # a member without a forecast cannot be compared
                continue
            losses[name].append(float(qlike_loss(np.array([came]), np.array([forecast]))[0]))
    return losses


def _origins(n_closes: int, horizon_days: int) -> list[int]:
    """Returns positions of last known closes, oldest first; what follows is known today."""
    newest = n_closes - 1 - horizon_days
    every = range(newest, MINIMUM_ROWS - 2, -ORIGIN_STEP_DAYS)
    return list(every[:N_ORIGINS])[::-1]
