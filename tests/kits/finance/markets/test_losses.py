"""Losses of forecasts and the Diebold-Mariano test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import TableError
from kits.finance.markets import losses

# From tests/reference/realized_diebold_mariano.py (statsmodels' HAC covariance).
BARTLETT_H1 = (1.86822251, 0.06246376)
BARTLETT_H5 = (1.81334826, 0.07052933)
RECTANGULAR_H5 = (1.80941945, 0.07113827)

positive = arrays(np.float64, 20, elements=st.floats(0.01, 100))


class TestLosses:
    @given(positive, positive)
    def test_they_are_zero_for_a_perfect_forecast_and_never_below(
        self, outcome: np.ndarray, forecast: np.ndarray
    ) -> None:
        for loss in (
            losses.squared_error,
            losses.qlike_loss,
            lambda y, f: losses.pinball_loss(y, f, 0.3),
        ):
            np.testing.assert_allclose(loss(outcome, outcome), 0.0, atol=1e-12)
            assert (loss(outcome, forecast) >= -1e-12).all()

    @given(positive, positive, st.floats(0.001, 1000))
    def test_qlike_does_not_depend_on_the_unit(
        self, outcome: np.ndarray, forecast: np.ndarray, unit: float
    ) -> None:
        scaled = losses.qlike_loss(unit * outcome, unit * forecast)
        np.testing.assert_allclose(scaled, losses.qlike_loss(outcome, forecast), atol=1e-9)

    def test_qlike_punishes_too_low_a_forecast_more(self) -> None:
        """Worked by hand: outcome 1, forecasts 1/2 and 2."""
        found = losses.qlike_loss(np.ones(2), np.array([0.5, 2.0]))
        np.testing.assert_allclose(found, [1 - np.log(2), np.log(2) - 0.5], rtol=1e-12)

    def test_the_mean_minimises_squared_error_and_qlike_of_a_noisy_proxy(self) -> None:
        """Patton's robustness: with a proxy of the right mean, the true variance is best."""
        proxy = 2.0 * np.random.default_rng(0).chisquare(1, 200_000)
        grid = np.linspace(1.5, 2.5, 21)
        for loss in (losses.squared_error, losses.qlike_loss):
            means = [loss(proxy, np.full(len(proxy), value)).mean() for value in grid]
            assert grid[int(np.argmin(means))] == pytest.approx(2.0, abs=0.051)

    def test_the_quantile_minimises_the_pinball_loss(self) -> None:
        outcome = np.random.default_rng(0).normal(size=50_000)
        grid = np.linspace(0.5, 2.5, 41)
        means = [losses.pinball_loss(outcome, np.full(50_000, q), 0.9).mean() for q in grid]
        assert grid[int(np.argmin(means))] == pytest.approx(1.2816, abs=0.051)

    def test_unusable_arrays_are_refused(self) -> None:
        one = np.ones(3)
        with pytest.raises(TableError, match="equal length"):
            losses.squared_error(one, np.ones(4))
        with pytest.raises(TableError, match="1 not finite"):
            losses.squared_error(one, np.array([1.0, np.nan, 1.0]))
        with pytest.raises(TableError, match="1 forecasts"):
            losses.qlike_loss(one, np.array([1.0, 0.0, 1.0]))
        with pytest.raises(TableError, match="quantile level"):
            losses.pinball_loss(one, one, 1.0)


def reference_difference() -> np.ndarray:
    noise = np.random.default_rng(7).normal(size=400)
    return 0.3 + noise + 0.6 * np.roll(noise, 1)


class TestDieboldMariano:
    @pytest.mark.parametrize(
        ("horizon_days", "lags", "kernel", "expected"),
        [
            (1, 5, "bartlett", BARTLETT_H1),
            (5, 8, "bartlett", BARTLETT_H5),
            (5, 4, "rectangular", RECTANGULAR_H5),
        ],
    )
    def test_it_is_the_reference(
        self, horizon_days: int, lags: int, kernel: str, expected: tuple
    ) -> None:
        found = losses.diebold_mariano(
            reference_difference(),
            np.zeros(400),
            horizon_days=horizon_days,
            lags=lags,
            kernel=kernel,
        )
        assert found.statistic == pytest.approx(expected[0], abs=1e-7)
        assert found.p_value == pytest.approx(expected[1], abs=1e-7)

    def test_default_lags_grow_with_horizon_and_days(self) -> None:
        zeros = np.zeros(400)
        difference = reference_difference()
        assert losses.diebold_mariano(difference, zeros).lags == 5
        assert losses.diebold_mariano(difference, zeros, horizon_days=22).lags == 42
        rectangular = losses.diebold_mariano(
            difference, zeros, horizon_days=5, kernel="rectangular"
        )
        assert rectangular.lags == 4

    def test_swapping_the_forecasts_turns_the_sign_alone(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.chisquare(1, (2, 200))
        there = losses.diebold_mariano(first, second, horizon_days=5)
        back = losses.diebold_mariano(second, first, horizon_days=5)
        assert there.statistic == pytest.approx(-back.statistic)
        assert there.p_value == pytest.approx(back.p_value)

    def test_equal_accuracy_is_rejected_about_as_often_as_the_level_says(self) -> None:
        """Overlapping five-day losses of two forecasts that are equally good."""
        rng = np.random.default_rng(0)
        rejected = 0
        for _ in range(400):
            overlapping = np.convolve(rng.normal(size=604), np.ones(5) / 5, mode="valid")
            found = losses.diebold_mariano(overlapping, np.zeros(600), horizon_days=5)
            rejected += found.p_value < 0.05
        assert 0.03 <= rejected / 400 <= 0.10

    def test_a_rectangular_variance_below_zero_falls_back_to_bartlett(self) -> None:
        alternating = np.tile([1.0, -1.0], 50) + 0.01
        found = losses.diebold_mariano(
            alternating, np.zeros(100), horizon_days=2, kernel="rectangular"
        )
        assert np.isfinite(found.statistic)
        assert found.statistic > 0

    def test_forecasts_that_cannot_be_told_apart_are_refused(self) -> None:
        with pytest.raises(TableError, match="same on all days"):
            losses.diebold_mariano(np.ones(50), np.zeros(50))
        with pytest.raises(TableError, match="more than 44 days"):
            losses.diebold_mariano(np.arange(40.0), np.zeros(40), horizon_days=22)
