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

# Four days, and their estimates from tests/reference/realized_estimators.py.
BARS = {
    "open": np.array([100.0, 101.5, 100.2, 103.0]),
    "high": np.array([102.0, 103.1, 104.4, 103.9]),
    "low": np.array([99.2, 100.9, 99.7, 101.1]),
    "close": np.array([101.0, 101.2, 103.6, 101.9]),
}
PARKINSON = (2.794413858755e-04, 1.678004959743e-04, 7.653107505682e-04, 2.691763484085e-04)
GARMAN_KLASS = (3.491413666201e-04, 2.292362294886e-04, 6.308073680985e-04, 3.286240176463e-04)
ROGERS_SATCHELL = (3.395399025040e-04, 3.085267475042e-04, 5.078137899642e-04, 3.158501943234e-04)
YANG_ZHANG = 4.543299781801e-04
CLOSE_TO_CLOSE = 4.003980012219e-04


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


def simulated_bars(
    n_days: int, *, drift: float, night: float, day_volatility: float = 0.02, seed: int = 0
) -> dict[str, np.ndarray]:
    """Days of a geometric Brownian motion with exact extremes, and jumps at the opening.

    The log price has the drift `drift` and the volatility `day_volatility` a session, and moves
    by `night` times a standard normal before it. Within each of 50 steps the highest and the
    lowest value are drawn from the Brownian bridge between the step's ends.
    """
    rng = np.random.default_rng(seed)
    n_steps = 50
    step_variance = day_volatility**2 / n_steps
    steps = rng.normal(drift / n_steps, np.sqrt(step_variance), (n_days, n_steps))
    ends = np.cumsum(steps, axis=1)
    starts = ends - steps
    reach = np.sqrt(steps**2 - 2 * step_variance * np.log(rng.random((2, n_days, n_steps))))
    high = np.maximum(((starts + ends + reach[0]) / 2).max(axis=1), 0.0)
    low = np.minimum(((starts + ends - reach[1]) / 2).min(axis=1), 0.0)
    jumps = rng.normal(0, night, n_days) if night else np.zeros(n_days)
    openings = np.cumsum(jumps) + np.concatenate([[0.0], np.cumsum(ends[:-1, -1])])
    logs = {
        "open": openings,
        "high": openings + high,
        "low": openings + low,
        "close": openings + ends[:, -1],
    }
    return {name: np.exp(values) for name, values in logs.items()}


class TestAgainstReference:
    def test_daily_estimators_follow_the_published_formulas(self) -> None:
        parkinson = volatility.parkinson_variance(BARS["high"], BARS["low"])
        np.testing.assert_allclose(parkinson, PARKINSON, rtol=1e-10)
        np.testing.assert_allclose(
            volatility.garman_klass_variance(**BARS), GARMAN_KLASS, rtol=1e-10
        )
        np.testing.assert_allclose(
            volatility.rogers_satchell_variance(**BARS), ROGERS_SATCHELL, rtol=1e-10
        )

    def test_estimators_of_a_run_follow_the_published_formulas(self) -> None:
        assert volatility.yang_zhang_variance(**BARS) == pytest.approx(YANG_ZHANG, rel=1e-10)
        found = volatility.close_to_close_variance(BARS["close"])
        assert found == pytest.approx(CLOSE_TO_CLOSE, rel=1e-10)


class TestValidity:
    """On 20,000 simulated days an unbiased estimator is within 2.5% of the truth."""

    @staticmethod
    def estimates(bars: dict[str, np.ndarray]) -> dict[str, float]:
        return {
            "close": volatility.close_to_close_variance(bars["close"]),
            "parkinson": volatility.parkinson_variance(bars["high"], bars["low"]).mean(),
            "klass": volatility.garman_klass_variance(**bars).mean(),
            "rogers": volatility.rogers_satchell_variance(**bars).mean(),
            "yang": volatility.yang_zhang_variance(**bars),
        }

    def test_without_drift_and_night_all_are_unbiased(self) -> None:
        for name, found in self.estimates(simulated_bars(20_000, drift=0, night=0)).items():
            assert found == pytest.approx(0.02**2, rel=0.025), name

    def test_drift_biases_the_ranges_but_not_those_free_of_it(self) -> None:
        """A drift of one daily volatility: Parkinson and Garman-Klass are far off."""
        found = self.estimates(simulated_bars(20_000, drift=0.02, night=0))
        for name in ("close", "rogers", "yang"):
            assert found[name] == pytest.approx(0.02**2, rel=0.025), name
        assert found["parkinson"] > 1.3 * 0.02**2
        assert found["klass"] > 1.03 * 0.02**2

    def test_jumps_at_the_opening_are_seen_by_two_estimators_alone(self) -> None:
        found = self.estimates(simulated_bars(20_000, drift=0.01, night=0.01))
        whole = 0.02**2 + 0.01**2
        assert found["close"] == pytest.approx(whole, rel=0.025)
        assert found["yang"] == pytest.approx(whole, rel=0.025)
        assert found["rogers"] == pytest.approx(0.02**2, rel=0.025)

    def test_yang_zhang_varies_least_over_a_month(self) -> None:
        """Over 22 days its variance is less than a quarter of that of close-to-close."""
        bars = simulated_bars(22 * 400, drift=0, night=0.005)
        months = [{k: v[i : i + 22] for k, v in bars.items()} for i in range(0, 22 * 400, 22)]
        yang = np.var([volatility.yang_zhang_variance(**month) for month in months])
        close = np.var([volatility.close_to_close_variance(month["close"]) for month in months])
        assert close / yang > 4

    @given(st.integers(0, 1000), st.floats(-0.05, 0.05))
    def test_rogers_satchell_is_never_negative(self, seed: int, drift: float) -> None:
        bars = simulated_bars(5, drift=drift, night=0.01, seed=seed)
        assert (volatility.rogers_satchell_variance(**bars) >= 0).all()

    def test_too_few_days_are_refused(self) -> None:
        two = {name: values[:2] for name, values in BARS.items()}
        with pytest.raises(TableError, match="3 days"):
            volatility.yang_zhang_variance(**two)
        with pytest.raises(TableError, match="3 days"):
            volatility.close_to_close_variance(two["close"])


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
