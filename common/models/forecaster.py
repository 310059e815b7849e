"""sktime forecasters behind the Model face."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from common.errors import BackboneError, TaskError
from common.models.base import ModelProfile, only_part
from common.optional import require
from common.request import check_wanted
from common.task import Result, Series, Task, digest_of

__all__ = ["FORECASTERS", "Forecaster"]


def _naive() -> Any:
    return require("sktime.forecasting.naive", extra="finance").NaiveForecaster(strategy="last")


def _theta() -> Any:
    module = require("sktime.forecasting.theta", extra="finance")
    return module.ThetaForecaster(deseasonalize=False)


def _exponential_smoothing() -> Any:
    module = require("sktime.forecasting.exp_smoothing", extra="finance")
    return module.ExponentialSmoothing(trend="add", damped_trend=True)


FORECASTERS: MappingProxyType[str, Callable[[], Any]] = MappingProxyType(
    {"ets": _exponential_smoothing, "naive": _naive, "theta": _theta}
)
"""Forecasters that `ModelRouter(models={"series": NAME})` knows by name."""


class Forecaster:
    """Fits a fresh copy of an sktime forecaster to each series and predicts its next values.

    Args:
        estimator: Any sktime forecaster for one series.
        name: Shown in reasons and provenance.
    """

    def __init__(self, estimator: Any, *, name: str) -> None:
        self._estimator = estimator
        parameters = json.dumps(estimator.get_params(), sort_keys=True, default=str)
        digest = digest_of(type(estimator).__qualname__.encode(), parameters.encode())
        self.profile = ModelProfile(
            name=name,
            modality="series",
            digest=digest,
            shapes=((None,), (None, None)),
            gives={"forecast": (None,)},
        )

    @classmethod
    def named(cls, name: str) -> Forecaster:
        """Returns the forecaster of that name in `FORECASTERS`.

        Raises:
            BackboneError: There is none of that name.
            MissingExtraError: sktime is not installed.
        """
        if name not in FORECASTERS:
            raise BackboneError(
                "forecaster",
                expected=f"one of {', '.join(FORECASTERS)}",
                found=repr(name),
                remedy="Use one of these names, or pass a Forecaster around any sktime estimator.",
            )
        return cls(FORECASTERS[name](), name=name)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `forecast` `(horizon,)` per task; `parameters["horizon"]` defaults to 1."""
        return [self._forecast(task) for task in tasks]

    def _forecast(self, task: Task) -> Result:
        import pandas as pd

        check_wanted()
        horizon = task.parameters.get("horizon", 1)
        if not isinstance(horizon, int) or horizon < 1:
            raise TaskError(
                "parameter horizon",
                expected="a whole number of steps, 1 or more",
                found=repr(horizon),
                remedy="Set parameters.horizon.",
            )
        values = only_part(task, Series).values
        # A plain range as index: sktime 1.2 refuses trading dates, which are irregular.
        history = pd.Series(np.asarray(values, dtype=np.float64).reshape(len(values), -1)[:, 0])
        fitted = self._estimator.clone().fit(history, fh=np.arange(1, horizon + 1))
        forecast = np.asarray(fitted.predict(), dtype=np.float64).reshape(-1)
        return Result(arrays={"forecast": forecast})
