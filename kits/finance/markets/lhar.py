"""LHAR: a HAR in logs whose volatility rises after losses, behind sktime's interface.

Importing this file imports sktime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError
from kits.finance.markets.har import HAR, Target
from kits.finance.markets.har_regression import HAR_WINDOWS, Estimation, har_regressors
from kits.finance.markets.leverage import LEVERAGES, Leverage, leverage_regressors

__all__ = ["LHAR"]

Floats = npt.NDArray[np.float64]


class LHAR(HAR):
    """Log-HAR with leverage, error-weighted where there is a quarticity, averaged over leverages.

    For each kind of leverage (see `leverage_regressors`) ln y is regressed on ln RV_w, on the
    returns of the same windows, and where X has them on the interaction of HARQ and on the
    log of an implied variance. Means and quantiles of these regressions are averaged with equal
    weights, which are hard to beat (Smith and Wallis 2009, "A simple explanation of the forecast
    combination puzzle", doi 10.1111/j.1468-0084.2008.00541.x); averaged quantiles do not cross.

    X, one row a day beside y, holds a return of each day; only its rows up to the day of the
    forecast are used. Gaps between days have to be filled before.

    Args:
        windows: As in `HAR`.
        target: As in `HAR`.
        leverages: Kinds of leverage, one regression each.
        estimation: "ols" or "huber".
        insanity_filter: As in `HAR`.
        training_days: As in `HAR`.
        returns: Name of X's column of daily returns; None takes the first.
        quarticity: Name of X's column of realized quarticity, if it has one.
        implied: Name of X's column of an implied variance above zero (the square of a volatility
            index, in any unit), if it has one (Busch, Christensen and Nielsen 2011, doi
            10.1016/j.jeconom.2010.03.014).
        without_returns: Without X "refuse", or fall back to "har" in logs.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.lhar import LHAR
        >>> rng = np.random.default_rng(0)
        >>> variance = pd.Series(rng.chisquare(4, 500) / 4)
        >>> returns = pd.DataFrame({"return": np.sqrt(variance) * rng.normal(size=500)})
        >>> forecast = LHAR(target="average").fit(variance, X=returns).predict(fh=[5])
        >>> bool(0.7 < forecast.iloc[0] < 1.3)
        True
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:exogenous": True}

    def __init__(
        self,
        windows: Sequence[int] = HAR_WINDOWS,
        target: Target = "day",
        *,
        leverages: Sequence[Leverage] = LEVERAGES,
        estimation: Estimation = "ols",
        insanity_filter: bool = True,
        training_days: int | None = None,
        returns: str | None = None,
        quarticity: str | None = None,
        implied: str | None = None,
        without_returns: Literal["refuse", "har"] = "refuse",
    ) -> None:
        self.leverages = leverages
        self.returns = returns
        self.quarticity = quarticity
        self.implied = implied
        self.without_returns = without_returns
        super().__init__(
            windows=windows,
            target=target,
            logs=True,
            estimation=estimation,
            insanity_filter=insanity_filter,
            training_days=training_days,
        )

    def _designs(self) -> list[Floats]:
        if self._exogenous is None and self.without_returns == "har":
            return super()._designs()
        variance = self._variance()
        self._refuse_unusable(variance)
        returns = self._column(self.returns, "daily returns", negative=True)
        quarticity = None
        if self.quarticity is not None:
            quarticity = self._column(self.quarticity, "realized quarticity")
        base = har_regressors(variance, windows=self.windows, logs=True, quarticity=quarticity)
        if self.implied is not None:
            implied = self._column(self.implied, "implied variance", zero=False)
            base = np.column_stack([base, np.log(implied)])
        return [
            np.column_stack(
                [base, leverage_regressors(returns, variance, kind, windows=self.windows)]
            )
            for kind in self.leverages
        ]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        unknown = [kind for kind in self.leverages if kind not in LEVERAGES]
        too_few_windows = self.quarticity is not None and len(self.windows) < 2
        if unknown or not self.leverages or too_few_windows:
            raise TableError(
                "LHAR",
                expected=f"leverages out of {', '.join(LEVERAGES)}; two windows with a quarticity",
                found=f"{len(self.leverages)} leverages, {len(unknown)} unknown, "
                f"{len(self.windows)} windows",
                remedy="Correct leverages or windows.",
            )

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:  # noqa: ARG003
        """Returns parameters that sktime's checks use: short series, most of them without X."""
        return [
            {"windows": (1, 2), "without_returns": "har"},
            {
                "windows": (1, 2),
                "leverages": ("standardized",),
                "target": "average",
                "without_returns": "har",
            },
        ]
