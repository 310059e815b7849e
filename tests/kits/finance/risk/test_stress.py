"""Stress losses are those of the prices, or refused where the history does not reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500

from common.errors import TableError
from kits.finance.markets.prices import PriceHistory
from kits.finance.risk.stress import STRESS_WINDOWS, StressWindow, stress_loss


def sp500_history() -> PriceHistory:
    table = sp500.load()
    dates = table.index.to_numpy().astype("datetime64[D]")
    return PriceHistory("SP500", dates, table["Close"].to_numpy(np.float64))


INDEX = sp500_history()


def close_on(day: str) -> float:
    return float(sp500.load()["Close"].loc[day])


@pytest.mark.parametrize("window", STRESS_WINDOWS[:3], ids=lambda window: window.name)
def test_losses_are_those_of_the_closes(window: StressWindow) -> None:
    found = stress_loss({"SP500": 200.0}, {"SP500": INDEX}, window.name, currency="USD")
    change = close_on(str(window.end_date)) / close_on(str(window.start_date)) - 1
    assert found.loss == pytest.approx(-200 * change)
    assert found.worst_loss >= found.loss > 0
    assert found.currency == "USD"


def test_the_autumn_of_2008_cost_two_fifths() -> None:
    # 1,251.70 on 12 September and 752.44 on 20 November 2008.
    found = stress_loss({"SP500": 1.0}, {"SP500": INDEX}, "2008-09", currency="USD")
    assert found.loss == pytest.approx(1 - 752.44 / 1251.70, abs=1e-5)
    assert found.worst_date == date(2008, 11, 20)


def test_parts_add_up_and_a_short_position_gains() -> None:
    half = PriceHistory("HALF", INDEX.dates, np.sqrt(INDEX.close))
    found = stress_loss(
        {"SP500": 100.0, "HALF": -50.0}, {"SP500": INDEX, "HALF": half}, "2011-08", currency="EUR"
    )
    assert sum(found.by_position.values()) == pytest.approx(found.loss)
    assert found.by_position["HALF"] < 0 < found.by_position["SP500"]


def test_a_history_that_does_not_cover_the_window_is_refused_with_its_dates() -> None:
    late = PriceHistory("LATE", INDEX.dates[3000:], INDEX.close[3000:])
    with pytest.raises(TableError, match=r"LATE: first price 2010-.*NONE: no history"):
        stress_loss({"LATE": 1.0, "NONE": 1.0}, {"LATE": late}, "2008-09", currency="USD")
    with pytest.raises(TableError, match="last price 2018-12-31"):
        stress_loss({"SP500": 1.0}, {"SP500": INDEX}, "2020-03", currency="USD")
    keep = (INDEX.dates < np.datetime64("2008-10-01")) | (INDEX.dates > np.datetime64("2008-10-20"))
    holed = PriceHistory("HOLED", INDEX.dates[keep], INDEX.close[keep])
    with pytest.raises(TableError, match="gap"):
        stress_loss({"HOLED": 1.0}, {"HOLED": holed}, "2008-09", currency="USD")


def test_prices_in_another_currency_are_refused() -> None:
    foreign = {"SP500": replace(INDEX, currency="USD")}
    with pytest.raises(TableError, match="SP500 in USD"):
        stress_loss({"SP500": 1.0}, foreign, "2008-09", currency="EUR")


def test_a_window_of_the_future_and_an_unknown_one_are_refused() -> None:
    asked = {"exposures": {"SP500": 1.0}, "histories": {"SP500": INDEX}, "currency": "USD"}
    with pytest.raises(TableError, match="by 2008-10-01"):
        stress_loss(window="2008-09", as_of=date(2008, 10, 1), **asked)
    with pytest.raises(TableError, match="one of 2008-09"):
        stress_loss(window="1929-10", **asked)
    with pytest.raises(TableError, match="no position"):
        stress_loss({}, {}, "2008-09", currency="USD")


def test_the_stocks_of_the_open_data_cover_all_windows(tandem_data: Path) -> None:
    table = pd.read_csv(
        tandem_data / "finance/forecast_series/skfolio_sp500_20stocks.csv.gz", parse_dates=["Date"]
    )
    dates = table["Date"].to_numpy().astype("datetime64[D]")
    histories = {name: PriceHistory(name, dates, table[name].to_numpy()) for name in ("JPM", "KO")}
    for window in STRESS_WINDOWS:
        assert stress_loss({"JPM": 1.0, "KO": 1.0}, histories, window, currency="USD").loss > 0
