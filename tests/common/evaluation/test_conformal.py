"""Coverage holds for finite samples, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.evaluation.conformal import (
    conformal_quantile,
    fit_conformal_quantiles,
    fit_split_conformal,
    least_calibration_rows,
)


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (50, 0.8), (200, 0.95)])
def test_split_conformal_covers_between_level_and_level_plus_one_row(n: int, level: float) -> None:
    """Of skewed residuals around a wrong model, over 4,000 draws of calibration and one new row."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(4000):
        x = random.normal(size=n + 1)
        y = x**2 + random.exponential(size=n + 1)
        fitted = fit_split_conformal(y[:n], x[:n], level=level)
        low, high = fitted.interval(x[n:])
        covered += bool(low[0] <= y[n] <= high[0])
    error = 3 * np.sqrt(level * (1 - level) / 4000)
    assert level - error <= covered / 4000 <= level + 1 / (n + 1) + error


def test_conformal_quantiles_cover_and_adapt_their_width() -> None:
    """The spread grows with x; the given quantiles are half as wide as they should be."""
    random = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        x = random.uniform(0.5, 3, size=180)
        y = x * random.normal(size=180)
        low, high = -0.8 * x, 0.8 * x
        fitted = fit_conformal_quantiles(y[:80], low[:80], high[:80], level=0.9)
        a, b = fitted.interval(low[80:], high[80:])
        covered.append(np.mean((a <= y[80:]) & (y[80:] <= b)))
        assert fitted.margin > 0
        assert np.corrcoef(b - a, x[80:])[0, 1] > 0.99
    assert 0.89 <= np.mean(covered) <= 0.925


def test_quantiles_that_were_too_wide_are_narrowed_and_never_cross() -> None:
    y = np.random.default_rng(0).normal(size=100)
    fitted = fit_conformal_quantiles(y, np.full(100, -9.0), np.full(100, 9.0), level=0.9)
    low, high = fitted.interval([-9.0, 0.0], [9.0, 0.1])
    assert fitted.margin < 0
    assert (low <= high).all()
    assert low[1] == high[1] == pytest.approx(0.05)


@given(st.floats(0.01, 0.999))
def test_the_least_number_of_rows_is_the_least(level: float) -> None:
    n = least_calibration_rows(level)
    conformal_quantile(np.arange(n), level=level)
    if n > 1:
        with pytest.raises(InputError, match="conformal calibration"):
            conformal_quantile(np.arange(n - 1), level=level)


def test_nine_rows_are_enough_for_ninety_per_cent() -> None:
    assert least_calibration_rows(0.9) == 9
    assert conformal_quantile(np.arange(1, 10), level=0.9) == 9


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        least_calibration_rows(1.0)
    with pytest.raises(InputError, match="finite arrays"):
        fit_split_conformal([1.0, np.nan], [0.0, 0.0])
