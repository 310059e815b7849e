"""Weight of evidence: a column's values in bins, each with what it says about default.

    weight = ln(defaults in the bin / others in the bin) - ln(all defaults / all others)

Positive raises the odds of default (Siddiqi 2006, "Credit risk scorecards", has the opposite
sign). Small bins are drawn towards zero by ten rows at the base rate, so that they say little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = ["Binning", "Trend", "bin_column"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Trend = Literal["monotone", "free"]

_PRIOR_ROWS = 10.0
_FINEST_BINS = 20
_SMALLEST_SHARE = 0.05  # Siddiqi: 5% of the rows or more in each bin


@dataclass(frozen=True)
class Binning:
    """The bins of one column.

    A numeric column has `len(edges) + 1` bins, a value equal to an edge in the lower one; a column
    of text has a bin for each tuple of levels. Two bins follow: "missing", and "other" for levels
    that were rare or never seen.

    Args:
        name: The column.
        edges: Inner edges, rising; empty for text.
        levels: Levels of each bin; empty for numbers.
        weights: What each bin says, in log-odds, "missing" and "other" last: weights of evidence,
            or effects that were fitted together.
        rows: Training rows by bin.
        defaults: Defaults among them.

    Raises:
        TableError: The lengths do not agree, or the edges do not rise.
    """

    name: str
    edges: tuple[float, ...]
    levels: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    rows: tuple[int, ...]
    defaults: tuple[int, ...]

    def __post_init__(self) -> None:
        n_bins = (len(self.levels) or len(self.edges) + 1) + 2
        lengths = {len(self.weights), len(self.rows), len(self.defaults)}
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if lengths != {n_bins} or not rising or (self.edges and self.levels):
            raise TableError(
                f"binning of {self.name}",
                expected=f"{n_bins} weights and counts, rising edges or levels",
                found=f"lengths {sorted(lengths)}",
                remedy="Read the scorecard as it was written, or bin the column again.",
            )

    @property
    def is_text(self) -> bool:
        """Whether the column holds text."""
        return bool(self.levels)

    @property
    def mean_weight(self) -> float:
        """Mean weight of the training rows."""
        return float(np.average(self.weights, weights=self.rows))

    @property
    def information_value(self) -> float:
        """`sum (share of defaults - share of others) weight`: below 0.02 a column says little."""
        rows, defaults = np.array(self.rows), np.array(self.defaults)
        others = rows - defaults
        apart = defaults / defaults.sum() - others / others.sum()
        return float(apart @ np.array(self.weights))

    def index(self, values: npt.NDArray[Any]) -> Ints:
        """Returns the bin of each value, `(n,)`.

        Raises:
            TableError: Text was given for numbers, or numbers for text, or an infinite number.
        """
        if (values.dtype.kind == "U") != self.is_text or values.dtype.kind not in "fU":
            raise _wrong_kind(self.name, "text" if self.is_text else "numbers")
        missing = len(self.weights) - 2
        if self.is_text:
            known = {level: i for i, bin_ in enumerate(self.levels) for level in bin_}
            known[""] = missing
            unseen = missing + 1
            return np.array([known.get(v, unseen) for v in values.tolist()], dtype=np.int64)
        if np.isinf(values).any():
            raise _wrong_kind(self.name, "finite numbers")
        found = np.searchsorted(self.edges, values)
        return np.where(np.isnan(values), missing, found).astype(np.int64)

    def label(self, bin_: int) -> str:
        """Returns a bin in words, without any borrower's own value."""
        if bin_ >= len(self.weights) - 2:
            return "missing" if bin_ == len(self.weights) - 2 else "another level"
        if self.is_text:
            return " or ".join(self.levels[bin_])
        if not self.edges:
            return "stated"
        if bin_ == 0:
            return f"at most {self.edges[0]:.6g}"
        if bin_ == len(self.edges):
            return f"above {self.edges[-1]:.6g}"
        return f"above {self.edges[bin_ - 1]:.6g}, at most {self.edges[bin_]:.6g}"

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values that `from_json` reads back."""
        return {
            "name": self.name,
            "edges": list(self.edges),
            "levels": [list(bin_) for bin_ in self.levels],
            "weights": list(self.weights),
            "rows": list(self.rows),
            "defaults": list(self.defaults),
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Binning:
        """Reads what `to_json` wrote.

        Raises:
            TableError: The lengths do not agree.
            KeyError: A field is absent.
        """
        return cls(
            name=str(written["name"]),
            edges=tuple(float(edge) for edge in written["edges"]),
            levels=tuple(tuple(str(level) for level in bin_) for bin_ in written["levels"]),
            weights=tuple(float(weight) for weight in written["weights"]),
            rows=tuple(int(count) for count in written["rows"]),
            defaults=tuple(int(count) for count in written["defaults"]),
        )


def bin_column(
    name: str,
    values: npt.NDArray[Any],
    default: Bools,
    *,
    trend: Trend = "monotone",
    finest: int = _FINEST_BINS,
    smallest_share: float = _SMALLEST_SHARE,
) -> Binning:
    """Returns a column's bins, from training rows.

    Numbers: up to `finest` bins of equal mass, each of `smallest_share` of the rows or more, then
    neighbours are pooled until the default rate only rises or only falls, whichever tells more.
    Text: a bin for each level of that share or more; rarer levels together are "other".

    Args:
        name: The column.
        values: `(n,)` floats (NaN missing) or strings ("" missing).
        default: `(n,)`.
        trend: "free" leaves the bins of a numeric column as they are.
        finest: Bins of a number before pooling.
        smallest_share: Of the rows, in a bin.

    Raises:
        TableError: A number is infinite, or one class is absent.
    """
    if not 0 < default.sum() < len(default):
        raise _wrong_kind(name, "defaults and others among the training rows")
    if values.dtype.kind == "U":
        return _counted(name, values, default, (), _frequent_levels(values, smallest_share))
    if np.isinf(values).any():
        raise _wrong_kind(name, "finite numbers")
    edges = _equal_mass_edges(values, finest, smallest_share)
    if trend == "free":
        return _counted(name, values, default, edges, ())
    fine = _counted(name, values, default, edges, ())
    rows, defaults = (np.array(c[:-2], dtype=np.float64) for c in (fine.rows, fine.defaults))
    both = [
        _counted(name, values, default, tuple(edges[i] for i in _kept(rows, defaults, sign)), ())
        for sign in (1, -1)
    ]
    return max(both, key=lambda binning: binning.information_value)


def _equal_mass_edges(values: Floats, finest: int, smallest_share: float) -> tuple[float, ...]:
    present = np.sort(values[~np.isnan(values)])
    if not present.size:
        return ()
    least = max(1.0, smallest_share * len(values), len(present) / finest)
    distinct, counts = np.unique(present, return_counts=True)
    edges, held, left = [], 0, len(present)
    for value, after, count in zip(distinct[:-1], distinct[1:], counts, strict=False):
        held, left = held + int(count), left - int(count)
        if held >= least and left >= least:
            middle = value + (after - value) / 2
            edges.append(float(middle if value < middle < after else value))
            held = 0
    return tuple(edges)


def _kept(rows: Floats, defaults: Floats, sign: int) -> list[int]:
    """Returns which edges stay once neighbours that break the trend are pooled."""
    blocks: list[tuple[float, float, int]] = []  # defaults, rows, last bin
    for last, (d, n) in enumerate(zip(defaults, rows, strict=True)):
        blocks.append((float(d), float(n), last))
        while len(blocks) > 1:
            (d0, n0, _), (d1, n1, end) = blocks[-2:]
            if sign * (d1 * n0 - d0 * n1) > 0:
                break
            blocks[-2:] = [(d0 + d1, n0 + n1, end)]
    return [end for _, _, end in blocks[:-1]]


def _frequent_levels(
    values: npt.NDArray[np.str_], smallest_share: float
) -> tuple[tuple[str, ...], ...]:
    levels, counts = np.unique(values, return_counts=True)
    least = smallest_share * len(values)
    kept = tuple((str(v),) for v, n in zip(levels, counts, strict=True) if v and n >= least)
    return kept or (("",),)  # all rare: a bin that nothing falls into keeps the column text


def _counted(
    name: str,
    values: npt.NDArray[Any],
    default: Bools,
    edges: tuple[float, ...],
    levels: tuple[tuple[str, ...], ...],
) -> Binning:
    n_bins = (len(levels) or len(edges) + 1) + 2
    empty = Binning(name, edges, levels, (0.0,) * n_bins, (0,) * n_bins, (0,) * n_bins)
    index = empty.index(values)
    rows = np.bincount(index, minlength=n_bins)
    defaults = np.bincount(index, weights=default, minlength=n_bins)
    rate = float(default.mean())
    odds = (defaults + _PRIOR_ROWS * rate) / (rows - defaults + _PRIOR_ROWS * (1 - rate))
    weights = np.log(odds) - np.log(rate / (1 - rate))
    return Binning(
        name,
        edges,
        levels,
        tuple(float(weight) for weight in weights),
        tuple(int(count) for count in rows),
        tuple(int(count) for count in defaults),
    )


def _wrong_kind(name: str, expected: str) -> TableError:
    return TableError(
        f"column {name}",
        expected=expected,
        found="something else",
        remedy="Read numbers as float64 with NaN for missing, text as str with '' for missing.",
    )
