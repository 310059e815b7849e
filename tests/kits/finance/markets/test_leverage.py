"""Regressors of the leverage effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.markets.leverage import LEVERAGES, leverage_regressors


def test_negative_returns_are_averaged_over_each_window() -> None:
    returns = np.array([-1.0, 2.0, -3.0])
    found = leverage_regressors(returns, np.ones(3), "negative", windows=(1, 3))
    np.testing.assert_array_equal(found[:, 0], [-1, 0, -3])
    assert found[2, 1] == pytest.approx(-4 / 3)
    assert np.isnan(found[:2, 1]).all()


def test_a_standardized_return_is_that_of_the_window_over_its_volatility() -> None:
    returns, variance = np.array([-1.0, 2.0, -3.0]), np.array([1.0, 4.0, 4.0])
    found = leverage_regressors(returns, variance, "standardized", windows=(1, 3))
    np.testing.assert_allclose(found[:, 0], [-1, 1, -1.5])
    assert found[2, 1] == pytest.approx(-2 / 3)


@given(st.floats(0.001, 1000))
def test_standardized_returns_have_no_unit(unit: float) -> None:
    rng = np.random.default_rng(0)
    returns, variance = rng.normal(size=60), rng.chisquare(4, 60)
    one = leverage_regressors(returns, variance, "standardized")
    other = leverage_regressors(unit * returns, unit**2 * variance, "standardized")
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", LEVERAGES)
def test_no_later_day_is_used(kind: str) -> None:
    rng = np.random.default_rng(0)
    returns, variance = rng.normal(size=60), rng.chisquare(4, 60)
    whole = leverage_regressors(returns, variance, kind)
    past = leverage_regressors(returns[:40], variance[:40], kind)
    np.testing.assert_array_equal(whole[:40], past)
