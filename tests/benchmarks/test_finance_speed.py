"""The peers forecast what the panel forecasts, and agreement tells equal fits from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.panel_peers import PEERS, agreement, har_difference
from kits.finance.markets.garch_fit import PERCENT, FittedGarch
from kits.finance.markets.log_variance import FittedHAR
from kits.finance.markets.panel import PANEL_MODELS, PanelForecast, forecast_panel
from kits.finance.markets.prices import PriceHistory

HORIZON_DAYS = 5


@pytest.fixture(scope="module")
def history() -> PriceHistory:
    rng = np.random.default_rng(0)
    variance, returns = 1.0, np.empty(700)
    for day, z in enumerate(rng.standard_t(7, size=700) * np.sqrt(5 / 7)):
        returns[day] = np.sqrt(variance) * z
        variance = 0.05 + 0.07 * returns[day] ** 2 + 0.88 * variance
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns / 100)]))
    dates = np.arange(len(close)).astype("datetime64[D]")
    return PriceHistory(ticker="SIM", dates=dates, close=close)


@pytest.fixture(scope="module")
def panel(history: PriceHistory) -> PanelForecast:
    return forecast_panel([history], horizon_days=HORIZON_DAYS, quantile_levels=None)


def test_the_peers_are_the_panels_models() -> None:
    assert sorted(PEERS) == sorted(PANEL_MODELS)


@pytest.mark.parametrize("model", ["ewma", "garch", "gjr"])
def test_each_peer_forecasts_the_same_variance(
    model: str, history: PriceHistory, panel: PanelForecast
) -> None:
    theirs = PEERS[model](history, HORIZON_DAYS) / PERCENT**2
    tolerance = 0.01 if model == "ewma" else 1e-3  # arch starts its EWMA elsewhere
    np.testing.assert_allclose(panel.expected_variance[model][0], theirs, rtol=tolerance)


def test_the_peers_har_is_ours(history: PriceHistory, panel: PanelForecast) -> None:
    fit = panel.fits["har"][0]
    assert isinstance(fit, FittedHAR)
    assert har_difference(history, fit.point, HORIZON_DAYS) < 1e-9


def test_agreement_sees_a_fit_that_is_no_maximum(
    history: PriceHistory, panel: PanelForecast
) -> None:
    fit = panel.fits["garch"][0]
    assert isinstance(fit, FittedGarch)
    good = agreement(history, fit, HORIZON_DAYS)
    assert good.over_default > -1e-9
    assert not good.is_higher
    assert good.forecast_polished < 1e-4
    assert good.forecast_fixed < 1e-10
    worse = agreement(
        history,
        replace(
            fit, log_likelihood=fit.log_likelihood - 1, next_volatility=1.1 * fit.next_volatility
        ),
        HORIZON_DAYS,
    )
    assert worse.over_default < -1e-6
    assert worse.forecast_fixed > 1e-2
