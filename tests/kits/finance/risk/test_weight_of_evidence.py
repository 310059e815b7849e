"""Bins are monotone, missing has its own, and weights are the log-odds that they say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.risk.weight_of_evidence import Binning, bin_column


def simulated(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A number whose default rate rises with it; a tenth is missing and defaults often."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    default = random.random(n) < 1 / (1 + np.exp(2 - x))
    missing = random.random(n) < 0.1
    default[missing] = random.random(missing.sum()) < 0.6
    return np.where(missing, np.nan, x), default


def test_the_weight_is_the_log_odds_of_the_bin_against_all() -> None:
    """300 rows of text; 60 of 100 and 30 of 200 default, ten rows at the base rate added."""
    values = np.repeat(["a", "b"], [100, 200])
    default = np.concatenate([np.arange(100) < 60, np.arange(200) < 30])
    binning = bin_column("column", values, default)
    base = math.log(90 / 210)
    expected = (math.log(63 / 47) - base, math.log(33 / 177) - base, 0.0, 0.0)
    assert binning.weights == pytest.approx(expected)
    assert binning.rows == (100, 200, 0, 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_default_rates_of_numbers_only_rise_or_only_fall(seed: int, decimals: int) -> None:
    random = np.random.default_rng(seed)
    x = np.round(random.normal(size=400), decimals)
    default = random.random(400) < 0.5 / (1 + x**2)  # a hump, which no trend fits
    binning = bin_column("x", x, default)
    rates = np.array(binning.defaults[:-2]) / np.array(binning.rows[:-2])
    steps = np.diff(rates)
    assert (steps > 0).all() or (steps < 0).all()
    assert min(binning.rows[:-2]) >= 20
    assert sum(binning.rows) == 400


def test_missing_values_are_a_bin_of_their_own() -> None:
    x, default = simulated()
    binning = bin_column("x", x, default)
    assert binning.rows[-2] == np.isnan(x).sum()
    assert binning.weights[-2] == max(binning.weights)
    assert binning.index(np.array([np.nan]))[0] == len(binning.weights) - 2
    assert binning.label(len(binning.weights) - 2) == "missing"


def test_levels_that_were_rare_or_never_seen_are_other() -> None:
    values = np.array(["a"] * 60 + ["b"] * 37 + ["c"] * 3)
    default = np.arange(100) % 3 == 0
    binning = bin_column("x", values, default)
    assert binning.levels == (("a",), ("b",))
    assert binning.index(np.array(["c", "never", ""])).tolist() == [3, 3, 2]


def test_a_column_of_rare_levels_alone_stays_text() -> None:
    values = np.array([f"level {i}" for i in range(100)])
    binning = bin_column("x", values, np.arange(100) % 2 == 0)
    assert binning.is_text
    assert binning.rows[-1] == 100


def test_a_column_without_any_value_says_nothing() -> None:
    binning = bin_column("x", np.full(100, np.nan), np.arange(100) % 4 == 0)
    assert binning.information_value == pytest.approx(0)
    assert binning.label(0) == "stated"


def test_bins_read_back_from_json_the_same() -> None:
    binning = bin_column("x", *simulated())
    assert Binning.from_json(json.loads(json.dumps(binning.to_json()))) == binning


def test_labels_name_ranges_that_touch() -> None:
    binning = Binning("x", (1.0, 2.5), (), (0.0,) * 5, (1,) * 5, (0,) * 5)
    assert [binning.label(i) for i in range(5)] == [
        "at most 1", "above 1, at most 2.5", "above 2.5", "missing", "another level",
    ]  # fmt: skip
    assert binning.index(np.array([1.0, 1.1, 2.5, 9.0])).tolist() == [0, 1, 1, 2]


def test_wrong_kinds_and_lengths_are_refused() -> None:
    x, default = simulated()
    binning = bin_column("x", x, default)
    for values in (np.array(["a"]), np.array([np.inf]), np.array([1])):
        with pytest.raises(TableError, match="column x"):
            binning.index(values)
    with pytest.raises(TableError, match="defaults and others"):
        bin_column("x", x, np.zeros(len(x), dtype=bool))
    with pytest.raises(TableError, match="rising edges"):
        Binning("x", (2.0, 1.0), (), (0.0,) * 5, (1,) * 5, (0,) * 5)
