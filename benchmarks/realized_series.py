"""The realized-variance series of `finance.realized`, in percent squared a day.

What each file lacks is stated: the Dow Jones has no quarticity; the S&P 500 and SPY take the VIX
of the day, S&P 500 takes its returns from an index file by date.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import MissingInputError

__all__ = ["RealizedSeries", "read_series"]

Floats = npt.NDArray[np.float64]

_RM = "finance/realized_vol"
_FORECAST = "finance/forecast_series"
_FILES = {
    "SP500RM": f"{_RM}/SP500RM.csv.gz",
    "DJIRM": f"{_RM}/DJIRM.csv.gz",
    "SPYRM": f"{_RM}/SPYRM.csv.gz",
    "index": f"{_FORECAST}/skfolio_sp500_index.csv.gz",
    "vix": f"{_FORECAST}/vix_daily_cboe.csv.gz",
}
_PERCENT_SQUARED = 1e4
_TRADING_DAYS = 252


@dataclass(frozen=True, eq=False)
class RealizedSeries:
    """One series; every array is `(T,)`, oldest first, known at the end of its day.

    Args:
        name: Of the asset.
        dates: `datetime64[D]`, as the file has them.
        variance: Realized variance, percent squared.
        returns: Log return from the close before, percent.
        quarticity: Realized quarticity, up to a constant factor; None where the file has none.
        implied: Square of the VIX at the close, per day; None where it is of another asset.
    """

    name: str
    dates: npt.NDArray[np.datetime64]
    variance: Floats
    returns: Floats
    quarticity: Floats | None
    implied: Floats | None


def read_series(folder: Path) -> tuple[list[RealizedSeries], dict[str, str]]:
    """Returns S&P 500, Dow Jones and SPY, and the sha256 of each file that was read.

    Raises:
        MissingInputError: A file is not there.
    """
    missing = [path for path in _FILES.values() if not (folder / path).is_file()]
    if missing:
        raise MissingInputError(
            "open data sets",
            expected=", ".join(missing),
            found=f"{len(missing)} of {len(_FILES)} files absent",
            remedy="Name their folder by --data or TANDEM_DATA; `tandem data list` tells the rest.",
        )
    tables = {name: pd.read_csv(folder / path) for name, path in _FILES.items()}
    digests = {
        Path(path).name: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in _FILES.values()
    }
    vix = _by_date(tables["vix"], "DATE", "CLOSE")
    implied = vix**2 / _TRADING_DAYS
    return [
        _sp500(tables["SP500RM"], tables["index"], implied),
        _dow_jones(tables["DJIRM"]),
        _spy(tables["SPYRM"], implied),
    ], digests


def _sp500(table: pd.DataFrame, index: pd.DataFrame, implied: pd.Series) -> RealizedSeries:
    dates = pd.DatetimeIndex(table["date"])
    close = _by_date(index, index.columns[0], index.columns[1])
    before = close[close.index < dates[0]].iloc[[-1]]
    on_days = np.concatenate([before, close.reindex(dates, method="ffill")])
    return RealizedSeries(
        name="S&P 500",
        dates=dates.to_numpy().astype("datetime64[D]"),
        variance=table["RV"].to_numpy(np.float64),
        returns=100 * np.diff(np.log(on_days)),
        quarticity=table["RQ"].to_numpy(np.float64),
        implied=implied.reindex(dates, method="ffill").to_numpy(np.float64),
    )


def _dow_jones(table: pd.DataFrame) -> RealizedSeries:
    """The first day has no return and is left out."""
    close = table["close_price"].to_numpy(np.float64)
    return RealizedSeries(
        name="Dow Jones",
        dates=pd.DatetimeIndex(table["date"]).to_numpy().astype("datetime64[D]")[1:],
        variance=_PERCENT_SQUARED * table["rv5"].to_numpy(np.float64)[1:],
        returns=100 * np.diff(np.log(close)),
        quarticity=None,
        implied=None,
    )


def _spy(table: pd.DataFrame, implied: pd.Series) -> RealizedSeries:
    """The first day has no return and is left out.

    The file's column RQ5 grows as RV5 to the power 0.97, so it is of the unit of a root of the
    quarticity: it is squared.
    """
    dates = pd.DatetimeIndex(table["DT"])[1:]
    return RealizedSeries(
        name="SPY",
        dates=dates.to_numpy().astype("datetime64[D]"),
        variance=_PERCENT_SQUARED * table["RV5"].to_numpy(np.float64)[1:],
        returns=100 * np.diff(np.log(table["CLOSE"].to_numpy(np.float64))),
        quarticity=table["RQ5"].to_numpy(np.float64)[1:] ** 2,
        implied=implied.reindex(dates, method="ffill").to_numpy(np.float64),
    )


def _by_date(table: pd.DataFrame, date: str, value: str) -> pd.Series:
    return pd.Series(table[value].to_numpy(np.float64), index=pd.DatetimeIndex(table[date]))
