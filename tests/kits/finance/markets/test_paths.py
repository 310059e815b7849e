"""Quantiles of paths are numpy's, rise with their level, and bad arguments are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import TableError
from kits.finance.markets.paths import (
    VolatilityPaths,
    require_horizon,
    sample_quantiles,
    summarise,
)

samples = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 5)),
    elements=st.floats(0, 1, width=32),
)
levels = st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True).map(
    lambda found: np.array(sorted(found))
)


@given(samples, levels)
def test_quantiles_are_those_of_numpy_and_do_not_cross(x: np.ndarray, at: np.ndarray) -> None:
    ours = sample_quantiles(x, at)
    np.testing.assert_allclose(ours, np.quantile(x, at, axis=0).T, rtol=1e-12, atol=1e-12)
    assert (np.diff(ours, axis=1) >= -1e-15).all()


def test_the_summary_is_of_the_paths_given() -> None:
    """The period's volatility is the root of the mean variance of its days."""
    variance = np.array([[1.0, 3.0], [4.0, 4.0], [9.0, 9.0]])
    paths = VolatilityPaths(np.sqrt(variance), variance, variance.mean(axis=0))
    forecast = summarise(paths, model="har", quantile_levels=(0.5,))
    assert forecast.period_volatility_quantiles[0] == pytest.approx(2.0)
    assert forecast.period_volatility_mean == pytest.approx((np.sqrt(2) + 2 + 3) / 3)
    np.testing.assert_allclose(forecast.daily_volatility_quantiles[:, 0], [2.0, 2.0])


@pytest.mark.parametrize(
    ("days", "at"), [(0, [0.5]), (251, [0.5]), (5, []), (5, [0.5, 0.5]), (5, [1.0])]
)
def test_horizons_and_levels_out_of_bounds_are_refused(days: int, at: list) -> None:
    with pytest.raises(TableError, match="1 to 250 days, rising levels"):
        require_horizon(days, at)
