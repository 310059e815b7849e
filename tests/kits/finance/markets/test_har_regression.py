"""Regressors, targets and fits of the HAR models against published and independent figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import TableError
from kits.finance.markets import har_regression as hr

SP500 = Path("finance/realized_vol/SP500RM.csv.gz")

# From tests/reference/har_sp500.py (statsmodels); to three decimals the AR and ARQ of the
# corrected Table 2 of Bollerslev, Patton and Quaedvlieg (2016).
AR = (0.41057313, 0.65072271)
ARQ = (0.08928740, 0.98251988, -0.51367260)
HAR_1 = (0.11231420, 0.22734364, 0.49034938, 0.18637663)
HARQ_22 = (0.29143155, 0.25476755, 0.28015790, 0.23319398, -0.14764258)
WLS_1 = (0.04926316, 0.40906308, 0.40048103, 0.14817046)
QUANTILES = {
    0.05: (0.04385925, 0.08855387, 0.07457478, 0.15479325),
    0.5: (0.05130746, 0.38432411, 0.23969404, 0.17825660),
    0.95: (0.02760905, 1.12383670, 0.87508050, 0.07366326),
}


@pytest.fixture(scope="module")
def sp500(tandem_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Realized variance and quarticity of the S&P 500, 1997 to 2013."""
    days = pd.read_csv(tandem_data / SP500)
    return days["RV"].to_numpy(), days["RQ"].to_numpy()


def pairs(regressors: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    usable = np.isfinite(target) & np.isfinite(regressors).all(axis=1)
    return regressors[usable], target[usable]


class TestAgainstPublishedFigures:
    def test_ar_and_arq_are_those_of_the_corrected_table(self, sp500: tuple) -> None:
        variance, quarticity = sp500
        target = hr.forward_mean(variance, 1)
        ar = hr.fit_linear(*pairs(hr.har_regressors(variance, windows=(1,)), target))
        arq_regressors = hr.har_regressors(variance, windows=(1,), quarticity=quarticity)
        arq = hr.fit_linear(*pairs(arq_regressors, target))
        np.testing.assert_allclose(ar, AR, atol=1e-7)
        np.testing.assert_allclose(arq, ARQ, atol=1e-7)
        assert (round(ar[1], 3), round(arq[1], 3)) == (0.651, 0.983)

    def test_har_and_harq_equal_statsmodels(self, sp500: tuple) -> None:
        variance, quarticity = sp500
        day, month = hr.forward_mean(variance, 1), hr.forward_mean(variance, 22)
        har = hr.fit_linear(*pairs(hr.har_regressors(variance), day))
        weighted = hr.fit_linear(*pairs(hr.har_regressors(variance), day), "wls")
        harq_regressors = hr.har_regressors(variance, quarticity=quarticity)
        harq = hr.fit_linear(*pairs(harq_regressors, month))
        np.testing.assert_allclose(har, HAR_1, atol=1e-7)
        np.testing.assert_allclose(weighted, WLS_1, atol=1e-7)
        np.testing.assert_allclose(harq, HARQ_22, atol=1e-7)

    @pytest.mark.parametrize("level", QUANTILES)
    def test_quantile_regressions_equal_statsmodels(self, sp500: tuple, level: float) -> None:
        """The programme's optimum is exact, statsmodels' iteration stops at about 1e-5."""
        variance, _ = sp500
        fitted = hr.quantile_coefficients(
            *pairs(hr.har_regressors(variance), hr.forward_mean(variance, 1)), level
        )
        np.testing.assert_allclose(fitted, QUANTILES[level], atol=1e-5)


class TestTargets:
    def test_the_target_lies_after_its_day(self) -> None:
        values = np.arange(6.0)
        np.testing.assert_array_equal(
            hr.forward_mean(values, 2), [1.5, 2.5, 3.5, 4.5, *[np.nan] * 2]
        )
        np.testing.assert_array_equal(
            hr.forward_mean(values, 2, first_day=2), [2, 3, 4, 5, *[np.nan] * 2]
        )

    def test_a_series_shorter_than_the_horizon_has_no_target(self) -> None:
        assert np.isnan(hr.forward_mean(np.ones(3), 5)).all()

    @given(arrays(np.float64, 40, elements=st.floats(0.01, 100)), st.integers(1, 12))
    def test_the_mean_of_days_ahead_is_the_mean_behind_later_on(
        self, values: np.ndarray, horizon: int
    ) -> None:
        ahead = hr.forward_mean(values, horizon)[:-horizon]
        behind = hr.trailing_means(values, (horizon,))[horizon:, 0]
        np.testing.assert_allclose(ahead, behind, rtol=1e-12)


class TestRegressors:
    @given(st.floats(1e-6, 1e6))
    def test_forecasts_do_not_depend_on_the_unit(self, unit: float) -> None:
        """HARQ in levels and logs: c times the variance gives c times the forecast."""
        rng = np.random.default_rng(0)
        variance = np.exp(rng.normal(size=200))
        quarticity = variance**2 * rng.uniform(1, 3, 200)
        for logs in (False, True):
            found = []
            for scale in (1.0, unit):
                regressors = hr.har_regressors(
                    scale * variance, logs=logs, quarticity=scale**2 * quarticity
                )
                target = hr.forward_mean(scale * variance, 1)
                used = pairs(regressors, np.log(target) if logs else target)
                forecast = regressors[-1] @ hr.fit_linear(*used)
                found.append(np.exp(forecast) if logs else forecast)
            assert found[1] == pytest.approx(unit * found[0], rel=1e-6)

    def test_harq_f_interacts_with_every_window(self) -> None:
        variance = np.random.default_rng(0).chisquare(3, 60)
        full = hr.har_regressors(
            variance, quarticity=variance**2, quarticity_windows=hr.HAR_WINDOWS
        )
        assert full.shape == (60, 7)
        assert np.isnan(full[:21]).all()
        assert np.isfinite(full[21:]).all()


class TestFits:
    def test_a_simulated_har_is_recovered(self) -> None:
        true = np.array([0.1, 0.3, 0.4, 0.2])
        rng = np.random.default_rng(0)
        variance = [1.0] * 22
        for _ in range(20_000):
            means = [np.mean(variance[-w:]) for w in hr.HAR_WINDOWS]
            variance.append((true[0] + true[1:] @ means) * rng.gamma(20, 1 / 20))
        series = np.array(variance)
        used = pairs(hr.har_regressors(series), hr.forward_mean(series, 1))
        for estimation in ("ols", "wls"):
            np.testing.assert_allclose(hr.fit_linear(*used, estimation), true, atol=0.05)

    def test_hubers_estimator_is_not_moved_by_one_wild_day(self) -> None:
        rng = np.random.default_rng(0)
        regressors = np.column_stack([np.ones(300), rng.normal(size=300)])
        target = regressors @ [1.0, 2.0] + rng.normal(0, 0.1, 300)
        target[0] += 1000.0
        assert hr.fit_linear(regressors, target, "huber")[0] == pytest.approx(1.0, abs=0.05)
        assert hr.fit_linear(regressors, target)[0] > 2

    def test_collinear_regressors_give_finite_coefficients(self) -> None:
        regressors = np.ones((30, 4))
        assert hr.fit_linear(regressors, np.arange(30.0)) == pytest.approx([14.5 / 4] * 4)

    def test_a_quantile_regression_leaves_its_share_below(self) -> None:
        rng = np.random.default_rng(0)
        regressors = np.column_stack([np.ones(2000), rng.uniform(0, 3, 2000)])
        target = regressors[:, 1] * rng.normal(size=2000)
        fitted = regressors @ hr.quantile_coefficients(regressors, target, 0.9)
        assert np.mean(target <= fitted) == pytest.approx(0.9, abs=0.003)

    def test_regressors_that_are_not_finite_are_refused(self) -> None:
        with pytest.raises(TableError, match="quantile regression"):
            hr.quantile_coefficients(np.full((10, 2), np.nan), np.arange(10.0), 0.5)


class TestForecasts:
    def test_a_forecast_never_seen_becomes_the_mean(self) -> None:
        sample = np.array([1.0, 2.0, 6.0])
        assert hr.filter_insane(-0.1, sample) == 3.0
        assert hr.filter_insane(6.1, sample) == 3.0
        assert hr.filter_insane(5.0, sample) == 5.0

    def test_smearing_of_normal_residuals_is_half_their_variance(self) -> None:
        residuals = np.random.default_rng(0).normal(0, 0.5, 200_000)
        assert hr.smearing_factor(residuals) == pytest.approx(np.exp(0.125), rel=0.01)

    @given(arrays(np.float64, (3, 9), elements=st.floats(-10, 10)))
    def test_rearranged_quantiles_rise_and_keep_their_values(self, crossing: np.ndarray) -> None:
        rising = hr.rearrange_quantiles(crossing)
        assert (np.diff(rising, axis=-1) >= 0).all()
        np.testing.assert_allclose(rising.sum(axis=-1), crossing.sum(axis=-1), atol=1e-9)
