"""A table of borrowers with their outcomes, and how it is divided so that nothing leaks.

Columns are float arrays (NaN is missing) or string arrays (the empty string is missing), `(n,)`
each. Rows that agree in every column are one group: a random split would put copies on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.content import digest_of
from common.errors import TableError

__all__ = [
    "CreditPanel",
    "PanelSplit",
    "Table",
    "duplicate_groups",
    "row_count",
    "rows_of",
    "split_panel",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Table = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CreditPanel:
    """Borrowers, what is known of each, and who defaulted.

    Args:
        name: Of the panel.
        columns: What is known, by name; what may not be used (protected traits) is left out.
        default: `(n,)` whether the borrower defaulted within the panel's horizon.
        group: `(n,)` what stays on one side of a split: the company, else a digest of the row.
        day: `(n,)` date of each row, or None where the panel has no time.
        split_rule: How the panel is divided, in words.

    Raises:
        TableError: Columns differ in length or kind, or an outcome is missing.
    """

    name: str
    columns: Table
    default: Bools
    group: npt.NDArray[np.str_]
    day: npt.NDArray[np.datetime64] | None
    split_rule: str

    def __post_init__(self) -> None:
        n = row_count(self.columns)
        others = [self.default, self.group, *([] if self.day is None else [self.day])]
        if any(array.shape != (n,) for array in others) or self.default.dtype != np.bool_:
            raise _faulty(f"{n} outcomes as booleans, groups and days", "other shapes or types")


@dataclass(frozen=True)
class PanelSplit:
    """Row numbers of the three parts; no group is in two of them."""

    train: Ints
    dev: Ints
    test: Ints


def row_count(table: Table) -> int:
    """Returns the number of rows, once all columns agree.

    Raises:
        TableError: There is no column, lengths differ, or a column is neither numbers nor text.
    """
    lengths = {array.shape for array in table.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise _faulty("columns (n,) of one length", f"{len(lengths)} shapes")
    wrong = [name for name, array in table.items() if array.dtype.kind not in "fU"]
    if wrong:
        raise _faulty("columns of floats or of strings", f"others in {', '.join(wrong)}")
    return int(next(iter(lengths))[0])


def rows_of(table: Table, rows: Ints) -> Table:
    """Returns the same columns with `rows` alone."""
    return {name: array[rows] for name, array in table.items()}


def duplicate_groups(table: Table) -> npt.NDArray[np.str_]:
    """Returns a digest of each row's content, `(n,)`: equal rows have equal ones."""
    n = row_count(table)
    names = sorted(table)
    columns = [
        [value.hex() for value in table[name].tolist()]
        if table[name].dtype.kind == "f"
        else table[name].tolist()
        for name in names
    ]
    rows = zip(*columns, strict=True) if n else ()
    return np.array([digest_of(*(str(value).encode() for value in row)) for row in rows])


def split_panel(
    panel: CreditPanel,
    fold: int,
    *,
    folds: int = 5,
    first_test_day: np.datetime64 | None = None,
) -> PanelSplit:
    """Returns fold `fold`: its groups are tested, a quarter of the others is dev.

    A group's fold is a hash of its name, so that a split is the same on every machine and does
    not move when rows are added. With `first_test_day`, only rows from that day on are tested, and
    train and dev keep the rows before it: new companies at a later time.

    Args:
        panel: What is divided.
        fold: From 0.
        folds: Number of folds.
        first_test_day: Where time divides too; for panels with days alone.

    Raises:
        TableError: A part would lack defaults or others, or the panel has no days.
    """
    bucket = np.array([int(digest_of(name.encode())[:12], 16) for name in panel.group.tolist()])
    tested = bucket % folds == fold
    is_dev = (bucket // folds) % 4 == 0
    before, after = np.ones(len(tested), dtype=np.bool_), np.ones(len(tested), dtype=np.bool_)
    if first_test_day is not None:
        if panel.day is None:
            raise _faulty("a panel with days, to divide it by time", "none")
        before, after = panel.day < first_test_day, panel.day >= first_test_day
    split = PanelSplit(
        train=np.flatnonzero(~tested & ~is_dev & before),
        dev=np.flatnonzero(~tested & is_dev & before),
        test=np.flatnonzero(tested & after),
    )
    for part in (split.train, split.dev, split.test):
        ones = int(panel.default[part].sum())
        if not 0 < ones < len(part):
            raise _faulty("defaults and others in each part", f"{ones} of {len(part)}")
    return split


def _faulty(expected: str, found: str) -> TableError:
    return TableError(
        "credit panel",
        expected=expected,
        found=found,
        remedy="Read numbers as float64 with NaN for missing, text as str with '' for missing.",
    )
