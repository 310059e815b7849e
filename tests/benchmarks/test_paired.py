"""Intervals over seeds and test rows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.paired import crossed_interval, weighted_f1


def test_the_value_is_the_mean_of_all_scores() -> None:
    interval = crossed_interval([[1, 0, 1], [1, 1, 1]], [("a", "b", "c"), ("a", "b", "c")])
    assert interval.value == pytest.approx(5 / 6)
    assert interval.low <= interval.value <= interval.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        right = (random.random((3, 80)) < 0.7).astype(float)
        names = [tuple(f"row {i}" for i in range(80))] * 3
        interval = crossed_interval(right, names, draws=300, seed=trial)
        covered += interval.low <= 0.7 <= interval.high
    assert covered >= 52


def test_rows_of_one_unit_are_drawn_together() -> None:
    scores = [[1, 1, 1, 1, 0, 0, 0, 0]]
    apart = crossed_interval(scores, [tuple("abcdefgh")])
    together = crossed_interval(scores, [tuple("aaaabbbb")])
    assert together.high - together.low > apart.high - apart.low


def test_seeds_with_other_test_rows_are_counted_by_their_rows() -> None:
    interval = crossed_interval([[1, 1], [0]], [("a", "b"), ("c",)])
    assert interval.value == pytest.approx(2 / 3)


def test_a_gain_in_every_row_lies_above_zero() -> None:
    assert crossed_interval([[1, 1, 1]], [("a", "b", "c")]).above_zero
    assert not crossed_interval([[0, 0, 0]], [("a", "b", "c")]).above_zero


def test_weighted_f1_is_that_of_sklearn() -> None:
    from sklearn.metrics import f1_score

    random = np.random.default_rng(5)
    labels, predictions = random.integers(0, 4, 60), random.integers(0, 5, 60)
    expected = f1_score(labels, predictions, average="weighted", zero_division=0)
    assert weighted_f1(labels, predictions, 5) == pytest.approx(expected)
