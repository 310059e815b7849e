"""Features of the linked benchmark read no later day, and labels are those of the kit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.finance_linked_calls import LinkedCalls, read_linked_calls
from benchmarks.finance_linked_panel import price_rows, reporting_days
from benchmarks.finance_linked_prices import Market, PriceFeatures, log_volatility_after
from kits.finance.markets.volatility import forward_log_volatility, past_log_volatility

T, N, TODAY = 720, 20, 680
ROWS, COLUMNS = np.full(N, TODAY), np.arange(N)


@pytest.fixture(scope="module")
def market() -> Market:
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (T, N)), axis=0))
    opened = close * np.exp(rng.normal(0, 0.005, (T, N)))
    high = np.maximum(opened, close) * 1.01
    low = np.minimum(opened, close) * 0.99
    index = np.column_stack([bar[:, 0] for bar in (opened, high, low, close)])
    return Market(
        days=np.datetime64("2014-01-01") + np.arange(T),
        tickers={f"T{i}": i for i in range(N)},
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=rng.uniform(1e5, 1e6, (T, N)),
        vix=rng.uniform(10, 30, T),
        index=index,
    )


def scrambled_after(market: Market, day: int) -> Market:
    """The same market with other prices, volumes and VIX after a day."""
    arrays = {}
    for name in ("open", "high", "low", "close", "volume", "vix", "index"):
        array = getattr(market, name).copy()
        array[day + 1 :] *= 3.0
        arrays[name] = array
    return replace(market, **arrays)


def test_no_feature_reads_a_later_day(market):
    """Everything after the call's day may be anything."""
    ours = PriceFeatures(market).at(ROWS, COLUMNS)
    other = PriceFeatures(scrambled_after(market, TODAY)).at(ROWS, COLUMNS)
    np.testing.assert_array_equal(ours.to_numpy(), other.to_numpy())
    assert np.isfinite(ours.to_numpy()).all()


def test_past_volatility_is_that_of_the_kit(market):
    """Over each of HAR's windows, to float32."""
    found = PriceFeatures(market).at(ROWS[:1], COLUMNS[:1])
    history = SimpleNamespace(close=market.close[: TODAY + 1, 0])
    windows = (3, 7, 15, 30, 60, 120, 250)
    expected = past_log_volatility(history, windows)
    assert [found[f"past_{w}"][0] for w in windows] == pytest.approx(list(expected), abs=1e-5)


def test_thirty_day_labels_are_those_of_the_kit(market):
    """With and without the reaction; a label that needs days to come is NaN."""
    close, day, column = market.close[:, 3], np.array([300]), np.array([3])
    for skip, reaction in ((1, False), (0, True)):
        found = log_volatility_after(market, day, column, 30, skip=skip)[0]
        assert found == pytest.approx(forward_log_volatility(close, 300, include_reaction=reaction))
    assert np.isnan(log_volatility_after(market, np.array([T - 31]), column, 3, skip=1)[0])


def test_labels_of_real_calls_are_the_published_ones(tandem_data):
    """Splits have their published sizes; four in nine MAEC-15 test calls' companies were seen."""
    first, second = read_linked_calls(tandem_data)
    sizes = [[len(s.rows(k)) for k in ("train", "dev", "test")] for s in (first, second)]
    assert sizes == [[535, 76, 154], [980, 140, 280]]
    test = first.rows("test")
    assert 1 - first.unseen()[test].mean() == pytest.approx(0.442, abs=0.001)
    early = first.day[first.before_embargo(50)]
    assert first.day[test].min() - early.max() >= np.timedelta64(50, "D")
    assert (first.split[first.before_embargo(50)] != "test").all()
    few = first.first({"train": 5, "dev": 3, "test": 2})
    assert list(few.split) == ["train"] * 5 + ["dev"] * 3 + ["test"] * 2


def calls_of(market, rows):
    """Calls of T0, T1 ... on some days; the last one is a test call."""
    n = len(rows)
    labels = np.random.default_rng(1).normal(-4, 0.3, (n, 4))
    split = np.array(["train"] * (n - 1) + ["test"])
    tickers = np.array([f"T{i}" for i in range(n)])
    days = market.days[rows]
    return LinkedCalls(
        "MAEC-15", np.array([f"{d}_{t}" for d, t in zip(days, tickers, strict=True)]), tickers,
        days, split, {"published": labels, "reaction": labels}, np.full(n, -4.0), ("text",) * n,
    )  # fmt: skip


def test_the_panel_ends_before_the_first_call(market):
    """Its days lie in earlier quarters of train companies, its labels before the set's calls."""
    calls = calls_of(market, np.array([680, 685, 690]))
    days, columns = reporting_days(market, calls, before=680 - 32)
    assert set(columns) <= {0, 1}
    assert days.max() < 648
    rows = price_rows(market, PriceFeatures(market), calls)
    assert rows.panel_last_day < calls.day.min()
    assert np.isfinite(rows.panel).all()
    assert np.isfinite(rows.calls).all()
    assert rows.har.shape == (3, 7)


def test_a_day_that_felt_a_report_is_found(market):
    """A jump with volume a quarter back is taken, with the day before it."""
    volume, close = market.volume.copy(), market.close.copy()
    volume[680 - 63 + 4, 0] *= 30
    close[680 - 63 + 4 :, 0] *= 1.2
    marked = replace(market, volume=volume, close=close)
    days, _ = reporting_days(marked, calls_of(marked, np.array([680, 690])), before=700)
    assert {680 - 63 + 3, 680 - 63 + 4} <= set(days)
