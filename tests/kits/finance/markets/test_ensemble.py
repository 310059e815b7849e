"""The ensemble's weights come from the past alone and favour what forecast well."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.markets.ensemble import (
    FittedEnsemble,
    fit_ensemble,
    inverse_loss_weights,
    past_losses,
)
from kits.finance.markets.fitting import fit_volatility
from kits.finance.markets.forecasters import forecast_volatility
from kits.finance.markets.paths import VolatilityPaths, pool
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import daily_variance

positive = st.floats(1e-6, 1e3)


def history_of(days: int, seed: int = 0) -> PriceHistory:
    rng = np.random.default_rng(seed)
    variance, returns = 1.0, np.empty(days)
    for day, z in enumerate(rng.standard_t(7, size=days) * np.sqrt(5 / 7)):
        returns[day] = np.sqrt(variance) * z
        variance = 0.03 + (0.03 + 0.08 * (z < 0)) * returns[day] ** 2 + 0.9 * variance
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns / 100)]))
    dates = np.arange(len(close)).astype("datetime64[D]")
    return PriceHistory(ticker="SIM", dates=dates, close=close)


@given(st.dictionaries(st.sampled_from("abcd"), positive, min_size=1))
def test_weights_sum_to_one_and_fall_with_the_loss(losses: dict) -> None:
    weights = inverse_loss_weights(losses)
    assert sum(weights.values()) == pytest.approx(1.0)
    ranked = sorted(losses, key=losses.__getitem__)
    assert all(weights[a] >= weights[b] for a, b in pairwise(ranked))


@given(st.integers(1, 99))
def test_a_pool_takes_each_members_share_of_the_paths(percent: int) -> None:
    low, high = (VolatilityPaths(*(np.full((100, 2), v),) * 2, np.full(2, v)) for v in (1.0, 2.0))
    mixed = pool([low, high], np.array([percent / 100, 1 - percent / 100]))
    assert (mixed.variance[:, 0] == 1.0).sum() == percent
    np.testing.assert_allclose(mixed.expected_variance, 2.0 - percent / 100)


def test_losses_use_what_was_known_and_what_came_after() -> None:
    """The newest of them by hand: a fit to the closes before, the days after."""
    history, horizon = history_of(600), 10
    losses = past_losses(history, horizon_days=horizon, members=["har"])["har"]
    last = 600 - horizon
    known = PriceHistory(
        ticker="SIM", dates=history.dates[: last + 1], close=history.close[: last + 1]
    )
    forecast = fit_volatility(known, model="har").expected_variance(horizon).mean()
    came = daily_variance(history)[last:].mean()
    assert losses[-1] == pytest.approx(came / forecast - np.log(came / forecast) - 1)
    assert len(losses) == 5  # 500 closes at the oldest, 22 days apart


def test_prices_after_the_last_past_day_and_its_horizon_change_no_weight() -> None:
    """Weights of a history equal those computed when its last days were not known yet."""
    history = history_of(700)
    spoiled = PriceHistory(
        ticker="SIM",
        dates=history.dates,
        close=np.concatenate([history.close[:-1], [history.close[-1] * 1.4]]),
    )
    before, after = (
        past_losses(h, horizon_days=5, members=["ewma", "har"]) for h in (history, spoiled)
    )
    for name, values in before.items():
        assert values[:-1] == after[name][:-1]


def test_the_ensemble_is_the_pool_of_its_members() -> None:
    history = history_of(640)
    fitted = fit_ensemble(history, horizon_days=10, members=["ewma", "garch", "har"])
    assert sum(fitted.weights.values()) == pytest.approx(1.0)
    assert fitted.n_origins == 6
    expected = sum(
        weight * fit_volatility(history, model=name).expected_variance(10)
        for name, weight in fitted.weights.items()
    )
    np.testing.assert_allclose(fitted.expected_variance(10), expected)
    forecast = forecast_volatility(history, horizon_days=10, model="ensemble", fitted=fitted)
    assert (np.diff(forecast.daily_volatility_quantiles, axis=1) >= 0).all()
    np.testing.assert_allclose(forecast.expected_variance, expected)


def test_a_history_too_short_for_a_past_gives_equal_weights() -> None:
    fitted = fit_ensemble(history_of(505), horizon_days=30, members=["ewma", "har"])
    assert fitted.weights == {"ewma": 0.5, "har": 0.5}
    assert isinstance(fitted, FittedEnsemble)
    assert fitted.n_origins == 0
    assert fitted.losses == {}


def test_an_unknown_member_is_refused() -> None:
    with pytest.raises(TableError, match="volatility forecast"):
        fit_ensemble(history_of(505), horizon_days=5, members=["har", "oracle"])
