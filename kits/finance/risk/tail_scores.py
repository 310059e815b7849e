"""The joint score of VaR and ES: the lower the better; it ranks forecasts, and does not test them.

Losses are positive; arrays are `(T,)`, oldest first. It is strictly consistent: in expectation
nothing beats the true pair of VaR and ES. The score of VaR alone is
`kits.finance.markets.losses.pinball_loss`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = ["fz0"]

Floats = npt.NDArray[np.float64]


def fz0(
    losses: Floats, value_at_risk: Floats, expected_shortfall: Floats, *, level: float
) -> Floats:
    """Returns the joint score of VaR and ES of each day, `(T,)`.

    `1{L >= VaR} (L - VaR) / ((1 - level) ES) + VaR / ES + ln ES - 1`: the member of degree 0
    of Fissler and Ziegel (2016), in Patton, Ziegel and Chen (2019), "Dynamic semiparametric
    models for expected shortfall", equation 6, with losses in place of returns.

    Raises:
        TableError: An ES is not positive.
    """
    unusable = int(np.sum(~(expected_shortfall > 0)))
    if unusable:
        raise TableError(
            "score of expected shortfall",
            expected="a positive ES on every day",
            found=f"{unusable} days without",
            remedy="Losses count as positive: check the sign of ES.",
        )
    beyond = np.maximum(losses - value_at_risk, 0.0) / (1.0 - level)
    ratio = (beyond + value_at_risk) / expected_shortfall
    return np.asarray(ratio + np.log(expected_shortfall) - 1.0)
