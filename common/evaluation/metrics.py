"""Scores of forecasts of yes-or-no events, and of quantiles.

`score` is `(n,)`, higher where the event is likelier; `probability` is `(n,)` within 0 to 1;
`event` is `(n,)`, true or 1 where it happened. Rows count as
independent. Losses: smaller is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from common.errors import InputError

__all__ = [
    "AreaDifference",
    "AreaUnderCurve",
    "BrierDecomposition",
    "Reliability",
    "accuracy_ratio",
    "area_difference",
    "area_under_curve",
    "brier_decomposition",
    "brier_score",
    "calibration_error_by_chance",
    "expected_calibration_error",
    "kolmogorov_smirnov",
    "log_loss",
    "pinball_loss",
    "probabilities_and_events",
    "reliability",
    "scores_and_events",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AreaUnderCurve:
    """Area under the ROC curve with DeLong's interval.

    Args:
        value: Probability that an event's score exceeds a non-event's, ties counted half.
        standard_error: By DeLong's variance; 0 where the scores separate the classes.
        low: Lower end, not below 0.
        high: Upper end, not above 1.
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class AreaDifference:
    """First area minus second on the same rows, with DeLong's paired interval.

    Args:
        value: The difference.
        standard_error: By DeLong's covariance.
        low: Lower end of the interval.
        high: Upper end.
        p_value: Two-sided; 1 where the two scores rank all rows alike.
    """

    value: float
    standard_error: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Reliability:
    """Forecast and outcome by bins of equal numbers of rows.

    Args:
        forecast: `(n_bins,)` mean probability of each bin that has rows, rising.
        frequency: `(n_bins,)` share of events in it.
        count: `(n_bins,)` its rows.
    """

    forecast: Floats
    frequency: Floats
    count: Ints

    @property
    def expected_calibration_error(self) -> float:
        """Mean of |forecast - frequency|, weighted by rows."""
        gap = np.abs(self.forecast - self.frequency)
        return float(np.average(gap, weights=self.count))


@dataclass(frozen=True)
class BrierDecomposition:
    """`brier = reliability - resolution + uncertainty + within_bin`, exactly.

    Murphy (1973), with the terms within bins of Stephenson, Coelho and Jolliffe (2008, "Two extra
    components in the Brier score decomposition"), which the first three lack when a bin holds
    different probabilities.

    Args:
        brier: The Brier score.
        reliability: How far forecasts are from frequencies; smaller is better.
        resolution: How far the bins' frequencies are from the base rate; larger is better.
        uncertainty: Variance of the event, the score of its base rate.
        within_bin: Variance of the probabilities in a bin, less twice their covariance with
            the event.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float


def area_under_curve(
    score: npt.ArrayLike, event: npt.ArrayLike, *, level: float = 0.95
) -> AreaUnderCurve:
    """Returns the area under the ROC curve with its interval.

    DeLong, DeLong and Clarke-Pearson (1988, "Comparing the areas under two or more correlated
    receiver operating characteristic curves"), by the ranks of Sun and Xu (2014); the interval is
    value +- z standard errors, cut to 0 .. 1. It is too narrow where the area is close to 1.

    Raises:
        InputError: Lengths differ, a score is no number, or a class has fewer than two rows.
    """
    s, e = scores_and_events(score, event, least_per_class=2)
    of_events, of_others = _placements(s, e)
    value = float(of_events.mean())
    error = math.sqrt(
        of_events.var(ddof=1) / len(of_events) + of_others.var(ddof=1) / len(of_others)
    )
    reach = _z(level) * error
    return AreaUnderCurve(value, error, max(0.0, value - reach), min(1.0, value + reach))


def area_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, event: npt.ArrayLike, *, level: float = 0.95
) -> AreaDifference:
    """Returns the area of `first` minus that of `second` on the same rows.

    Raises:
        InputError: As in `area_under_curve`.
    """
    a, e = scores_and_events(first, event, least_per_class=2)
    b, _ = scores_and_events(second, event, least_per_class=2)
    (a1, a0), (b1, b0) = _placements(a, e), _placements(b, e)
    ones, zeros = a1 - b1, a0 - b0
    value = float(ones.mean())
    error = math.sqrt(ones.var(ddof=1) / len(ones) + zeros.var(ddof=1) / len(zeros))
    reach = _z(level) * error
    p = 1.0 if error == 0 else 2 * NormalDist().cdf(-abs(value) / error)
    return AreaDifference(value, error, value - reach, value + reach, p)


def accuracy_ratio(score: npt.ArrayLike, event: npt.ArrayLike) -> float:
    """Returns 2 AUC - 1: the accuracy ratio of the CAP curve, also called Gini or Somers' D."""
    return 2 * area_under_curve(score, event).value - 1


def kolmogorov_smirnov(score: npt.ArrayLike, event: npt.ArrayLike) -> float:
    """Returns the largest distance between the score distributions of events and others."""
    s, e = scores_and_events(score, event)
    order = np.argsort(s, kind="stable")
    last = np.append(np.diff(s[order]) > 0, True)  # tied rows step together
    hits = np.cumsum(e[order])[last] / e.sum()
    misses = np.cumsum(~e[order])[last] / (~e).sum()
    return float(np.abs(hits - misses).max())


def brier_score(probability: npt.ArrayLike, event: npt.ArrayLike) -> float:
    """Returns the mean squared difference of probability and outcome (Brier 1950)."""
    p, e = probabilities_and_events(probability, event)
    return float(np.mean((p - e) ** 2))


def log_loss(probability: npt.ArrayLike, event: npt.ArrayLike) -> float:
    """Returns the mean of -ln(probability of what happened), in nats.

    Nothing is clipped: a certainty that failed costs infinity.
    """
    p, e = probabilities_and_events(probability, event)
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.log(np.where(e, p, 1 - p))))


def reliability(
    probability: npt.ArrayLike, event: npt.ArrayLike, *, n_bins: int = 10
) -> Reliability:
    """Returns forecast and frequency in `n_bins` bins of equal numbers of rows.

    Equal probabilities share a bin, so the order of rows does not matter; there may be
    fewer bins than asked for.

    Raises:
        InputError: Lengths differ, a probability lies outside 0 to 1, or `n_bins` is below 1.
    """
    p, e = probabilities_and_events(probability, event)
    index = _equal_mass(p, n_bins)
    count = np.bincount(index)
    kept = count > 0
    return Reliability(
        forecast=np.bincount(index, weights=p)[kept] / count[kept],
        frequency=np.bincount(index, weights=e)[kept] / count[kept],
        count=count[kept],
    )


def expected_calibration_error(
    probability: npt.ArrayLike, event: npt.ArrayLike, *, n_bins: int = 10
) -> float:
    """Returns the mean |forecast - frequency| over bins of equal numbers of rows.

    It is above zero for a perfect forecast too: `calibration_error_by_chance` says by how much.
    """
    return reliability(probability, event, n_bins=n_bins).expected_calibration_error


def calibration_error_by_chance(
    probability: npt.ArrayLike, *, n_bins: int = 10, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns mean and 95th percentile of the error if the probabilities were right.

    Events are drawn from the probabilities themselves (consistency resampling, Broecker and
    Smith 2007, "Increasing the reliability of reliability diagrams").
    """
    p, _ = probabilities_and_events(probability, np.zeros(np.shape(probability)))
    random = np.random.default_rng(seed)
    index = _equal_mass(p, n_bins)
    forecast = np.bincount(index, weights=p)
    errors = np.empty(draws)
    for draw in range(draws):
        happened = np.bincount(index, weights=random.random(len(p)) < p, minlength=len(forecast))
        errors[draw] = np.abs(forecast - happened).sum() / len(p)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def brier_decomposition(
    probability: npt.ArrayLike, event: npt.ArrayLike, *, n_bins: int = 10
) -> BrierDecomposition:
    """Returns the Brier score and its parts over bins of equal numbers of rows."""
    p, e = probabilities_and_events(probability, event)
    table = reliability(p, e, n_bins=n_bins)
    index = np.unique(_equal_mass(p, n_bins), return_inverse=True)[1]
    rate = float(e.mean())
    weight = table.count / len(p)
    apart = p - table.forecast[index]
    return BrierDecomposition(
        brier=brier_score(p, e),
        reliability=float(weight @ (table.forecast - table.frequency) ** 2),
        resolution=float(weight @ (table.frequency - rate) ** 2),
        uncertainty=rate * (1 - rate),
        within_bin=float(np.mean(apart**2 - 2 * apart * (e - table.frequency[index]))),
    )


def pinball_loss(outcome: npt.ArrayLike, quantile: npt.ArrayLike, *, level: float) -> float:
    """Returns the mean pinball loss of a forecast of the `level` quantile (Koenker, Bassett 1978).

    `max(level (y - q), (level - 1) (y - q))`.

    Args:
        outcome: `(n,)`, in any unit.
        quantile: `(n,)` or one number, in the same unit.
        level: Between 0 and 1; for a loss's VaR the confidence level.

    Raises:
        InputError: A value is no number, shapes differ, or the level is out of bounds.
    """
    y, q = np.asarray(outcome, dtype=np.float64), np.asarray(quantile, dtype=np.float64)
    fits = y.ndim == 1 and y.size > 0 and q.shape in {(), y.shape}
    if not fits or not np.isfinite(y).all() or not np.isfinite(q).all() or not 0 < level < 1:
        raise InputError(
            "quantile forecast",
            expected="finite outcomes (n,), quantiles (n,) or one, a level between 0 and 1",
            found=f"outcomes {y.shape}, quantiles {q.shape}, level {level:g}",
            remedy="Drop rows without an outcome and give one quantile for each.",
        )
    return float(np.mean(np.maximum(level * (y - q), (level - 1) * (y - q))))


def scores_and_events(
    score: npt.ArrayLike, event: npt.ArrayLike, *, least_per_class: int = 1
) -> tuple[Floats, Bools]:
    """Returns scores as floats and events as booleans, once they are usable.

    Raises:
        InputError: Lengths differ, a score is no finite number, an event is neither 0 nor 1,
            or a class has fewer than `least_per_class` rows.
    """
    s, e = np.asarray(score, dtype=np.float64), np.asarray(event)
    faults = []
    if s.ndim != 1 or e.shape != s.shape or s.size == 0:
        faults.append(f"shapes {s.shape} and {e.shape}")
    if not np.isfinite(s).all():
        faults.append(f"{int((~np.isfinite(s)).sum())} scores that are no finite numbers")
    if not np.isin(e, (0, 1)).all():
        faults.append("outcomes other than 0 and 1")
    elif e.shape == s.shape:
        ones = int(np.count_nonzero(e))
        if min(ones, e.size - ones) < least_per_class:
            faults.append(f"{ones} events and {e.size - ones} others")
    if faults:
        raise InputError(
            "scored events",
            expected=f"two arrays (n,), finite, with {least_per_class} or more rows of each class",
            found=", ".join(faults),
            remedy="Drop rows without an outcome; one class alone has nothing to compare.",
        )
    return s, e.astype(np.bool_)


def probabilities_and_events(
    probability: npt.ArrayLike, event: npt.ArrayLike
) -> tuple[Floats, Bools]:
    """Returns both arrays once they are usable; one class alone is fine.

    Raises:
        InputError: As in `scores_and_events`, or a probability lies outside 0 to 1.
    """
    p, e = scores_and_events(probability, event, least_per_class=0)
    outside = int(((p < 0) | (p > 1)).sum())
    if outside:
        raise InputError(
            "probabilities",
            expected="numbers within 0 to 1",
            found=f"{outside} outside",
            remedy="Turn scores into probabilities first (common.evaluation.calibration).",
        )
    return p, e


def _placements(score: Floats, event: Bools) -> tuple[Floats, Floats]:
    """Returns for each event the share of others below it, for each other of events above it."""
    ranks = _midranks(score)
    ones, zeros = score[event], score[~event]
    of_events = (ranks[event] - _midranks(ones)) / len(zeros)
    of_others = 1 - (ranks[~event] - _midranks(zeros)) / len(ones)
    return of_events, of_others


def _midranks(values: Floats) -> Floats:
    """Returns ranks from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[inverse], dtype=np.float64)


def _equal_mass(values: Floats, n_bins: int) -> Ints:
    if n_bins < 1:
        raise InputError(
            "reliability bins", expected="1 or more", found=str(n_bins), remedy="Ask for 10."
        )
    share = (_midranks(values) - 0.5) / len(values)
    return np.asarray(np.floor(share * n_bins), dtype=np.int64)


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(
            "confidence level", expected="between 0 and 1", found=f"{level:g}", remedy="Give 0.95."
        )
    return NormalDist().inv_cdf(0.5 + level / 2)
