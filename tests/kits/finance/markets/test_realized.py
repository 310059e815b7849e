"""Realized measures of simulated and hand-made days."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import TableError
from kits.finance.markets import realized

# From tests/reference/realized_estimators.py.
INTRADAY = np.array([0.004, -0.002, 0.0, 0.011, -0.006])
REALIZED_VARIANCE = 1.770000000000e-04
NEGATIVE_SEMIVARIANCE = 4.000000000000e-05
BIPOWER_VARIATION = 1.452986602285e-04
REALIZED_QUARTICITY = 2.701500000000e-08


def test_measures_follow_the_published_formulas() -> None:
    variance = realized.realized_variance(INTRADAY)
    assert variance == pytest.approx(REALIZED_VARIANCE, rel=1e-10)
    negative = realized.negative_semivariance(INTRADAY)
    assert negative == pytest.approx(NEGATIVE_SEMIVARIANCE, rel=1e-10)
    bipower = realized.bipower_variation(INTRADAY)
    assert bipower == pytest.approx(BIPOWER_VARIATION, rel=1e-10)
    quarticity = realized.realized_quarticity(INTRADAY)
    assert quarticity == pytest.approx(REALIZED_QUARTICITY, rel=1e-10)


def test_all_are_unbiased_on_days_of_constant_volatility() -> None:
    """78 five-minute returns a day, variance 4 a day: RQ estimates the square of it."""
    returns = np.random.default_rng(0).normal(0, 2 / np.sqrt(78), (20_000, 78))
    assert realized.realized_variance(returns).mean() == pytest.approx(4, rel=0.01)
    assert realized.negative_semivariance(returns).mean() == pytest.approx(2, rel=0.01)
    assert realized.bipower_variation(returns).mean() == pytest.approx(4, rel=0.01)
    assert realized.realized_quarticity(returns).mean() == pytest.approx(16, rel=0.01)


def test_the_error_of_the_variance_is_what_the_quarticity_says() -> None:
    returns = np.random.default_rng(0).normal(0, 2 / np.sqrt(78), (20_000, 78))
    error = realized.realized_variance(returns).var()
    assert error == pytest.approx(2 / 78 * realized.realized_quarticity(returns).mean(), rel=0.03)


def test_a_jump_stands_in_the_variance_and_not_in_bipower() -> None:
    returns = np.random.default_rng(0).normal(0, 2 / np.sqrt(780), (2_000, 780))
    returns[:, 100] += 3.0
    assert realized.realized_variance(returns).mean() == pytest.approx(4 + 9, rel=0.02)
    assert realized.bipower_variation(returns).mean() == pytest.approx(4, rel=0.15)


@given(arrays(np.float64, (3, 8), elements=st.floats(-0.1, 0.1)))
def test_semivariances_add_up_to_the_variance(returns: np.ndarray) -> None:
    falling = realized.negative_semivariance(returns)
    rising = realized.negative_semivariance(-returns)
    np.testing.assert_allclose(
        falling + rising, realized.realized_variance(returns), rtol=1e-9, atol=1e-300
    )


@given(arrays(np.float64, (2, 8), elements=st.floats(-0.1, 0.1)))
def test_the_quarticity_is_at_least_a_third_of_the_squared_variance(returns: np.ndarray) -> None:
    """Cauchy and Schwarz: n sum r^4 >= (sum r^2)^2."""
    squared = realized.realized_variance(returns) ** 2
    assert (3 * realized.realized_quarticity(returns) >= squared * (1 - 1e-9)).all()


def test_days_with_gaps_or_without_returns_are_refused() -> None:
    with pytest.raises(TableError, match="1 not finite"):
        realized.realized_variance(np.array([0.01, np.nan]))
    with pytest.raises(TableError, match="at least 2"):
        realized.bipower_variation(np.array([0.01]))
    with pytest.raises(TableError, match="0 a day"):
        realized.realized_quarticity(np.empty((3, 0)))
