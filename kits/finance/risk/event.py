"""The event "volatility exceeds a threshold", and its calibrated probability.

    raw log-odds    s = a + b forecast         logistic regression on the training rows
    probability     c(s)                       c: as it is, Platt or isotonic, chosen on dev rows

The choice is by cross-validated log loss (`common.evaluation.calibration`). Where a fold would
leave fewer than ten events or others to fit on, nothing is chosen and s stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.evaluation.calibration import (
    AsItIs,
    Calibration,
    Method,
    calibration_from_json,
    choose_calibration,
)
from common.evaluation.logistic import fit_logistic

__all__ = ["CALIBRATIONS", "EventModel", "fit_event_model"]

Floats = npt.NDArray[np.float64]
CALIBRATIONS: tuple[Method, ...] = ("as it is", "platt", "isotonic")
_FOLDS = 5
_PENALTY = 1e-3  # keeps the slope finite where a forecast separates the classes


@dataclass(frozen=True)
class EventModel:
    """From a forecast of log-volatility to the probability of the event.

    Args:
        threshold: Log-volatility above which the event has happened.
        intercept: a.
        slope: b.
        calibration: c.
        method: Name of c.
        n_dev_events: Events among the dev rows that c was chosen on.
    """

    threshold: float
    intercept: float
    slope: float
    calibration: Calibration
    method: str
    n_dev_events: int

    def log_odds(self, forecast: npt.ArrayLike) -> Floats:
        """Returns s = a + b forecast."""
        return np.asarray(self.intercept + self.slope * np.asarray(forecast, dtype=np.float64))

    def probability(self, forecast: npt.ArrayLike) -> Floats:
        """Returns c(a + b forecast), `(n,)`; it never falls as the forecast rises."""
        return self.calibration.probability(self.log_odds(forecast))

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values that `from_json` reads back."""
        return {
            "threshold": self.threshold,
            "intercept": self.intercept,
            "slope": self.slope,
            "calibration": self.calibration.to_json(),
            "method": self.method,
            "n_dev_events": self.n_dev_events,
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> EventModel:
        """Reads what `to_json` wrote.

        Raises:
            InputError: A value is absent or of another kind.
        """
        try:
            return cls(
                threshold=float(written["threshold"]),
                intercept=float(written["intercept"]),
                slope=float(written["slope"]),
                calibration=calibration_from_json(written["calibration"]),
                method=str(written["method"]),
                n_dev_events=int(written["n_dev_events"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "event model",
                expected="the values that EventModel.to_json writes",
                found=f"{type(error).__name__} while reading them",
                remedy="Write it with to_json, and do not edit it by hand.",
            ) from error


def fit_event_model(
    forecast: npt.ArrayLike,
    outcome: npt.ArrayLike,
    *,
    threshold: float,
    dev_forecast: npt.ArrayLike,
    dev_outcome: npt.ArrayLike,
    dev_company: npt.ArrayLike | None = None,
) -> EventModel:
    """Fits a and b on training rows and chooses c on dev rows.

    Args:
        forecast: `(n,)` forecasts of log-volatility of training rows, out of fold where the
            forecaster was fitted on them.
        outcome: `(n,)` their log-volatility.
        threshold: What the event exceeds; from training rows.
        dev_forecast: `(m,)` of rows that forecaster, a and b were not fitted on.
        dev_outcome: `(m,)`.
        dev_company: `(m,)`, so that a company stays in one fold.

    Raises:
        InputError: No training row, or every one, has the event.
    """
    x = np.asarray(forecast, dtype=np.float64)
    event = np.asarray(outcome, dtype=np.float64) > threshold
    if event.all() or not event.any():
        raise InputError(
            "events to fit on",
            expected="training rows with and without the event",
            found=f"{int(event.sum())} events in {len(event)} rows",
            remedy="Choose the threshold from the training rows' quantiles.",
        )
    centre = float(x.mean())
    design = np.column_stack([np.ones_like(x), x - centre])
    fitted = fit_logistic(design, event.astype(np.float64), penalty=np.array([0.0, _PENALTY]))
    slope = float(fitted.coefficients[1])
    intercept = float(fitted.coefficients[0]) - slope * centre
    scores = intercept + slope * np.asarray(dev_forecast, dtype=np.float64)
    dev_event = np.asarray(dev_outcome, dtype=np.float64) > threshold
    calibration, method = _chosen(scores, dev_event, dev_company)
    return EventModel(threshold, intercept, slope, calibration, method, int(dev_event.sum()))


def _chosen(
    scores: Floats, event: npt.NDArray[np.bool_], company: npt.ArrayLike | None
) -> tuple[Calibration, str]:
    if not event.any() or event.all() or np.ptp(scores) == 0:
        return AsItIs(), "as it is"
    try:
        choice = choose_calibration(
            scores, event, groups=company, methods=CALIBRATIONS, folds=_FOLDS, seed=0
        )
    except InputError:  # too few of a class for its folds: nothing to choose by
        return AsItIs(), "as it is"
    return choice.calibration, choice.method
