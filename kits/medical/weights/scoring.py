"""Figures for a score of suspicion: ranking, calibration, and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

__all__ = [
    "Calibration",
    "Interval",
    "Statistic",
    "auc",
    "bootstrap_by_group",
    "brier",
    "expected_calibration_error",
    "fit_platt",
]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Statistic = Callable[[npt.NDArray[np.intp]], float]


@dataclass(frozen=True)
class Calibration:
    """Probability = 1 / (1 + exp(-(slope x logit + intercept))) (Platt, 1999)."""

    slope: float
    intercept: float

    def probability(self, logits: Floats) -> Floats:
        """Returns the probabilities of `logits`, same shape."""
        calibrated: Floats = special.expit(self.slope * logits + self.intercept)
        return calibrated


@dataclass(frozen=True)
class Interval:
    """A figure with the 2.5% and 97.5% points of its bootstrap distribution."""

    value: float
    low: float
    high: float


def auc(scores: Floats, labels: Labels) -> float:
    """Returns the area under the ROC curve (Mann-Whitney U, ties count half).

    Not a number where one class is absent.
    """
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = stats.rankdata(scores)
    u = float(ranks[labels].sum()) - n_positive * (n_positive + 1) / 2
    return u / (n_positive * n_negative)


def brier(probabilities: Floats, labels: Labels) -> float:
    """Returns the mean squared difference of probability and outcome (Brier, 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def expected_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = 10) -> float:
    """Returns the mean gap of probability and frequency over bins of equal count."""
    order = np.argsort(probabilities, kind="stable")
    gaps = [
        abs(float(probabilities[part].mean()) - float(labels[part].mean())) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return float(sum(gaps) / len(labels))


def fit_platt(logits: Floats, labels: Labels) -> Calibration:
    """Fits slope and intercept by maximum likelihood, with Platt's smoothed targets (1999)."""
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def loss(parameters: Floats) -> float:
        z = parameters[0] * logits + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - targets * z))

    found = optimize.minimize(loss, np.array([1.0, 0.0]), method="BFGS")
    return Calibration(float(found.x[0]), float(found.x[1]))


def bootstrap_by_group(
    statistic: Statistic, groups: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Draws whole groups (patients) with replacement and returns the statistic's interval.

    Draws in which the statistic is not finite (one class only) are left out.
    """
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(np.array(groups), return_inverse=True)
    members = [np.flatnonzero(inverse == k) for k in range(len(names))]
    values = []
    for _ in range(draws):
        drawn = rng.integers(0, len(names), len(names))
        values.append(statistic(np.concatenate([members[k] for k in drawn])))
    finite = np.array(values)[np.isfinite(values)]
    value = statistic(np.arange(len(groups)))
    if not len(finite):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5])
    return Interval(value, float(low), float(high))
