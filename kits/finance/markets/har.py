"""HAR and HARQ behind sktime's interface: forecasts of a realized variance, with quantiles.

The series is a variance of each day, oldest first, in any unit (squared decimals or percent);
forecasts have its unit. Its index must be regular for sktime: give a plain range, and map days
outside. Importing this file imports sktime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sktime.forecasting.base import BaseForecaster

from common.errors import TableError
from kits.finance.markets.har_regression import (
    HAR_WINDOWS,
    Estimation,
    direct_forecast,
    fit_linear,
    forward_mean,
    har_regressors,
    quantile_coefficients,
    rearrange_quantiles,
)

__all__ = ["HAR", "HARQ", "QUANTILE_GRID"]

Floats = npt.NDArray[np.float64]
Target = Literal["day", "average"]

_TWENTIETHS = tuple(round(0.05 * i, 2) for i in range(1, 20))
QUANTILE_GRID = (0.005, 0.01, 0.025, *_TWENTIETHS, 0.975, 0.99, 0.995)
"""Levels at which quantile regressions are fitted; between them quantiles are interpolated."""


class _Sample(NamedTuple):
    """What one horizon is fitted to, and the regressors of the day of the forecast."""

    regressors: Floats  # [n, k]
    target: Floats  # [n], ln of it in logs
    latest: Floats  # [k]


class HAR(BaseForecaster):  # type: ignore[misc]  # sktime ships no types
    """The heterogeneous autoregression of a realized variance, fitted to each horizon directly.

    y = c + b_1 RV_1 + b_5 RV_5 + b_22 RV_22 + e, RV_w the mean of the last w days (Corsi 2009,
    "A simple approximate long-memory model of realized volatility", doi 10.1093/jjfinec/nbp001).

    Args:
        windows: Days of each mean, rising.
        target: y at step h: "day", the variance h days ahead, or "average", the mean of the days
            1 to h ahead (the h = 5 and h = 22 of the literature).
        logs: ln y on ln RV_w; the mean is exp(m) mean exp(e) (Duan 1983), quantiles are exp.
        estimation: "ols", "wls" (not in logs) or "huber"; see `fit_linear`.
        insanity_filter: Replace a mean outside the range of the fitted targets by their mean.
        training_days: Fit to the last so many pairs of days only; None takes all.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.har import HAR
        >>> variance = pd.Series(np.random.default_rng(0).chisquare(4, 500) / 4)
        >>> week = HAR(target="average").fit(variance).predict(fh=[5])
        >>> bool(0.8 < week.iloc[0] < 1.2)
        True
    """

    _tags: ClassVar[dict[str, Any]] = {
        "capability:exogenous": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:update": True,
        "requires-fh-in-fit": False,
        "y_inner_mtype": "pd.Series",
        "X_inner_mtype": "pd.DataFrame",
    }
    _config: ClassVar[dict[str, Any]] = {"remember_data": False}  # the days are kept here

    def __init__(
        self,
        windows: Sequence[int] = HAR_WINDOWS,
        target: Target = "day",
        *,
        logs: bool = False,
        estimation: Estimation = "ols",
        insanity_filter: bool = True,
        training_days: int | None = None,
    ) -> None:
        self.windows = windows
        self.target = target
        self.logs = logs
        self.estimation = estimation
        self.insanity_filter = insanity_filter
        self.training_days = training_days
        super().__init__()
        self._y = self._X = None  # sktime's place for what it remembers

    def coefficients(self, step: int = 1) -> Floats:
        """Returns c, b_1, b_5, b_22 (for HARQ then b_Q) of the regression for `step`, `(k,)`.

        Raises:
            NotFittedError: sktime's, before `fit`.
            TableError: There are too few days.
        """
        self.check_is_fitted()
        sample = self._samples(step)[0]
        return fit_linear(sample.regressors, sample.target, self.estimation)

    def _fit(self, y: pd.Series, X: pd.DataFrame | None, fh: Any) -> HAR:  # noqa: ARG002  # sktime's
        """Checks parameters and days; the regressions are fitted when a step is asked for.

        Raises:
            TableError: A parameter or the series cannot be used.
        """
        self._check_parameters()
        self._days, self._exogenous, self._n_fitted = y, X, len(y)
        self._designs()
        return self

    def _update(
        self, y: pd.Series, X: pd.DataFrame | None = None, update_params: bool = True
    ) -> HAR:
        """Adds days; without `update_params` the regressions stay those of the days before."""
        self._days = y.combine_first(self._days)
        if X is not None and self._exogenous is not None:
            self._exogenous = X.combine_first(self._exogenous)
        if update_params:
            self._n_fitted = len(self._days)
        self._designs()
        return self

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.Series:  # noqa: ARG002
        means = [
            np.mean([self._mean(sample) for sample in self._samples(step)])
            for step in self._steps(fh)
        ]
        return pd.Series(means, index=fh.to_absolute_index(self.cutoff), name=self._days.name)

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: list[float]) -> Any:  # noqa: ARG002
        """Fits the levels of `QUANTILE_GRID`, rearranges them and interpolates.

        Raises:
            TableError: A level lies outside the grid.
        """
        low, high = QUANTILE_GRID[0], QUANTILE_GRID[-1]
        if not all(low <= level <= high for level in alpha):
            raise TableError(
                "quantile levels",
                expected=f"levels from {low} to {high}",
                found=f"{min(alpha)} to {max(alpha)}",
                remedy="Further out a sample holds too few days for a regression.",
            )
        quantiles = [
            np.mean([self._quantiles(sample) for sample in self._samples(step)], axis=0)
            for step in self._steps(fh)
        ]
        rows = [np.interp(alpha, QUANTILE_GRID, of_step) for of_step in quantiles]
        columns = pd.MultiIndex.from_product([self._get_varnames(), alpha])
        return pd.DataFrame(rows, index=fh.to_absolute_index(self.cutoff), columns=columns)

    def _mean(self, sample: _Sample) -> float:
        return direct_forecast(
            *sample,
            logs=self.logs,
            estimation=self.estimation,
            insanity_filter=self.insanity_filter,
        )

    def _quantiles(self, sample: _Sample) -> Floats:
        found = [
            sample.latest @ quantile_coefficients(sample.regressors, sample.target, level)
            for level in QUANTILE_GRID
        ]
        rising = rearrange_quantiles(np.array(found))
        if self.logs:
            return np.asarray(np.exp(rising), dtype=np.float64)
        floor = float(sample.target.min())  # no variance below any that was seen
        return np.asarray(np.maximum(rising, floor), dtype=np.float64)

    def _samples(self, step: int) -> list[_Sample]:
        """Returns for each design the pairs of regressors and targets in the fitted days.

        Raises:
            TableError: There are too few days for as many coefficients.
        """
        designs = self._designs()
        first_day = 1 if self.target == "average" else step
        ahead = np.full(len(self._days), np.nan)
        fitted = self._variance()[: self._n_fitted]
        ahead[: self._n_fitted] = forward_mean(fitted, step, first_day=first_day)
        rows = np.flatnonzero(np.isfinite(ahead) & np.isfinite(designs[0].sum(axis=1)))
        rows = rows if self.training_days is None else rows[-self.training_days :]
        n_coefficients = max(design.shape[1] for design in designs)
        if len(rows) <= n_coefficients:
            raise TableError(
                "variance series",
                expected=f"more than {max(self.windows) + step + n_coefficients - 1} days for "
                f"windows {tuple(self.windows)} and {step} days ahead",
                found=f"{len(rows)} pairs of days and targets",
                remedy="Give a longer series, shorter windows or a shorter horizon.",
            )
        target = np.log(ahead[rows]) if self.logs else ahead[rows]
        return [_Sample(design[rows], target, design[-1]) for design in designs]

    def _variance(self) -> Floats:
        return np.asarray(self._days, dtype=np.float64)

    def _designs(self) -> list[Floats]:
        """Returns the regressors of all days, also of those after the fit, `(T, k)`.

        Of several designs, one for each regression, forecasts and quantiles are averaged.
        """
        variance = self._variance()
        self._refuse_unusable(variance)
        return [har_regressors(variance, windows=self.windows, logs=self.logs)]

    def _refuse_unusable(self, variance: Floats) -> None:
        finite = np.isfinite(variance).all()
        if not finite or (variance < 0).any() or (self.logs and (variance == 0).any()):
            raise TableError(
                "variance series",
                expected="finite variances " + ("above zero" if self.logs else "of zero or more"),
                found=f"{int((~np.isfinite(variance)).sum())} not finite, "
                f"{int((variance < 0).sum())} negative, {int((variance == 0).sum())} zero",
                remedy="Drop or mend these days; logs=False takes zeros.",
            )

    def _column(
        self, name: str | None, subject: str, *, negative: bool = False, zero: bool = True
    ) -> Floats:
        """Returns a column of X, by name or the first, one finite value a day.

        Raises:
            TableError: There is no such column, or a day lacks a value that is allowed.
        """
        columns = [] if self._exogenous is None else list(self._exogenous.columns)
        name = columns[0] if columns and name is None else name
        if self._exogenous is None or name not in columns:
            raise TableError(
                subject,
                expected="a column of X" + ("" if name is None else f" named {name}"),
                found=f"{len(columns)} columns, none of them that",
                remedy="Give fit and update X with its value of each day, or use HAR.",
            )
        values = np.asarray(self._exogenous[name], dtype=np.float64)
        unusable = ~np.isfinite(values)
        unusable |= (values < 0) & (not negative)
        unusable |= (values == 0) & (not zero)
        if len(values) != len(self._days) or unusable.any():
            sign = "" if negative else (" of zero or more" if zero else " above zero")
            raise TableError(
                subject,
                expected=f"{len(self._days)} finite values{sign}, one a day of the series",
                found=f"{len(values)}, {int(unusable.sum())} of them not such",
                remedy="Drop or mend these days in both series.",
            )
        return values

    def _check_parameters(self) -> None:
        windows = list(self.windows)
        faults = {
            "windows": not windows or min(windows) < 1 or sorted(set(windows)) != windows,
            "target": self.target not in ("day", "average"),
            "estimation": self.estimation not in ("ols", "wls", "huber"),
            "estimation wls with logs": self.logs and self.estimation == "wls",
            "training_days": self.training_days is not None and self.training_days < 1,
        }
        if any(faults.values()):
            raise TableError(
                "HAR",
                expected="rising windows, target day or average, estimation ols, wls (not in logs) "
                "or huber, training_days of 1 or more",
                found="other " + ", ".join(name for name, fault in faults.items() if fault),
                remedy="Correct these parameters.",
            )

    def _steps(self, fh: Any) -> list[int]:
        return [int(step) for step in fh.to_relative(self.cutoff).to_numpy()]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:  # noqa: ARG003
        """Returns parameters that sktime's checks use: their series are short."""
        return [
            {"windows": (1, 2, 3)},
            {"windows": (1, 3), "target": "average", "estimation": "huber"},
        ]


class HARQ(HAR):
    """HAR whose weight on a day falls with the error of that day's measurement.

    Bollerslev, Patton and Quaedvlieg (2016), "Exploiting the errors: a simple approach for
    improved volatility forecasting", doi 10.1016/j.jeconom.2015.10.007. With one window of one
    day it is their ARQ. X, one row a day beside y, holds the realized quarticity in the squared
    unit of y; only its rows up to the day of the forecast are used.

    Args:
        windows: As in `HAR`.
        target: As in `HAR`.
        logs: As in `HAR`; `har_regressors` says what replaces the interaction.
        estimation: As in `HAR`.
        insanity_filter: As in `HAR`.
        training_days: As in `HAR`.
        full: Every window interacts with its quarticity (HARQ-F), not the shortest alone.
        quarticity: Name of X's column; None takes the first.
        without_quarticity: Without X "refuse", or fall back to plain "har".

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from kits.finance.markets.har import HARQ
        >>> variance = pd.Series(np.random.default_rng(0).chisquare(4, 500) / 4)
        >>> quarticity = pd.DataFrame({"RQ": variance**2})
        >>> forecast = HARQ().fit(variance, X=quarticity).predict(fh=[1])
        >>> bool(0.5 < forecast.iloc[0] < 1.5)
        True
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:exogenous": True}

    def __init__(
        self,
        windows: Sequence[int] = HAR_WINDOWS,
        target: Target = "day",
        *,
        logs: bool = False,
        estimation: Estimation = "ols",
        insanity_filter: bool = True,
        training_days: int | None = None,
        full: bool = False,
        quarticity: str | None = None,
        without_quarticity: Literal["refuse", "har"] = "refuse",
    ) -> None:
        self.full = full
        self.quarticity = quarticity
        self.without_quarticity = without_quarticity
        super().__init__(
            windows=windows,
            target=target,
            logs=logs,
            estimation=estimation,
            insanity_filter=insanity_filter,
            training_days=training_days,
        )

    def _designs(self) -> list[Floats]:
        variance = self._variance()
        self._refuse_unusable(variance)
        windows = tuple(self.windows)
        interacting = windows[:-1] if self.logs else windows
        design = har_regressors(
            variance,
            windows=windows,
            logs=self.logs,
            quarticity=self._quarticity(),
            quarticity_windows=interacting if self.full else interacting[:1],
        )
        return [design]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.logs and len(self.windows) < 2:
            raise TableError(
                "HARQ in logs",
                expected="two windows or more: weight passes from the shorter to the longest",
                found=f"{len(self.windows)}",
                remedy="Add a longer window, or set logs=False.",
            )

    def _quarticity(self) -> Floats | None:
        if self._exogenous is None and self.without_quarticity == "har":
            return None
        return self._column(self.quarticity, "realized quarticity")

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:  # noqa: ARG003
        """Returns parameters that sktime's checks use: short series, most of them without X."""
        return [
            {"windows": (1, 2, 3), "without_quarticity": "har"},
            {"windows": (1, 2), "full": True, "without_quarticity": "har"},
        ]
