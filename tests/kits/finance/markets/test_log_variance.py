"""The linear models of log variance: closed forms agree with paths and with statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from arch.univariate import HARX
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.arima.model import ARIMA

from kits.finance.markets.log_variance import (
    FittedLogVariance,
    fit_arima,
    fit_ets,
    fit_har,
    har_future,
    log_daily_variance,
)
from kits.finance.markets.prices import PriceHistory


@pytest.fixture(scope="module")
def history() -> PriceHistory:
    """Log variance: an AR(1) of .97 seen through noise."""
    rng = np.random.default_rng(2)
    level, logs = 0.0, np.empty(1200)
    for day in range(1200):
        level = 0.97 * level + rng.normal(0, 0.2)
        logs[day] = -9.0 + level + rng.normal(0, 0.5)
    moves = rng.choice([-1.0, 1.0], 1200) * np.exp(logs / 2)
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    dates = np.arange(len(close)).astype("datetime64[D]")
    return PriceHistory(ticker="SIM", dates=dates, close=close)


def test_har_is_archs_har_of_log_variance(history: PriceHistory) -> None:
    """arch's HARX: the same coefficients and the same iterated forecasts."""
    result = HARX(log_daily_variance(history), lags=[1, 5, 22]).fit(disp="off")
    theirs = result.forecast(horizon=30, reindex=False).mean.to_numpy()[-1]
    ours = fit_har(history)
    np.testing.assert_allclose(ours.coefficients, result.params[:4], rtol=1e-7)
    np.testing.assert_allclose(ours.point[:30], theirs, rtol=1e-9)


def test_arima_is_statsmodels_forecast_and_impulse_response(history: PriceHistory) -> None:
    result = ARIMA(log_daily_variance(history), order=(1, 0, 1), trend="c").fit()
    ours = fit_arima(history)
    np.testing.assert_allclose(ours.point[:30], result.forecast(30), rtol=1e-6)
    np.testing.assert_allclose(ours.psi[:30], result.impulse_responses(29), rtol=1e-5)


def test_ets_weighs_a_shock_alike_for_ever(history: PriceHistory) -> None:
    ours = fit_ets(history)
    assert ours.psi[0] == 1.0
    assert 0.0 < ours.psi[1] < 1.0
    assert np.ptp(ours.psi[1:]) == 0.0
    np.testing.assert_allclose(ours.point, ours.point[0])


@pytest.mark.parametrize("fit", [fit_har, fit_ets, fit_arima])
def test_the_closed_form_is_the_mean_of_the_paths(fit, history: PriceHistory) -> None:  # type: ignore[no-untyped-def]
    fitted = fit(history)
    paths = fitted.simulate(10, seed=1)
    np.testing.assert_allclose(paths.variance.mean(axis=0), paths.expected_variance, rtol=0.06)
    conditional = paths.conditional_volatility**2
    np.testing.assert_allclose(conditional.mean(axis=0), paths.expected_variance, rtol=0.04)
    assert np.ptp(paths.conditional_volatility[:, 0]) == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_future_of_a_har_is_its_regression_day_by_day(slopes: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    last, coefficients = rng.normal(size=22), np.array([0.1, *slopes])
    point, psi = har_future(coefficients, last)
    values, shocked = list(last), [*last[:-1], last[-1] + 1.0]
    for day in range(40):
        for run in (values, shocked):
            past = np.array(run[-22:])
            means = [past[-1], past[-5:].mean(), past.mean()]
            run.append(float(coefficients[0] + coefficients[1:] @ means))
        assert values[-1] == pytest.approx(point[day], rel=1e-9, abs=1e-9)
        assert shocked[-1] - values[-1] == pytest.approx(psi[day + 1], rel=1e-6, abs=1e-9)


def test_without_residuals_of_size_the_expectation_is_the_exponential() -> None:
    quiet = FittedLogVariance(np.full(250, -9.0), np.full(250, 0.5), np.zeros(10))
    np.testing.assert_allclose(quiet.expected_variance(5), np.exp(-9.0))
