"""Nothing stands on two sides of a split: no copy, no company, no later day before an earlier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.errors import TableError
from kits.finance.risk.credit_panel import CreditPanel, duplicate_groups, rows_of, split_panel


def panel(n: int = 1000) -> CreditPanel:
    """Each row stands there twice, once with the other outcome."""
    random = np.random.default_rng(0)
    x = np.tile(random.normal(size=n // 2), 2)
    text = np.tile(np.where(random.random(n // 2) < 0.5, "a", ""), 2)
    columns = {"x": np.where(np.tile(random.random(n // 2), 2) < 0.1, np.nan, x), "text": text}
    default = np.concatenate([random.random(n // 2) < 0.3, random.random(n // 2) < 0.3])
    day = np.datetime64("2010-01-01") + np.arange(n)
    return CreditPanel("made", columns, default, duplicate_groups(columns), day, "row hash")


def test_copies_of_a_row_stay_on_one_side() -> None:
    made = panel()
    for fold in range(5):
        split = split_panel(made, fold)
        parts = [set(made.group[rows]) for rows in (split.train, split.dev, split.test)]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert len(split.train) + len(split.dev) + len(split.test) == 1000


def test_each_row_is_tested_once_over_the_folds() -> None:
    made = panel()
    tested = np.concatenate([split_panel(made, fold).test for fold in range(5)])
    assert sorted(tested) == list(range(1000))


def test_a_groups_side_does_not_move_when_rows_are_added() -> None:
    made = panel()
    half = np.arange(500)
    fewer = replace(
        made, columns=rows_of(made.columns, half), default=made.default[:500],
        group=made.group[:500], day=None,
    )  # fmt: skip
    whole = set(made.group[split_panel(made, 0).test])
    assert set(fewer.group[split_panel(fewer, 0).test]) <= whole


def test_time_divides_too_where_it_is_asked_for() -> None:
    made, cut = panel(), np.datetime64("2011-06-01")
    split = split_panel(made, 0, first_test_day=cut)
    assert made.day is not None
    assert made.day[split.train].max() < cut <= made.day[split.test].min()
    with pytest.raises(TableError, match="a panel with days"):
        split_panel(replace(made, day=None), 0, first_test_day=cut)


def test_missing_numbers_and_texts_count_as_equal_content() -> None:
    columns = {"x": np.array([np.nan, np.nan, 1.0]), "t": np.array(["", "", ""])}
    groups = duplicate_groups(columns)
    assert groups[0] == groups[1] != groups[2]


def test_faulty_panels_are_refused() -> None:
    made = panel()
    with pytest.raises(TableError, match="one length"):
        replace(made, columns={"x": np.zeros(1000), "y": np.zeros(3)})
    with pytest.raises(TableError, match="columns of floats or of strings"):
        replace(made, columns={"x": np.zeros(1000, dtype=object)})
    with pytest.raises(TableError, match="1000 outcomes"):
        replace(made, default=np.zeros(4, dtype=bool))
    with pytest.raises(TableError, match="defaults and others"):
        split_panel(replace(made, default=np.zeros(1000, dtype=bool)), 0)
