"""What prices say on the evening of a call, as one row of numbers for a company and day.

Everything is read from rows dated up to that day. Arrays of a market are `(T, N)`: trading
days, oldest first, by companies; NaN where a company has no row. The formulas are those of
`kits.finance.markets.volatility`, for all companies at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "FEATURES_HAR",
    "Market",
    "PriceFeatures",
    "log_volatility_after",
    "market_returns",
    "read_market",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEATURES_HAR = (3, 7, 15, 30, 60, 120, 250)  # days, as the label file's past_lv columns
_N_PEERS = 15
_PEER_DAYS = 250
_LEAST_SHARE = 0.8  # of a window's days that must have a value
_LEAST_MOVE = 1e-4  # a standard deviation below one basis point a day is a stale quote
_QUARTER_DAYS = 63  # trading days


@dataclass(frozen=True)
class Market:
    """Daily bars of many companies, the market's own and the VIX.

    Args:
        days: `(T,)` datetime64[D].
        tickers: Position of each company in the second axis.
        open: `(T, N)`, and so are `high`, `low`, `close` and `volume`.
        vix: `(T,)` closing VIX in percent a year.
        index: `(T, 4)` open, high, low and close of the S&P 500.
    """

    days: npt.NDArray[np.datetime64]
    tickers: Mapping[str, int]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vix: Floats
    index: Floats

    def at(self, day: npt.NDArray[np.datetime64]) -> Ints:
        """Returns the position of the last trading day up to each `day`."""
        return np.searchsorted(self.days, day, side="right") - 1


def read_market(finance: Path) -> Market:
    """Reads `us_prices` and `forecast_series` below `finance`."""
    rows = pd.read_parquet(finance / "us_prices" / "prices_2010_2017.parquet")
    rows = rows[rows["close"] > 0]
    rows["ticker"] = rows["ticker"].astype(str)
    days = np.sort(rows["date"].unique())
    names = np.sort(rows["ticker"].unique())
    at = (np.searchsorted(days, rows["date"]), np.searchsorted(names, rows["ticker"]))
    table = {}
    for name in ("open", "high", "low", "close", "volume"):
        table[name] = np.full((len(days), len(names)), np.nan)
        table[name][at] = rows[name].to_numpy(np.float64)
    series = finance / "forecast_series"
    return Market(
        days=days.astype("datetime64[D]"),
        tickers={str(name): column for column, name in enumerate(names)},
        vix=_on_days(series / "vix_daily_cboe.csv.gz", ["CLOSE"], days)[:, 0],
        index=_on_days(series / "arch_sp500.csv.gz", ["Open", "High", "Low", "Close"], days),
        **table,
    )


def _on_days(path: Path, columns: list[str], days: npt.NDArray[np.datetime64]) -> Floats:
    """Returns a daily series on `days`; a day without a value has the one before it."""
    table = pd.read_csv(path)
    dates = table[next(name for name in table if str(name).lower() == "date")]
    table = table.set_index(pd.to_datetime(dates)).sort_index()[columns]
    return table.reindex(pd.DatetimeIndex(days), method="ffill").to_numpy(np.float64)


def log_volatility_after(
    market: Market, row: Ints, column: Ints, window: int, *, skip: int
) -> Floats:
    """Returns the label of MAEC: log-volatility after each day, around the 30 days' mean.

    It looks ahead. `skip` is 1 for MAEC's label, which leaves out the first return (the
    reaction to the call), 0 to begin with it and to use the window's own mean.
    """
    returns = market_returns(market.close)
    n = np.full(len(row), np.nan)
    last = row + skip + (30 if skip else window)
    for i in np.flatnonzero(last < len(returns)):
        ahead = returns[row[i] + 1 + skip : row[i] + 1 + skip + 30, column[i]]
        within = ahead[:window]
        mean = ahead.mean() if skip else within.mean()
        squared = np.mean((within - mean) ** 2)
        if np.isfinite(squared) and squared > 0:
            n[i] = 0.5 * np.log(squared)
    return n


class PriceFeatures:
    """Features of every company on every day, worked out once and read where they are asked for.

    Args:
        market: The bars. A day's features read no later day.
    """

    def __init__(self, market: Market) -> None:
        self._day = _Days(market)
        self._own: dict[str, npt.NDArray[np.float32]] = {}
        for group in (_own_volatility, _bars, _trading, _quarters):
            for name, values in group(self._day).items():
                self._own[name] = values.astype(np.float32)
        self._common = _whole_market(self._day)

    def at(self, row: Ints, column: Ints) -> pd.DataFrame:
        """Returns one line of features for each pair of day and company, `(n, n_features)`.

        Args:
            row: `(n,)` positions of days.
            column: `(n,)` positions of companies.
        """
        found = {name: values[row, column].astype(float) for name, values in self._own.items()}
        found |= {name: series[row] for name, series in self._common.items()}
        found |= _peers(self._day, row, column)
        days = self._day.market.days[row]
        angle = 2 * np.pi * (days - days.astype("datetime64[Y]")).astype(float) / 365.25
        found |= {"year_sine": np.sin(angle), "year_cosine": np.cos(angle)}
        return pd.DataFrame(found)


class _Days:
    """Arrays that several groups of features share."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.returns = np.clip(market_returns(market.close), -0.5, 0.5)
        previous = pd.DataFrame(market.close).ffill().shift(1).to_numpy()
        usable = (
            (market.open > 0)
            & (market.low > 0)
            & (market.high >= np.maximum(market.open, market.close) * (1 - 1e-6))
            & (market.low <= np.minimum(market.open, market.close) * (1 + 1e-6))
        )
        bars = [np.where(usable, bar, np.nan) for bar in (market.open, market.high, market.low)]
        opened, high, low = bars
        with np.errstate(invalid="ignore", divide="ignore"):
            self.overnight = np.log(opened / previous) ** 2
            session = 0.5 * np.log(high / low) ** 2
            session -= (2 * np.log(2) - 1) * np.log(market.close / opened) ** 2
        self.session = np.maximum(session, 0.0)
        whole = self.overnight + self.session
        self.variance = np.where(np.isfinite(whole), whole, self.returns**2)
        self.usual = _root_log(_mean(self.variance, 60))  # log-volatility of the last quarter


def _own_volatility(day: _Days) -> dict[str, Floats]:
    found = {f"past_{w}": _log_deviation(day.returns, w) for w in (*FEATURES_HAR, 5, 10, 22)}
    size = np.abs(day.returns)
    for window in (5, 10, 22, 60, 120, 250):
        found[f"mean_size_{window}"] = _log(_mean(size, window))
    for window in (22, 60, 120, 250):
        middle = pd.DataFrame(size).rolling(window, min_periods=int(_LEAST_SHARE * window)).median()
        found[f"median_size_{window}"] = _log(middle.to_numpy())
    for window in (60, 250):
        calm = np.minimum(size, 3 * np.exp(found[f"median_size_{window}"]))
        found[f"calm_{window}"] = _root_log(_mean(calm**2, window))
    return found


def _bars(day: _Days) -> dict[str, Floats]:
    found = {
        f"range_{w}": _root_log(_mean(day.session, w)) for w in (1, 3, 5, 10, 22, 60, 120, 250)
    }
    return found | {f"night_{w}": _root_log(_mean(day.overnight, w)) for w in (22, 60, 250)}


def _trading(day: _Days) -> dict[str, Floats]:
    close, volume = day.market.close, day.market.volume
    dollars = np.log(np.maximum(close * volume, 1.0))
    usual = _mean(dollars, 60)
    deviation = np.exp(day.usual)
    return {
        "log_dollars": usual,
        "log_price": np.log(close),
        "dollars_today": dollars - usual,
        "dollars_week": _mean(dollars, 5) - usual,
        "move_today": day.returns / deviation,
        "size_today": np.abs(day.returns) / deviation,
        "return_22": _mean(day.returns, 22) / deviation,
        "return_250": _mean(day.returns, 250) / deviation,
    }


def _quarters(day: _Days) -> dict[str, Floats]:
    """Volatility in the 30 days after the calls of earlier quarters, about 63 days apart."""
    size = np.abs(day.returns)
    month = _log(_mean(size, 22))
    sessions = _root_log(_mean(day.session, 22))
    found = {}
    for quarter in (1, 2, 4):
        back = _QUARTER_DAYS * quarter - 27
        found[f"quarter_{quarter}"] = _shift(month, back)
        found[f"quarter_range_{quarter}"] = _shift(sessions, back)
    return found


def _whole_market(day: _Days) -> dict[str, Floats]:
    market = day.market
    vix = np.log(market.vix)[:, None]
    opened, high, low, close = market.index.T
    returns = np.diff(np.log(close), prepend=np.nan)[:, None]
    session = 0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * np.log(close / opened) ** 2
    session = np.maximum(session, 1e-8)[:, None]
    found = {"vix": vix, "vix_5": _mean(vix, 5), "vix_22": _mean(vix, 22), "vix_60": _mean(vix, 60)}
    for window in (5, 22, 60, 250):
        found[f"index_{window}"] = _log_deviation(returns, window)
        found[f"index_range_{window}"] = _root_log(_mean(session, window))
    found["index_return_5"] = _mean(returns, 5)
    found["index_return_22"] = _mean(returns, 22)
    for window in (1, 5, 22, 60):
        sizes = _log(_mean(np.abs(day.returns), window))
        found[f"crowd_{window}"] = np.nanmedian(sizes, axis=1, keepdims=True)
    return {name: series[:, 0] for name, series in found.items()}


def _peers(day: _Days, row: Ints, column: Ints) -> dict[str, Floats]:
    """Returns the volatility of the companies whose returns go with a company's most.

    Correlations are those of the last 250 days' returns less the mean of all companies.
    """
    week = _root_log(_mean(day.variance, 5))
    month = _root_log(_mean(day.variance, 22))
    found = {name: np.full(len(row), np.nan) for name in ("peers_5", "peers_22", "own_share")}
    for at in np.unique(row):
        here = row == at
        past = day.returns[max(0, at - _PEER_DAYS + 1) : at + 1]
        past = np.where(np.isfinite(past), past, 0.0)
        apart = past - past.mean(axis=1, keepdims=True)
        scale = np.sqrt((apart**2).sum(axis=0)) + 1e-12
        wanted = column[here]
        together = (apart[:, wanted] / scale[wanted]).T @ (apart / scale)
        together[np.arange(len(wanted)), wanted] = -np.inf
        together[:, ~np.isfinite(month[at])] = -np.inf
        nearest = np.argpartition(-together, _N_PEERS, axis=1)[:, :_N_PEERS]
        found["peers_5"][here] = np.nanmean(week[at][nearest], axis=1)
        found["peers_22"][here] = np.nanmean(month[at][nearest], axis=1)
        total = np.sqrt((past**2).sum(axis=0)) + 1e-12
        found["own_share"][here] = np.log(scale[wanted] / total[wanted])
    return found


def market_returns(close: Floats) -> Floats:
    """Returns simple returns from a company's last close to this one, NaN on the first."""
    previous = pd.DataFrame(close).ffill().shift(1).to_numpy()
    return np.asarray(close / previous - 1.0)


def _mean(values: Floats, window: int) -> Floats:
    """Returns the mean of the last `window` values that are there, NaN where too few are."""
    there = np.isfinite(values)
    sums = np.cumsum(np.where(there, values, 0.0), axis=0)
    counts = np.cumsum(there, axis=0).astype(np.float64)
    sums[window:] -= sums[:-window].copy()
    counts[window:] -= counts[:-window].copy()
    enough = counts >= max(1.0, _LEAST_SHARE * window)
    return np.where(enough, sums / np.maximum(counts, 1.0), np.nan)


def _log_deviation(returns: Floats, window: int) -> Floats:
    mean = _mean(returns, window)
    return _root_log(_mean(returns**2, window) - mean**2)


def _root_log(variance: Floats) -> Floats:
    return 0.5 * np.log(np.maximum(variance, _LEAST_MOVE**2))


def _log(size: Floats) -> Floats:
    return np.log(np.maximum(size, _LEAST_MOVE))


def _shift(values: Floats, days: int) -> Floats:
    moved = np.full_like(values, np.nan)
    moved[days:] = values[:-days]
    return moved
