"""Intervals for scores of several seeds on the same test rows, and for their differences.

Both the test rows and the seeds are drawn again, independently: a crossed bootstrap (Owen
2007, "The pigeonhole bootstrap", doi 10.1214/07-AOAS122), which does not understate the spread as
drawing only one of the two would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "crossed_interval", "weighted_f1"]


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


def crossed_interval(
    scores: Sequence[Sequence[float]],
    units: Sequence[Sequence[str]],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Returns the mean of all scores with its bootstrap interval over seeds and units.

    Args:
        scores: For each seed the score of each of its test rows (1 for right, 0 for wrong,
            or a difference of two such).
        units: For each seed what each of its rows is (a text, a patient): rows of one unit
            are drawn together, in every seed.
        draws: Bootstrap draws.
        seed: Seed of the draws.
    """
    index = {unit: column for column, unit in enumerate(sorted(set().union(*units)))}
    total = np.zeros((len(scores), len(index)))  # [n_seeds, n_units]
    count = np.zeros_like(total)
    for row, (values, names) in enumerate(zip(scores, units, strict=True)):
        columns = [index[name] for name in names]
        np.add.at(total[row], columns, np.asarray(values, dtype=float))
        np.add.at(count[row], columns, 1.0)
    random = np.random.default_rng(seed)
    of_seeds = random.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), draws)
    of_units = random.multinomial(len(index), np.full(len(index), 1 / len(index)), draws)
    sums = np.einsum("bs,su,bu->b", of_seeds, total, of_units, optimize=True)
    counts = np.einsum("bs,su,bu->b", of_seeds, count, of_units, optimize=True)
    drawn = counts > 0  # a draw of a few units may hold none of a seed's rows
    low, high = np.percentile(sums[drawn] / counts[drawn], (2.5, 97.5))
    return Interval(float(total.sum() / count.sum()), float(low), float(high))


def weighted_f1(
    labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], n_classes: int
) -> float:
    """Returns the mean F1 of the classes, weighted by how many rows each one has."""
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (labels, predictions), 1.0)
    right, support = np.diag(confusion), confusion.sum(axis=1)
    f1 = 2 * right / np.maximum(support + confusion.sum(axis=0), 1e-12)
    return float((f1 * support).sum() / support.sum())
