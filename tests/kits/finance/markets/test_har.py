"""HAR and HARQ as sktime forecasters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import TableError
from kits.finance.markets.har import HAR, HARQ

SP500 = Path("finance/realized_vol/SP500RM.csv.gz")

# From tests/reference/har_sp500.py: forecasts from the last day of the file, in percent squared.
HAR_FORECASTS = {1: 0.45685974, 5: 0.48225103, 22: 0.58603454}
HARQ_FORECASTS = {1: 0.46511433, 5: 0.48719738, 22: 0.58919175}
LOG_HAR_5 = (-0.02478827, 0.27248590, 0.42187659, 0.21565451)
LOG_HAR_FORECAST_5 = 0.44049275

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]


def simulated(n_days: int = 600, seed: int = 0) -> pd.Series:
    """A variance that clusters: the exponential of an autoregression."""
    rng = np.random.default_rng(seed)
    level = np.zeros(n_days)
    for day in range(1, n_days):
        level[day] = 0.95 * level[day - 1] + rng.normal(0, 0.3)
    return pd.Series(np.exp(level + rng.normal(0, 0.3, n_days)), name="RV")


def quarticity_of(variance: pd.Series) -> pd.DataFrame:
    noise = np.random.default_rng(1).uniform(1, 3, len(variance))
    return pd.DataFrame({"RQ": variance**2 * noise})


@pytest.fixture(scope="module")
def sp500(tandem_data: Path) -> pd.DataFrame:
    """Realized variance and quarticity of the S&P 500, 1997 to 2013."""
    return pd.read_csv(tandem_data / SP500)[["RV", "RQ"]]


class TestAgainstStatsmodels:
    def test_har_forecasts_are_those_of_the_reference(self, sp500: pd.DataFrame) -> None:
        fitted = HAR(target="average").fit(sp500.RV)
        forecast = fitted.predict(fh=list(HAR_FORECASTS))
        np.testing.assert_allclose(forecast, list(HAR_FORECASTS.values()), atol=1e-7)

    def test_harq_forecasts_are_those_of_the_reference(self, sp500: pd.DataFrame) -> None:
        """They do not depend on the centre of the root: it moves the coefficients alone."""
        fitted = HARQ(target="average").fit(sp500.RV, X=sp500[["RQ"]])
        forecast = fitted.predict(fh=list(HARQ_FORECASTS))
        np.testing.assert_allclose(forecast, list(HARQ_FORECASTS.values()), atol=1e-7)

    def test_har_in_logs_is_that_of_the_reference(self, sp500: pd.DataFrame) -> None:
        fitted = HAR(target="average", logs=True).fit(sp500.RV)
        np.testing.assert_allclose(fitted.coefficients(5), LOG_HAR_5, atol=1e-7)
        assert fitted.predict(fh=[5]).iloc[0] == pytest.approx(LOG_HAR_FORECAST_5, abs=1e-7)


class TestForecasts:
    def test_one_day_ahead_both_targets_are_the_same(self) -> None:
        variance = simulated()
        day, average = HAR().fit(variance), HAR(target="average").fit(variance)
        assert day.predict(fh=[1]).iloc[0] == average.predict(fh=[1]).iloc[0]

    def test_daily_forecasts_average_to_the_forecast_of_the_average(self) -> None:
        """Least squares is linear in the target, on the same pairs of days."""
        variance = simulated()
        last = variance.iloc[:-1]  # the average's last pair needs all five days
        average = HAR(target="average", training_days=400).fit(variance).predict(fh=[5])
        days = []
        for step in range(1, 6):
            history = variance.iloc[: len(last) - 5 + step + 1]
            fitted = HAR(training_days=400).fit(history)
            regressors = np.array([1.0, *(variance.iloc[-w:].mean() for w in (1, 5, 22))])
            days.append(regressors @ fitted.coefficients(step))
        assert average.iloc[0] == pytest.approx(np.mean(days), rel=1e-9)

    def test_nothing_after_the_last_day_is_used(self) -> None:
        variance = simulated()
        past = HAR(logs=True).fit(variance.iloc[:500]).predict(fh=[1, 5])
        updated = HAR(logs=True).fit(variance.iloc[:480])
        updated.update(variance.iloc[480:500])
        pd.testing.assert_series_equal(updated.predict(fh=[1, 5]), past)

    def test_an_update_without_parameters_keeps_the_regression(self) -> None:
        variance = simulated()
        fitted = HAR().fit(variance.iloc[:500])
        before = fitted.coefficients(1)
        fitted.update(variance.iloc[500:], update_params=False)
        np.testing.assert_allclose(fitted.coefficients(1), before, rtol=1e-12)
        regressors = [1.0, *(variance.iloc[-w:].mean() for w in (1, 5, 22))]
        assert fitted.predict(fh=[1]).iloc[0] == pytest.approx(regressors @ before)

    def test_harq_adds_days_to_both_series(self) -> None:
        variance = simulated()
        quarticity = quarticity_of(variance)
        whole = HARQ(full=True).fit(variance, X=quarticity).predict(fh=[1])
        updated = HARQ(full=True).fit(variance.iloc[:590], X=quarticity.iloc[:590])
        updated.update(variance.iloc[590:], X=quarticity.iloc[590:])
        pd.testing.assert_series_equal(updated.predict(fh=[1]), whole)

    def test_an_insane_forecast_is_replaced_by_the_mean(self) -> None:
        """A last day far above any fitted target leads a linear model out of their range."""
        variance = simulated()
        variance.iloc[-1] = 50 * variance.max()
        free = HAR(insanity_filter=False).fit(variance.iloc[:-1])
        free.update(variance.iloc[-1:], update_params=False)
        filtered = HAR().fit(variance.iloc[:-1])
        filtered.update(variance.iloc[-1:], update_params=False)
        assert free.predict(fh=[1]).iloc[0] > variance.iloc[:-1].max()
        assert filtered.predict(fh=[1]).iloc[0] == pytest.approx(variance.iloc[22:-1].mean())


class TestQuantiles:
    @pytest.mark.parametrize("logs", [False, True])
    @pytest.mark.parametrize("target", ["day", "average"])
    def test_quantiles_do_not_cross_and_are_variances(self, logs: bool, target: str) -> None:
        fitted = HAR(target=target, logs=logs).fit(simulated(n_days=120))
        quantiles = fitted.predict_quantiles(fh=[1, 5, 10], alpha=LEVELS).to_numpy()
        assert (np.diff(quantiles, axis=1) >= 0).all()
        assert (quantiles > 0).all()

    def test_levels_of_two_calls_do_not_cross_either(self) -> None:
        fitted = HAR().fit(simulated(n_days=120))
        lower = fitted.predict_quantiles(fh=[1], alpha=[0.5]).iloc[0, 0]
        upper = fitted.predict_quantiles(fh=[1], alpha=[0.51]).iloc[0, 0]
        assert lower <= upper

    def test_next_days_fall_below_as_often_as_the_levels_say(self) -> None:
        below = []
        for seed in range(40):
            variance = simulated(n_days=301, seed=seed)
            past = variance.iloc[:300]
            fitted = HARQ(logs=True).fit(past, X=quarticity_of(past))
            quantiles = fitted.predict_quantiles(fh=[1], alpha=LEVELS).to_numpy()[0]
            below.append(variance.iloc[300] <= quantiles)
        # 40 independent days: a share has a standard deviation of at most 0.08
        np.testing.assert_allclose(np.mean(below, axis=0), LEVELS, atol=0.2)

    def test_levels_outside_the_grid_are_refused(self) -> None:
        with pytest.raises(TableError, match="quantile levels"):
            HAR().fit(simulated()).predict_quantiles(fh=[1], alpha=[0.999])


class TestRefusals:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"windows": ()},
            {"windows": (5, 1)},
            {"windows": (0, 5)},
            {"target": "week"},
            {"estimation": "lasso"},
            {"logs": True, "estimation": "wls"},
            {"training_days": 0},
        ],
    )
    def test_unknown_parameters_are_refused(self, parameters: dict) -> None:
        with pytest.raises(TableError, match="HAR"):
            HAR(**parameters).fit(simulated())

    @pytest.mark.parametrize(("value", "logs"), [(-1.0, False), (0.0, True), (np.inf, False)])
    def test_unusable_variances_are_refused(self, value: float, logs: bool) -> None:
        variance = simulated()
        variance.iloc[7] = value
        with pytest.raises(TableError, match="variance series"):
            HAR(logs=logs).fit(variance)

    def test_too_short_a_series_is_refused_when_a_step_is_asked_for(self) -> None:
        with pytest.raises(TableError, match="more than 30 days"):
            HAR().fit(simulated(n_days=29)).predict(fh=[5])

    def test_harq_without_quarticity_is_refused_unless_told_otherwise(self) -> None:
        variance = simulated()
        with pytest.raises(TableError, match="realized quarticity"):
            HARQ().fit(variance)
        plain = HARQ(without_quarticity="har").fit(variance).predict(fh=[1])
        pd.testing.assert_series_equal(plain, HAR().fit(variance).predict(fh=[1]))

    def test_harq_refuses_another_column_and_negative_values(self) -> None:
        variance = simulated()
        with pytest.raises(TableError, match="two windows or more"):
            HARQ(windows=(1,), logs=True).fit(variance, X=quarticity_of(variance))
        with pytest.raises(TableError, match="named medRQ"):
            HARQ(quarticity="medRQ").fit(variance, X=quarticity_of(variance))
        with pytest.raises(TableError, match="600 of them not such"):
            HARQ().fit(variance, X=-quarticity_of(variance))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestSktimeChecks:
    @pytest.mark.parametrize(
        ("estimator", "left_out"),
        # its X is negative in part, which no quarticity is
        [(HAR, None), (HARQ, "test_update_with_exogenous_variables")],
    )
    def test_all_of_sktimes_checks_pass(self, estimator: type, left_out: str | None) -> None:
        from sktime.utils.estimator_checks import check_estimator

        results = check_estimator(estimator, verbose=False, tests_to_exclude=left_out)
        assert not [name for name, result in results.items() if result != "PASSED"]
