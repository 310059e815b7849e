"""Prices of each call, and of the quarters before a set's first call: the panel.

The panel holds the days around which the companies of a set's train and dev calls reported
in earlier quarters, as their own volume and moves show it. Its labels end before the set's
first call: it teaches how volatility follows from prices, over years instead of months.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.finance_linked_calls import HORIZONS_DAYS, Label, LinkedCalls
from benchmarks.finance_linked_prices import (
    FEATURES_HAR,
    Market,
    PriceFeatures,
    log_volatility_after,
    market_returns,
)

__all__ = ["HAR_COLUMNS", "PriceRows", "price_rows", "reporting_days"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
HAR_COLUMNS = tuple(f"past_{window}" for window in FEATURES_HAR)
_QUARTER_DAYS = 63
_REACH_DAYS = 7  # around the day a whole number of quarters back
_N_QUARTERS = 24
_FIRST_DAY = 260  # a year of prices comes first
_AHEAD_DAYS = 32  # the label's last return: 1 skipped + 30, and a day apart


@dataclass(frozen=True, eq=False)
class PriceRows:
    """Features of calls and panel, without gaps.

    Args:
        names: Of the features.
        calls: `(n_calls, n_features)`.
        panel: `(n_panel, n_features)`.
        panel_labels: For each kind `(n_panel, 4)`.
        panel_last_day: Day of the panel's last label.
    """

    names: tuple[str, ...]
    calls: Floats
    panel: Floats
    panel_labels: dict[Label, Floats]
    panel_last_day: np.datetime64

    @property
    def har(self) -> Floats:
        """Past log-volatilities over 3 to 250 days of the calls, `(n_calls, 7)`."""
        return self.calls[:, [self.names.index(name) for name in HAR_COLUMNS]]


def price_rows(market: Market, features: PriceFeatures, calls: LinkedCalls) -> PriceRows:
    """Describes the calls of a set and its panel.

    Own volatilities that are missing take the next shorter window's, then the next longer
    one's, then the shipped 30 days'; other gaps take the panel's median.
    """
    known = np.array([market.tickers.get(name, -1) for name in calls.ticker])
    row = market.at(calls.day)
    of_calls = features.at(row, np.maximum(known, 0))
    of_calls[known < 0] = np.nan
    of_calls["past_30"] = of_calls["past_30"].fillna(pd.Series(calls.past_30))
    first = int(row.min())
    days, columns = reporting_days(market, calls, before=first - _AHEAD_DAYS)
    of_panel = features.at(days, columns)
    labels: dict[Label, Floats] = {
        "published": _labels(market, days, columns, skip=1),
        "reaction": _labels(market, days, columns, skip=0),
    }
    whole = np.isfinite(np.hstack(list(labels.values()))).all(axis=1)
    whole &= np.asarray(of_panel["past_250"].notna())
    of_panel = of_panel[whole]
    median = of_panel.median()
    return PriceRows(
        names=tuple(of_calls.columns),
        calls=_filled(of_calls, median),
        panel=_filled(of_panel, median),
        panel_labels={kind: values[whole] for kind, values in labels.items()},
        panel_last_day=market.days[int(days[whole].max()) + _AHEAD_DAYS],
    )


def reporting_days(market: Market, calls: LinkedCalls, *, before: int) -> tuple[Ints, Ints]:
    """Returns days and companies of earlier reports, both `(n,)`, days before `before`.

    Counted back in quarters from each company's first train or dev call, the day within a
    week and a half of it with the largest product of move and volume, each over its usual size,
    is taken for the day that felt the report; it and the day before it enter, since calls are held
    before and after trading.
    """
    size = np.abs(market_returns(market.close))
    felt = np.log1p(size / (_usual(size) + 1e-4)) + np.log(
        np.maximum(market.volume, 1.0) / (_usual(market.volume) + 1.0)
    )
    found: set[tuple[int, int]] = set()
    seen: set[str] = set()
    for at in np.flatnonzero(calls.split != "test"):
        ticker = str(calls.ticker[at])
        column = market.tickers.get(ticker)
        if ticker in seen or column is None:
            continue
        seen.add(ticker)
        start = int(market.at(calls.day[at : at + 1])[0])
        for quarter in range(1, _N_QUARTERS + 1):
            centre = start - _QUARTER_DAYS * quarter
            window = felt[max(0, centre - _REACH_DAYS) : centre + _REACH_DAYS + 1, column]
            if centre < _FIRST_DAY or np.isnan(window).all():
                continue
            day = centre - _REACH_DAYS + int(np.nanargmax(window))
            found |= {(day - 1, column), (day, column)}
    pairs = np.array(sorted(pair for pair in found if pair[0] < before), dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def _usual(values: Floats) -> Floats:
    return pd.DataFrame(values).rolling(60, min_periods=40).median().shift(10).to_numpy()


def _labels(market: Market, days: Ints, columns: Ints, *, skip: int) -> Floats:
    return np.column_stack(
        [log_volatility_after(market, days, columns, window, skip=skip) for window in HORIZONS_DAYS]
    )


def _filled(table: pd.DataFrame, median: pd.Series) -> Floats:
    names = list(HAR_COLUMNS)
    own = table[names].ffill(axis=1).bfill(axis=1)
    filled = table.assign(**{name: own[name] for name in names}).fillna(median)
    return filled.to_numpy(np.float64)
