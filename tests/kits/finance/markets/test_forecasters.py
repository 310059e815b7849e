"""Forecasts repeat, do not cross, and find the parameters that simulated prices have."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from arch import arch_model

from common.errors import TableError
from kits.finance.markets.forecasters import (
    MODELS,
    fit_garch,
    fit_har,
    forecast_volatility,
)
from kits.finance.markets.prices import PriceHistory, read_prices
from kits.finance.markets.volatility import log_returns

GARCH_TRUTH = {"mu": 0.05, "omega": 0.05, "alpha[1]": 0.08, "beta[1]": 0.88, "nu": 7.0}


def history_of(log_returns: np.ndarray) -> PriceHistory:
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(log_returns)]))
    dates = np.arange(len(close)).astype("datetime64[D]")
    return PriceHistory(ticker="SIM", dates=dates, close=close)


@pytest.fixture(scope="module")
def simulated() -> PriceHistory:
    model = arch_model(None, mean="Constant", vol="GARCH", dist="t")
    model.distribution._random_state = np.random.RandomState(1)
    data = model.simulate(list(GARCH_TRUTH.values()), 2600)["data"]
    return history_of(data.to_numpy() / 100)


def test_garch_finds_the_parameters_of_simulated_returns(simulated: PriceHistory) -> None:
    """Within four standard errors of each, which one seed in ten thousand leaves."""
    fitted = fit_garch(simulated)
    errors = fitted.result.std_err
    for name, truth in GARCH_TRUTH.items():
        assert abs(fitted.parameters[name] - truth) < 4 * errors[name], name


def test_har_finds_the_coefficients_of_a_simulated_har() -> None:
    rng = np.random.default_rng(0)
    logs = list(np.full(22, -9.0))
    for _ in range(6000):
        month = np.array(logs[-22:])
        expected = -0.9 + 0.3 * month[-1] + 0.3 * month[-5:].mean() + 0.3 * month.mean()
        logs.append(expected + rng.normal(0, 0.5))
    signs = rng.choice([-1.0, 1.0], len(logs))
    fitted = fit_har(history_of(signs * np.exp(np.array(logs) / 2)))
    np.testing.assert_allclose(fitted.coefficients[1:], 0.3, atol=0.15)
    assert fitted.residuals.std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_quantiles_rise_and_equal_seeds_repeat(simulated: PriceHistory, model: str) -> None:
    first = forecast_volatility(simulated, model=model, horizon_days=10)
    again = forecast_volatility(simulated, model=model, horizon_days=10)
    assert first.daily_volatility_quantiles.shape == (10, 5)
    assert (np.diff(first.daily_volatility_quantiles, axis=1) >= 0).all()
    assert (np.diff(first.period_volatility_quantiles) > 0).all()
    assert (first.expected_variance > 0).all()
    assert (first.daily_volatility_quantiles > 0).all()
    np.testing.assert_array_equal(
        first.daily_volatility_quantiles, again.daily_volatility_quantiles
    )


def test_the_first_day_is_known_and_uncertainty_grows(simulated: PriceHistory) -> None:
    forecast = forecast_volatility(simulated, model="garch")
    spread = forecast.daily_volatility_quantiles[:, -1] - forecast.daily_volatility_quantiles[:, 0]
    assert spread[0] == pytest.approx(0, abs=1e-12)
    assert spread[9] > spread[1]
    assert forecast.daily_volatility_quantiles[0, 2] == pytest.approx(
        fit_garch(simulated).next_volatility
    )


def test_a_fit_at_hand_is_taken_and_gives_the_same(simulated: PriceHistory) -> None:
    fitted = fit_garch(simulated)
    given = forecast_volatility(simulated, model="garch", horizon_days=5, fitted=fitted)
    made = forecast_volatility(simulated, model="garch", horizon_days=5)
    np.testing.assert_array_equal(
        given.period_volatility_quantiles, made.period_volatility_quantiles
    )


@pytest.mark.parametrize("model", ["garch", "gjr", "garch-skewt", "ewma"])
def test_the_paths_have_the_mean_that_the_closed_form_has(
    simulated: PriceHistory, model: str
) -> None:
    """Within the error of 4,000 paths, for the variance and for the squared shocks."""
    fitted = fit_garch(simulated, model=model)
    paths = fitted.simulate(20, seed=2)
    means = (paths.conditional_volatility**2).mean(axis=0)
    np.testing.assert_allclose(means, fitted.expected_variance(20), rtol=0.08)
    assert paths.variance.mean() == pytest.approx(fitted.expected_variance(20).mean(), rel=0.08)


def test_both_models_agree_with_the_truth_in_the_long_run(simulated: PriceHistory) -> None:
    """Unconditional volatility is sqrt(omega / (1 - alpha - beta)) = 1.118% a day."""
    truth = 0.01 * np.sqrt(0.05 / (1 - 0.08 - 0.88))
    for model in ("har", "garch"):
        forecast = forecast_volatility(simulated, model=model, horizon_days=250)
        assert 0.7 * truth < forecast.period_volatility_mean < 1.4 * truth


@pytest.mark.parametrize(
    "arguments",
    [
        {"horizon_days": 0},
        {"quantile_levels": (0.5, 0.1)},
        {"quantile_levels": (0.0, 0.5)},
        {"model": "oracle"},
    ],
)
def test_model_horizon_and_levels_are_checked(simulated: PriceHistory, arguments: dict) -> None:
    with pytest.raises(TableError, match="volatility forecast"):
        forecast_volatility(simulated, **arguments)


@pytest.mark.parametrize("model", ["har", "garch"])
def test_prices_that_stand_still_are_refused(model: str) -> None:
    with pytest.raises(TableError, match="prices that move"):
        forecast_volatility(history_of(np.zeros(600)), model=model)


def test_real_months_fall_into_the_bands_about_as_often_as_they_say(tandem_data: Path) -> None:
    """Of twenty large shares' next 30 days, most lie between the 5% and the 95% quantile."""
    table = read_prices(tandem_data / "finance/us_prices/prices_2010_2017.parquet")
    assert table.positions is not None
    inside: dict[str, list[bool]] = {"har": [], "garch": []}
    for ticker in ("AAPL", "CAT", "CVX", "F", "GE", "IBM", "INTC", "JNJ", "KO", "WMT"):
        for as_of in (dt.date(2014, 6, 30), dt.date(2016, 3, 31)):
            if ticker not in table.positions:
                continue
            past, later = table.history(ticker, as_of=as_of), table.history(ticker)
            ahead = log_returns(later.close)[len(past.close) - 1 :][:30]
            realized = np.sqrt(np.mean(ahead**2))
            for model, hits in inside.items():
                low, *_, high = forecast_volatility(past, model=model).period_volatility_quantiles
                hits.append(low <= realized <= high)
    for hits in inside.values():
        assert len(hits) >= 10
        assert np.mean(hits) > 0.6
