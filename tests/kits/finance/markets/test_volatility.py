"""Volatility estimators against their formulas, and features and labels against MAEC's."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TableError
from kits.finance.markets import volatility
from kits.finance.markets.prices import PriceHistory, read_prices

PRICES = Path("finance/us_prices/prices_2010_2017.parquet")
LABELS = Path("finance/maec_calls/derived_labels_from_prices.csv.gz")
WINDOWS = (3, 7, 15, 30, 60, 120, 250)
ROUNDED_TO = 5.01e-7  # the label file has six decimals


@pytest.fixture(scope="module")
def calls(tandem_data: Path) -> list[tuple[pd.Series, PriceHistory, np.ndarray]]:
    """Sixty priced calls with the history up to the call and all closes of the file."""
    with gzip.open(tandem_data / LABELS) as file:
        labels = pd.read_csv(file, parse_dates=["date"], na_values=[""], keep_default_na=False)
    table = read_prices(tandem_data / PRICES)
    found = []
    for _, call in labels[labels["past_lv_250"].notna()].sample(120, random_state=0).iterrows():
        try:
            history = table.history(call["ticker"], as_of=call["date"].date())
        except TableError:
            continue
        closes = table.history(call["ticker"], as_of=pd.Timestamp("2017-02-28").date()).close
        found.append((call, history, closes))
    return found[:60]


class TestAgainstMAEC:
    def test_past_log_volatility_equals_the_label_file(self, calls: list) -> None:
        """The features are the columns past_lv_w on real rows, to the file's last decimal."""
        assert len(calls) == 60
        for call, history, _ in calls:
            ours = volatility.past_log_volatility(history, WINDOWS)
            expected = call[[f"past_lv_{w}" for w in WINDOWS]].to_numpy(np.float64)
            np.testing.assert_allclose(ours, expected, atol=ROUNDED_TO, rtol=0)

    def test_forward_log_volatility_equals_the_label_file(self, calls: list) -> None:
        """The 30-day label skips the reaction as MAEC does, or starts with it."""
        for call, history, closes in calls:
            day = len(history.close) - 1
            skipped = volatility.forward_log_volatility(closes, day)
            with_reaction = volatility.forward_log_volatility(closes, day, include_reaction=True)
            assert skipped == pytest.approx(call["kefvp_future_30"], abs=ROUNDED_TO)
            assert with_reaction == pytest.approx(call["react_future_30"], abs=ROUNDED_TO)


def history_of(close: list[float], **bars: list[float]) -> PriceHistory:
    """A short history for formulas; the border's 500 rows do not apply to them."""
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    arrays = {name: np.array(values) for name, values in bars.items()}
    return PriceHistory(ticker="X", dates=dates, close=np.array(close), **arrays)


class TestEstimators:
    def test_parkinson_follows_its_formula(self) -> None:
        """A range of one log unit has variance 1 / (4 ln 2)."""
        value = volatility.parkinson_variance(np.array([np.e]), np.array([1.0]))
        np.testing.assert_allclose(value, 0.36067376022224085, rtol=1e-12)

    def test_garman_klass_follows_its_formula(self) -> None:
        """Worked by hand for high e, low 1, open 1, close e: 1/2 - (2 ln 2 - 1)."""
        one, e = np.array([1.0]), np.array([np.e])
        value = volatility.garman_klass_variance(one, e, one, e)
        np.testing.assert_allclose(value, 0.1137056388801094, rtol=1e-12)

    def test_estimators_recover_the_variance_of_a_simulated_day(self) -> None:
        """On fine random walks both range estimators average to the true daily variance."""
        steps = np.random.default_rng(0).normal(0, 0.02 / np.sqrt(2000), (1500, 2000))
        path = np.exp(np.cumsum(steps, axis=1))
        opening, high, low = np.ones(1500), path.max(axis=1), path.min(axis=1)
        high, low = np.maximum(high, 1), np.minimum(low, 1)
        parkinson = volatility.parkinson_variance(high, low).mean()
        klass = volatility.garman_klass_variance(opening, high, low, path[:, -1]).mean()
        # A walk of 2,000 steps misses part of the extremes: both lie a few percent low.
        assert parkinson == pytest.approx(0.0004, rel=0.08)
        assert klass == pytest.approx(0.0004, rel=0.08)

    def test_daily_variance_uses_bars_where_they_are_whole(self) -> None:
        """Overnight and session add up; a day without a bar gives its squared return."""
        history = history_of(
            [100.0, 102.0, 101.0],
            open=[100.0, 101.0, np.nan],
            high=[101.0, 103.0, np.nan],
            low=[99.0, 100.0, np.nan],
        )
        night = np.log(1.01) ** 2
        session = 0.5 * np.log(1.03) ** 2 - (2 * np.log(2) - 1) * np.log(102 / 101) ** 2
        expected = [night + session, np.log(101 / 102) ** 2]
        np.testing.assert_allclose(volatility.daily_variance(history), expected, rtol=1e-12)

    def test_daily_variance_of_closes_alone_is_the_squared_return(self) -> None:
        """Without bars there is nothing better."""
        history = history_of([100.0, 102.0, 102.0])
        expected = [np.log(1.02) ** 2, 0.0]
        np.testing.assert_allclose(volatility.daily_variance(history), expected, rtol=1e-12)

    def test_realized_volatility_ends_with_the_last_window(self) -> None:
        """The last entry is the log-volatility of the same window."""
        returns = np.random.default_rng(1).normal(0, 0.01, 100)
        runs = volatility.realized_volatility(returns, 22)
        assert runs.shape == (79,)
        assert np.log(runs[-1]) == pytest.approx(volatility.log_volatility(returns, 22))


class TestLogVolatility:
    @given(st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=40), st.floats(0.1, 10))
    def test_scaling_returns_shifts_the_log(self, values: list[float], scale: float) -> None:
        """Returns that are c times larger have ln c more log-volatility."""
        returns = np.array(values)
        if np.std(returns) < 1e-6:
            return
        shifted = volatility.log_volatility(scale * returns, len(returns))
        plain = volatility.log_volatility(returns, len(returns))
        assert shifted == pytest.approx(plain + np.log(scale), abs=1e-6)

    def test_closes_that_stand_still_are_refused(self) -> None:
        """A suspended share has no log-volatility, not one of minus infinity."""
        with pytest.raises(TableError, match="equal returns"):
            volatility.past_log_volatility(history_of([5.0] * 30), (22,))

    def test_too_short_a_history_is_refused(self) -> None:
        """A label that reaches past the last close does not exist."""
        with pytest.raises(TableError, match="30 returns"):
            volatility.forward_log_volatility(np.arange(1.0, 41.0), 20)
