"""The calls' roles keep the test calls later than and apart from all others."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import MissingInputError
from kits.finance.weights.calls import ROLES, read_calls


def test_roles_follow_the_published_splits(tandem_data):
    """Counts are those of the splits, less the 43 calls without a year of prices."""
    calls = read_calls(tandem_data)
    counts = {role: len(calls.in_role(role)) for role in ROLES}
    assert counts == {"train": 1485, "selection": 211, "linkage": 151, "test": 275}
    assert np.isfinite(calls.features).all()
    assert np.isfinite(calls.target).all()


def test_the_test_calls_come_after_all_others(tandem_data):
    """No call of another role is as late as the first test call."""
    calls = read_calls(tandem_data)
    test = calls.role == "test"
    assert calls.day[~test].max() < calls.day[test].min()


def test_a_trial_keeps_all_roles(tandem_data):
    """The first calls of each role, in the order of time."""
    calls = read_calls(tandem_data).first(5)
    assert [len(calls.in_role(role)) for role in ROLES] == [5, 5, 5, 5]
    assert (np.diff(calls.day) >= np.timedelta64(0)).all()


def test_absent_files_are_named(tmp_path):
    """The remedy names the option that leads to them."""
    with pytest.raises(MissingInputError, match=r"calls_text.parquet.*--data"):
        read_calls(tmp_path)
