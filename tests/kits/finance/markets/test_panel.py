"""A panel gives each company what its own call gives, and lists those it cannot forecast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import TableError
from kits.finance.markets.forecasters import forecast_volatility
from kits.finance.markets.log_variance import fit_har
from kits.finance.markets.panel import (
    PANEL_MODELS,
    RefusedCompany,
    forecast_panel,
    read_histories,
)
from kits.finance.markets.panel_har import fit_panel_har
from kits.finance.markets.prices import PriceHistory, read_prices


def history_of(log_returns: np.ndarray, ticker: str) -> PriceHistory:
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(log_returns)]))
    dates = np.arange(len(close)).astype("datetime64[D]")
    return PriceHistory(ticker=ticker, dates=dates, close=close)


def garch_returns(days: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    variance, returns = 1.0, np.empty(days)
    for day, z in enumerate(rng.standard_t(7, size=days) * np.sqrt(5 / 7)):
        returns[day] = np.sqrt(variance) * z
        variance = 0.05 + (0.05 + 0.06 * (z < 0)) * returns[day] ** 2 + 0.87 * variance
    return returns / 100


@pytest.fixture(scope="module")
def histories() -> list[PriceHistory]:
    days = (900, 700, 900, 800)
    return [history_of(garch_returns(n, seed), f"C{seed}") for seed, n in enumerate(days)]


@pytest.mark.parametrize("model", PANEL_MODELS)
def test_each_company_gets_what_its_own_call_gives(
    histories: list[PriceHistory], model: str
) -> None:
    """Point forecasts and quantiles; arch stops its search earlier, hence the tolerance."""
    panel = forecast_panel(histories, horizon_days=10, models=[model])
    for at, history in enumerate(histories):
        alone = forecast_volatility(history, horizon_days=10, model=model)
        joint = panel.forecasts[model][at]
        np.testing.assert_allclose(joint.expected_variance, alone.expected_variance, rtol=2e-3)
        np.testing.assert_allclose(
            joint.daily_volatility_quantiles, alone.daily_volatility_quantiles, rtol=2e-3
        )
        np.testing.assert_allclose(panel.expected_variance[model][at], joint.expected_variance)


def test_bad_companies_are_listed_and_do_not_stop_the_others(
    histories: list[PriceHistory],
) -> None:
    still = history_of(np.zeros(700), "STILL")
    quiet = history_of(np.where(np.arange(700) % 3 == 0, garch_returns(700, 9), 0.0), "QUIET")
    before = RefusedCompany("NONE", "no prices")
    mixed = [histories[0], still, histories[1], quiet]
    panel = forecast_panel(mixed, horizon_days=5, quantile_levels=None, refused=[before])
    assert panel.tickers == ("C0", "C1")
    assert [company.ticker for company in panel.refused] == ["NONE", "STILL", "QUIET"]
    assert "equal returns on all days" in panel.refused[1].reason
    assert "days without a move" in panel.refused[2].reason
    clean = forecast_panel(histories[:2], horizon_days=5, quantile_levels=None)
    for model in PANEL_MODELS:
        np.testing.assert_array_equal(
            panel.expected_variance[model], clean.expected_variance[model]
        )


def test_a_portfolio_is_read_and_forecast_in_spite_of_faulty_rows(
    histories: list[PriceHistory], tmp_path: Path
) -> None:
    """One good company, one with a close of zero, one that the file does not have."""
    dates = pd.bdate_range("2014-01-02", periods=801).strftime("%Y-%m-%d")
    good = pd.DataFrame({"ticker": "GOOD", "date": dates, "close": histories[3].close})
    bad = good.assign(ticker="BAD", close=good["close"].where(good.index != 9, 0.0))
    pd.concat([good, bad]).to_csv(tmp_path / "prices.csv", index=False)
    table = read_prices(tmp_path / "prices.csv")
    read, refused = read_histories(table, ["BAD", "GOOD", "NONE", "GOOD"])
    panel = forecast_panel(read, horizon_days=5, quantile_levels=None, refused=refused)
    assert panel.tickers == ("GOOD",)
    reasons = {company.ticker: company.reason for company in panel.refused}
    assert "1 rows with a close of zero or less" in reasons["BAD"]
    assert "expected rows of ticker NONE" in reasons["NONE"]


def test_a_panel_of_bad_companies_alone_is_empty_and_says_why() -> None:
    panel = forecast_panel([history_of(np.zeros(700), "STILL")])
    assert panel.tickers == ()
    assert len(panel.refused) == 1


def test_quantiles_rise_and_equal_calls_repeat(histories: list[PriceHistory]) -> None:
    first, again = (forecast_panel(histories[:2], horizon_days=6, seed=3) for _ in range(2))
    for model in PANEL_MODELS:
        for one, two in zip(first.forecasts[model], again.forecasts[model], strict=True):
            assert (np.diff(one.daily_volatility_quantiles, axis=1) >= 0).all()
            np.testing.assert_array_equal(
                one.period_volatility_quantiles, two.period_volatility_quantiles
            )


def test_the_joint_least_squares_are_those_of_each_company(
    histories: list[PriceHistory],
) -> None:
    rng = np.random.default_rng(0)
    logs = [rng.normal(-9, 1, n) for n in (600, 500, 600)]
    for fit, series in zip(fit_panel_har(logs), logs, strict=True):
        moves = rng.choice([-1, 1], len(series)) * np.exp(series / 2)
        alone = fit_har(history_of(moves, "X"))
        np.testing.assert_allclose(fit.coefficients, alone.coefficients, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(fit.point, alone.point, rtol=1e-8)
        np.testing.assert_allclose(fit.residuals, alone.residuals, atol=1e-8)


@pytest.mark.parametrize("arguments", [{"models": ["egarch"]}, {"models": []}, {"horizon_days": 0}])
def test_arguments_are_checked(histories: list[PriceHistory], arguments: dict) -> None:
    with pytest.raises(TableError, match="forecast"):
        forecast_panel(histories, **arguments)
