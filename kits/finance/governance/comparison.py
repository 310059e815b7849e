"""Compares a champion with a challenger on the same rows, pair by pair.

A gain is champion's loss minus challenger's: above zero the challenger is better. Its
interval is a bootstrap over clusters (companies), since rows of one company are not apart;
the area under the ROC curve has DeLong's paired interval.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.evaluation.intervals import Interval, paired_gain
from common.evaluation.metrics import area_difference, area_under_curve, probabilities_and_events

__all__ = ["Comparison", "Measure", "Verdict", "compare_forecasts", "compare_probabilities"]

Verdict = Literal["challenger", "champion", "undecided"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One measure of both models.

    Args:
        name: "brier", "log_loss", "auc", "squared_error" or "absolute_error".
        champion: Its value for the champion.
        challenger: Its value for the challenger.
        gain: How much better the challenger is, with its interval; above zero is better,
            whichever way the measure runs.
    """

    name: str
    champion: float
    challenger: float
    gain: Interval


@dataclass(frozen=True)
class Comparison:
    """Both models on the same rows.

    Args:
        n_rows: Rows that both were measured on.
        n_clusters: Companies, or what else the rows were drawn by.
        level: Level of the intervals.
        measures: The first decides.
    """

    n_rows: int
    n_clusters: int
    level: float
    measures: tuple[Measure, ...]

    @property
    def verdict(self) -> Verdict:
        """Who is better, beyond chance.

        The first measure's interval decides, unless another one's contradicts it.
        """
        deciding, others = self.measures[0].gain, [one.gain for one in self.measures[1:]]
        if deciding.above_zero and not any(gain.below_zero for gain in others):
            return "challenger"
        if deciding.below_zero and not any(gain.above_zero for gain in others):
            return "champion"
        return "undecided"

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only."""
        return {
            **asdict(self),
            "measures": [asdict(m) for m in self.measures],
            "verdict": self.verdict,
        }


def compare_probabilities(
    event: npt.ArrayLike,
    champion: npt.ArrayLike,
    challenger: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compares probabilities of an event: Brier score (decides), log loss, area under the curve.

    Args:
        event: `(n,)` whether it happened.
        champion: `(n,)` the champion's probabilities.
        challenger: `(n,)` the challenger's.
        cluster: `(n,)` company of each row.
        level: Share of such intervals that hold the truth.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        InputError: Lengths differ, there are no probabilities strictly between 0 and 1, or a
            class has fewer than two rows.
    """
    p, e = probabilities_and_events(champion, event)
    q, _ = probabilities_and_events(challenger, event)
    if min(p.min(), q.min()) <= 0 or max(p.max(), q.max()) >= 1:
        raise _unusable("probabilities above 0 and below 1", "a certainty")
    losses = {
        "brier": ((p - e) ** 2, (q - e) ** 2),
        "log_loss": (-np.log(np.where(e, p, 1 - p)), -np.log(np.where(e, q, 1 - q))),
    }
    difference = area_difference(q, p, e, level=level)
    area = Measure(
        "auc",
        area_under_curve(p, e).value,
        area_under_curve(q, e).value,
        Interval(difference.value, difference.low, difference.high),
    )
    measures = _paired(losses, cluster, level=level, draws=draws, seed=seed)
    return Comparison(len(p), len(np.unique(np.asarray(cluster))), level, (*measures, area))


def compare_forecasts(
    outcome: npt.ArrayLike,
    champion: npt.ArrayLike,
    challenger: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compares forecasts of a number: squared error (decides), absolute error.

    Args:
        outcome: `(n,)` what came.
        champion: `(n,)` the champion's forecasts.
        challenger: `(n,)` the challenger's.
        cluster: `(n,)` company of each row.
        level: Share of such intervals that hold the truth.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        InputError: Lengths differ, or a value is no finite number.
    """
    y, a, b = (np.asarray(x, dtype=np.float64) for x in (outcome, champion, challenger))
    finite = all(np.isfinite(x).all() for x in (y, a, b))
    if y.ndim != 1 or not len(y) or not y.shape == a.shape == b.shape or not finite:
        raise _unusable(
            "finite numbers for the same rows", f"shapes {y.shape}, {a.shape} and {b.shape}"
        )
    losses: dict[str, tuple[Floats, Floats]] = {
        "squared_error": ((a - y) ** 2, (b - y) ** 2),
        "absolute_error": (np.abs(a - y), np.abs(b - y)),
    }
    measures = _paired(losses, cluster, level=level, draws=draws, seed=seed)
    return Comparison(len(y), len(np.unique(np.asarray(cluster))), level, measures)


def _paired(
    losses: dict[str, tuple[Floats, Floats]],
    cluster: npt.ArrayLike,
    *,
    level: float,
    draws: int,
    seed: int,
) -> tuple[Measure, ...]:
    return tuple(
        Measure(
            name,
            float(theirs.mean()),
            float(ours.mean()),
            paired_gain(theirs, ours, cluster, draws=draws, level=level, seed=seed),
        )
        for name, (theirs, ours) in losses.items()
    )


def _unusable(expected: str, found: str) -> InputError:
    return InputError(
        "champion and challenger",
        expected=expected,
        found=found,
        remedy="Give both models' outputs for the same rows, in the same order.",
    )
