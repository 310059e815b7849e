"""Bootstrap intervals: of any statistic by cluster, of paired gains, over seeds and units.

A cluster is what was drawn when the data came about (a company, a patient): its rows are
drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import InputError

__all__ = ["Interval", "bootstrap_interval", "crossed_interval", "mean_interval", "paired_gain"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Method = Literal["percentile", "bca"]

_NORMAL = NormalDist()
_JACKKNIFE_GROUPS = 200
_DRAWS_AT_ONCE = 64


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its interval (95% unless another level was asked for)."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def bootstrap_interval(
    statistic: Callable[[Ints], float],
    cluster: npt.ArrayLike,
    *,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Interval:
    """Returns a statistic with its bootstrap interval, clusters drawn whole.

    "percentile" takes quantiles of the draws; "bca" corrects them for bias and skewness (Efron
    1987, "Better bootstrap confidence intervals"), its acceleration by a jackknife over clusters,
    in at most 200 groups. Draws for which the statistic is NaN (one class alone) are left out.

    Args:
        statistic: Of row numbers, which may repeat, `(n_rows,)`.
        cluster: `(n,)` names of the rows' clusters; `range(n)` where rows are independent.
        draws: Bootstrap draws.
        level: Share of such intervals that hold the truth.
        method: As above.
        seed: Seed of the draws.

    Raises:
        InputError: Fewer than two clusters, a level out of bounds, or a statistic without value.
    """
    rows = _rows_by_cluster(cluster, level)
    random = np.random.default_rng(seed)
    value = statistic(rows.of(np.arange(len(rows))))
    drawn = np.array(
        [statistic(rows.of(random.integers(len(rows), size=len(rows)))) for _ in range(draws)]
    )
    left_out = (lambda: _jackknife(statistic, rows, random)) if method == "bca" else None
    return _interval(value, drawn, level, left_out)


def mean_interval(
    values: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Interval:
    """Returns the mean of all rows with its interval; as `bootstrap_interval`, only faster.

    Args:
        values: `(n,)`.
        cluster: `(n,)` names of the rows' clusters.
        draws: Bootstrap draws.
        level: Share of such intervals that hold the truth.
        method: "percentile" or "bca".
        seed: Seed of the draws.

    Raises:
        InputError: As in `bootstrap_interval`, or a value is no finite number.
    """
    v = np.asarray(values, dtype=np.float64)
    rows = _rows_by_cluster(cluster, level)
    if v.shape != np.shape(cluster) or not np.isfinite(v).all():
        raise _unusable("one finite value for each row", f"shape {v.shape}")
    sums = np.add.reduceat(v[rows.order], rows.starts)
    counts = rows.counts.astype(np.float64)
    random = np.random.default_rng(seed)
    drawn: list[Floats] = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = (min(_DRAWS_AT_ONCE, draws - start), len(rows))
        picked = random.integers(len(rows), size=size)
        drawn.append(sums[picked].sum(1) / counts[picked].sum(1))

    def left_out() -> Floats:
        return np.asarray((sums.sum() - sums) / (counts.sum() - counts))

    return _interval(
        float(v.mean()), np.concatenate(drawn), level, left_out if method == "bca" else None
    )


def paired_gain(
    loss_of_other: npt.ArrayLike,
    loss_of_ours: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Interval:
    """Returns by how much our mean loss is smaller on the same rows; above zero is better.

    Args:
        loss_of_other: `(n,)` loss of each row.
        loss_of_ours: `(n,)`.
        cluster: `(n,)` names of the rows' clusters.
        draws: Bootstrap draws.
        level: Share of such intervals that hold the truth.
        method: "percentile" or "bca".
        seed: Seed of the draws.

    Raises:
        InputError: As in `mean_interval`.
    """
    other, ours = (np.asarray(x, dtype=np.float64) for x in (loss_of_other, loss_of_ours))
    if other.shape != ours.shape:
        raise _unusable("losses of the same rows", f"shapes {other.shape} and {ours.shape}")
    return mean_interval(other - ours, cluster, draws=draws, level=level, method=method, seed=seed)


def crossed_interval(
    scores: Sequence[Sequence[float]],
    units: Sequence[Sequence[str]],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Returns the mean of all scores with its bootstrap interval over seeds and units.

    Both are drawn again, independently: a crossed bootstrap (Owen 2007, "The pigeonhole
    bootstrap", doi 10.1214/07-AOAS122), which does not understate the spread as drawing only
    one of the two would.

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


@dataclass(frozen=True)
class _Clusters:
    """Rows sorted by cluster: those of cluster i are `order[starts[i] : starts[i] + counts[i]]`."""

    order: Ints
    starts: Ints
    counts: Ints

    def __len__(self) -> int:
        return len(self.counts)

    def of(self, picked: Ints) -> Ints:
        """Returns the rows of the picked clusters, which may repeat."""
        sizes = self.counts[picked]
        before = np.cumsum(sizes) - sizes
        within = np.arange(int(sizes.sum())) - np.repeat(before, sizes)
        return np.asarray(self.order[np.repeat(self.starts[picked], sizes) + within])


def _rows_by_cluster(cluster: npt.ArrayLike, level: float) -> _Clusters:
    names = np.asarray(cluster)
    if names.ndim != 1 or len(np.unique(names)) < 2 or not 0 < level < 1:
        raise _unusable(
            "two or more clusters named by an array (n,), a level between 0 and 1",
            f"shape {names.shape}, {np.unique(names).size} clusters, level {level:g}",
        )
    _, index, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    return _Clusters(order, np.cumsum(counts) - counts, counts)


def _jackknife(
    statistic: Callable[[Ints], float], rows: _Clusters, random: np.random.Generator
) -> Floats:
    groups = np.array_split(random.permutation(len(rows)), min(len(rows), _JACKKNIFE_GROUPS))
    return np.array(
        [statistic(rows.of(np.setdiff1d(np.arange(len(rows)), group))) for group in groups]
    )


def _interval(
    value: float, drawn: Floats, level: float, left_out: Callable[[], Floats] | None
) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) == 0:
        raise _unusable("a statistic with a value", f"{value}, {len(drawn)} draws with a value")
    ends = [(1 - level) / 2, (1 + level) / 2]
    if left_out is not None and drawn.min() < drawn.max():
        ends = _corrected(ends, value, drawn, left_out())
    low, high = np.quantile(drawn, ends)
    return Interval(float(value), float(low), float(high))


def _corrected(ends: list[float], value: float, drawn: Floats, left_out: Floats) -> list[float]:
    """Returns BCa's levels: Efron (1987), equations 6.8 and 7.2."""
    least = 0.5 / len(drawn)
    below = np.mean(drawn < value) + np.mean(drawn == value) / 2
    bias = _NORMAL.inv_cdf(float(np.clip(below, least, 1 - least)))
    apart = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    spread = float((apart**2).sum() ** 1.5)
    acceleration = float((apart**3).sum()) / (6 * spread) if spread else 0.0
    shifted = [bias + _NORMAL.inv_cdf(end) for end in ends]
    return [_NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in shifted]


def _unusable(expected: str, found: str) -> InputError:
    return InputError(
        "bootstrap",
        expected=expected,
        found=found,
        remedy="Name each row's cluster, and leave rows without a value out.",
    )
