"""GARCH, GJR, EGARCH and EWMA behind sktime's interface: forecasts of returns and their variance.

The series is log returns in decimals, oldest first. `predict` gives the mean return,
`predict_var` the conditional variance, `predict_quantiles` and `predict_interval` those of the
return: exact one day ahead, from seeded paths beyond. sktime's own `ARCH` cannot give
intervals, hence these. Indices must be regular: give a plain range, and map days outside.
Importing this file imports sktime.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sktime.forecasting.base import BaseForecaster

from common.errors import TableError
from kits.finance.markets.garch_fit import FittedGarch, filter_returns, fit_returns

__all__ = ["EGARCH", "EWMA", "GARCH", "GJR"]

Floats = npt.NDArray[np.float64]


class _ConditionalVariance(BaseForecaster):  # type: ignore[misc]  # sktime ships no types
    """What the four share: fit by `fit_returns`, forecast by its fit."""

    random_state: int  # seed of the paths behind quantiles beyond one day

    _tags: ClassVar[dict[str, Any]] = {
        "capability:exogenous": False,
        "capability:insample": False,
        "capability:missing_values": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:random_state": True,
        "capability:update": True,
        "property:randomness": "derandomized",
        "requires-fh-in-fit": False,
        "y_inner_mtype": "pd.Series",
        "X_inner_mtype": "pd.DataFrame",
    }
    _config: ClassVar[dict[str, Any]] = {"remember_data": False}  # the days are kept here

    def _model(self) -> str:
        """Returns the name in `kits.finance.markets.garch_fit.FORMS`."""
        raise NotImplementedError

    def _fit(self, y: pd.Series, X: Any, fh: Any) -> _ConditionalVariance:  # noqa: ARG002  # sktime's
        """Fits to the whole series.

        Raises:
            TableError: The returns are all equal or not finite.
            ModelError: The optimiser found no maximum.
        """
        self._days = y
        self.fitted_: FittedGarch = fit_returns(self._finite(), model=self._model())
        return self

    def _update(
        self,
        y: pd.Series,
        X: Any = None,  # noqa: ARG002
        update_params: bool = True,
    ) -> _ConditionalVariance:
        """Adds days; without `update_params` the recursion runs on with the old parameters."""
        self._days = y.combine_first(self._days)
        returns = self._finite()
        if update_params:
            self.fitted_ = fit_returns(returns, model=self._model())
        else:
            self.fitted_ = filter_returns(returns, self.fitted_)
        return self

    def _finite(self) -> Floats:
        returns = np.asarray(self._days, dtype=np.float64)
        if not np.isfinite(returns).all():
            raise TableError(
                "returns",
                expected="finite log returns in decimals",
                found=f"{int((~np.isfinite(returns)).sum())} that are not finite",
                remedy="Drop these days or give the traded prices.",
            )
        return returns

    def _predict(self, fh: Any, X: Any) -> pd.Series:  # noqa: ARG002
        index = fh.to_absolute_index(self.cutoff)
        return pd.Series(np.full(len(index), self.fitted_.mean), index=index, name=self._days.name)

    def _predict_var(self, fh: Any, X: Any = None, cov: bool = False) -> pd.DataFrame:  # noqa: ARG002
        steps = self._steps(fh)
        variance = self.fitted_.expected_variance(max(steps))[np.array(steps) - 1]
        index = fh.to_absolute_index(self.cutoff)
        return pd.DataFrame(variance[:, None], index=index, columns=self._get_varnames())

    def _predict_quantiles(self, fh: Any, X: Any, alpha: list[float]) -> pd.DataFrame:  # noqa: ARG002
        steps, levels = self._steps(fh), np.asarray(alpha, dtype=np.float64)
        fit = self.fitted_
        rows = np.empty((len(steps), len(levels)))
        if max(steps) > 1:
            returns = fit.simulate_returns(max(steps), seed=self.random_state)
            rows[:] = np.quantile(returns[:, np.array(steps) - 1], levels, axis=0).T
        for row, step in enumerate(steps):
            if step == 1:
                rows[row] = fit.mean + fit.next_volatility * fit.quantile(levels)
        columns = pd.MultiIndex.from_product([self._get_varnames(), alpha])
        return pd.DataFrame(rows, index=fh.to_absolute_index(self.cutoff), columns=columns)

    def _steps(self, fh: Any) -> list[int]:
        return [int(step) for step in fh.to_relative(self.cutoff).to_numpy()]


class _Garch(_ConditionalVariance):
    """A form with a distribution to choose."""

    _FORM: ClassVar[str]

    def __init__(self, distribution: str = "t", random_state: int = 0) -> None:
        self.distribution = distribution
        self.random_state = random_state
        super().__init__()
        self._y = self._X = None  # sktime's place for what it remembers

    def _model(self) -> str:
        suffixes = {"t": "", "skewt": "-skewt"}
        if self.distribution not in suffixes:
            raise TableError(
                type(self).__name__,
                expected="distribution t or skewt",
                found=f"{self.distribution}",
                remedy="Name one of these.",
            )
        return self._FORM + suffixes[self.distribution]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:  # noqa: ARG003
        """Returns parameters that sktime's checks use."""
        return [{"distribution": "t"}, {"distribution": "t", "random_state": 1}]


class GARCH(_Garch):
    """GARCH(1,1) with a constant mean (Bollerslev 1986, 1987).

    Args:
        distribution: "t" (Student) or "skewt" (Hansen 1994).
        random_state: Seed of the paths behind quantiles beyond one day.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.garch import GARCH
        >>> returns = pd.Series(0.01 * np.random.default_rng(0).standard_t(6, 1000))
        >>> variance = GARCH().fit(returns).predict_var(fh=[1, 22])
        >>> bool((variance > 0).all().all())
        True
    """

    _FORM = "garch"


class GJR(_Garch):
    """GJR-GARCH(1,1,1): falls count apart (Glosten, Jagannathan and Runkle 1993).

    Args:
        distribution: "t" (Student) or "skewt" (Hansen 1994).
        random_state: Seed of the paths behind quantiles beyond one day.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.garch import GJR
        >>> returns = pd.Series(0.01 * np.random.default_rng(0).standard_t(6, 1000))
        >>> low, high = GJR().fit(returns).predict_quantiles(fh=[5], alpha=[0.05, 0.95]).iloc[0]
        >>> bool(low < 0 < high)
        True
    """

    _FORM = "gjr"


class EGARCH(_Garch):
    """EGARCH(1,1,1) of the log variance (Nelson 1991).

    Beyond one day its variance has no closed form and comes from seeded paths.

    Args:
        distribution: "t" (Student) or "skewt" (Hansen 1994).
        random_state: Seed of the paths.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.garch import EGARCH
        >>> returns = pd.Series(0.01 * np.random.default_rng(0).standard_t(6, 1000))
        >>> low, high = EGARCH().fit(returns).predict_quantiles(fh=[5], alpha=[0.05, 0.95]).iloc[0]
        >>> bool(low < 0 < high)
        True
    """

    _FORM = "egarch"


class EWMA(_ConditionalVariance):
    """RiskMetrics' exponentially weighted variance: decay 0.94, mean zero, normal returns.

    Args:
        random_state: Seed of the paths behind quantiles beyond one day.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.garch import EWMA
        >>> returns = pd.Series(0.01 * np.random.default_rng(0).standard_normal(1000))
        >>> variance = EWMA().fit(returns).predict_var(fh=[1])
        >>> bool(0.00005 < variance.iloc[0, 0] < 0.0002)
        True
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state
        super().__init__()
        self._y = self._X = None  # sktime's place for what it remembers

    def _model(self) -> str:
        return "ewma"

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:  # noqa: ARG003
        """Returns parameters that sktime's checks use."""
        return [{}, {"random_state": 1}]
