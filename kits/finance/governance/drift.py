"""Compares two periods of a model's use: its inputs, its probabilities, and their meaning.

The population stability index says whether inputs and probabilities are distributed as they
were; calibration drift says whether a probability still means what it meant. The bands are
the convention of Siddiqi (2006, "Credit risk scorecards"): below 0.10 stable, from 0.25 on
shifted. They are blind to sample size, so the p-value of no drift stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.evaluation.drift import (
    CalibrationDrift,
    FeatureDrift,
    StabilityIndex,
    calibration_drift,
    feature_drift,
    population_stability_index,
)

__all__ = ["Action", "DriftReport", "Period", "VariableDrift", "drift_report"]

Action = Literal["continue", "watch", "review"]
Floats = npt.NDArray[np.float64]

_SIGNIFICANT = 0.01  # two tests a period, month after month: 0.05 would cry wolf


@dataclass(frozen=True, eq=False)
class Period:
    """What a model saw and said in one period.

    Args:
        name: In words, such as "2016 Q1".
        features: Feature name to `(n,)` values; NaN is missing.
        probability: `(n,)` strictly between 0 and 1.
        event: `(n,)` whether the event happened; None while outcomes are not known.

    Raises:
        InputError: Lengths differ, or there are no rows.
    """

    name: str
    features: Mapping[str, npt.ArrayLike]
    probability: npt.ArrayLike
    event: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        columns = {"probability": self.probability, **self.features}
        if self.event is not None:
            columns["event"] = self.event
        lengths = {np.shape(np.asarray(column)) for column in columns.values()}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1 or next(iter(lengths)) == (0,):
            raise _unusable("columns of one length, with rows", f"shapes {sorted(lengths)[:3]}")


@dataclass(frozen=True)
class VariableDrift:
    """One variable in both periods.

    Args:
        name: The feature's name, or "probability".
        stability: Its population stability index.
        distance: How far its distribution moved.
    """

    name: str
    stability: StabilityIndex
    distance: FeatureDrift


@dataclass(frozen=True)
class DriftReport:
    """Two periods compared.

    Args:
        reference: Name of the earlier period.
        current: Name of the later one.
        n_reference: Its rows.
        n_current: Its rows.
        variables: The probability first, then the features by name.
        calibration: None while outcomes of a period are not known, or `calibration_note` says why.
        calibration_note: Why there is no calibration drift; "" where there is.
    """

    reference: str
    current: str
    n_reference: int
    n_current: int
    variables: tuple[VariableDrift, ...]
    calibration: CalibrationDrift | None
    calibration_note: str = ""

    @property
    def action(self) -> Action:
        """What follows: "continue", "watch" or "review" of the model.

        Review: the probability's index is in the band "shifted", or calibration changed with a
        p-value below 0.01. Watch: any variable is beyond "stable".
        """
        changed = self.calibration is not None and self.calibration.p_value < _SIGNIFICANT
        if changed or self.variables[0].stability.band == "shifted":
            return "review"
        if any(one.stability.band != "stable" for one in self.variables):
            return "watch"
        return "continue"

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only; what is no number is null."""
        return {**_finite(asdict(self)), "action": self.action}


def drift_report(reference: Period, current: Period, *, n_bins: int = 10) -> DriftReport:
    """Compares two periods.

    Args:
        reference: The period that the model was built or last validated on.
        current: A later one with the same features.
        n_bins: Bins of the stability index, of equal mass in the reference.

    Raises:
        InputError: The features differ, or a period has too few or unusable values.
        ModelError: The probabilities of a period separate its events.
    """
    if set(reference.features) != set(current.features):
        apart = set(reference.features) ^ set(current.features)
        raise _unusable("the same features in both periods", f"{len(apart)} in one alone")
    columns = {"probability": (reference.probability, current.probability)} | {
        name: (reference.features[name], current.features[name])
        for name in sorted(reference.features)
    }
    variables = tuple(
        VariableDrift(
            name,
            population_stability_index(before, after, n_bins=n_bins),
            feature_drift(before, after),
        )
        for name, (before, after) in columns.items()
    )
    calibration, note = None, "outcomes of a period are not known yet"
    if reference.event is not None and current.event is not None:
        calibration, note = (
            calibration_drift(
                (reference.probability, reference.event), (current.probability, current.event)
            ),
            "",
        )
    return DriftReport(
        reference=reference.name,
        current=current.name,
        n_reference=len(np.asarray(reference.probability)),
        n_current=len(np.asarray(current.probability)),
        variables=variables,
        calibration=calibration,
        calibration_note=note,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unusable(expected: str, found: str) -> InputError:
    return InputError(
        "drift report",
        expected=expected,
        found=found,
        remedy="Give both periods with the same columns, one value a row.",
    )
