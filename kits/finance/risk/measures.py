"""Tail risk of one day: value at risk and expected shortfall. Losses are positive decimals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.errors import TableError
from kits.finance.markets.forecasters import FittedGarch, fit_garch
from kits.finance.markets.prices import PriceHistory

__all__ = ["TailRisk", "one_day_var_es", "tail_risk_of"]

METHOD = "filtered historical simulation, GARCH(1,1)-t"
LEAST_TAIL_LOSSES = 4  # fewer losses beyond VaR make ES the mean of almost nothing


@dataclass(frozen=True)
class TailRisk:
    """Loss of one day as a share of the position's value.

    Args:
        level: Confidence level, 0.99 for 99%.
        value_at_risk: The loss that is not exceeded with probability `level`.
        expected_shortfall: Mean of the losses from value at risk upwards.
        method: How both were computed.
    """

    level: float
    value_at_risk: float
    expected_shortfall: float
    method: str


def one_day_var_es(history: PriceHistory, *, level: float = 0.99) -> TailRisk:
    """Returns VaR and ES of the day after the last close.

    Filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999; Hull and
    White 1998): the standardised residuals of a GARCH(1,1)-t fit, scaled by tomorrow's
    volatility, are the scenarios.

    Args:
        history: Prices up to today.
        level: Confidence level, at least 0.5 and below 1.

    Raises:
        TableError: The level is out of bounds, or leaves too few losses beyond VaR.
        ModelError: The GARCH model could not be fitted.
    """
    return tail_risk_of(fit_garch(history), level=level)


def tail_risk_of(fitted: FittedGarch, *, level: float) -> TailRisk:
    """Returns VaR and ES from a fit that is at hand; see `one_day_var_es`.

    VaR is the smallest scenario loss whose share of smaller or equal losses is at least
    `level`; a log return r is a loss of 1 - exp(r).

    Raises:
        TableError: The level is out of bounds, or leaves too few losses beyond VaR.
    """
    log_returns = fitted.mean + fitted.next_volatility * fitted.standardized_residuals
    losses = np.sort(-np.expm1(log_returns))
    beyond = (1.0 - level) * len(losses)
    if not 0.5 <= level < 1.0 or beyond < LEAST_TAIL_LOSSES:
        raise TableError(
            "level of value at risk",
            expected=f"0.5 to below 1, with {LEAST_TAIL_LOSSES} or more losses beyond it",
            found=f"{level:g}, with {beyond:.1f} losses beyond it",
            remedy="Choose a lower level or give a longer history.",
        )
    first = int(np.ceil(level * len(losses))) - 1
    return TailRisk(
        level=level,
        value_at_risk=float(losses[first]),
        expected_shortfall=float(losses[first:].mean()),
        method=METHOD,
    )
