"""Daily prices of one or many tickers, read from CSV or Parquet and checked once.

A table is long (`ticker, date, open, high, low, close, volume`) or has no ticker column and
then belongs to the ticker that is asked for. Column names are compared without case, blanks
and underscores; `date` and `close` (or `adj close`) are needed. Axis: every array of a
history is `(T,)`, oldest first.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import MissingInputError, TableError
from common.task import digest_of
from kits.finance.markets.price_checks import (
    MAXIMUM_GAP_DAYS,
    MINIMUM_ROWS,
    calendar_notes,
    contradictory_bars,
    quote_notes,
    refuse_faults,
)
from kits.finance.markets.price_splits import bring_across_splits, split_notes

__all__ = [
    "MAXIMUM_GAP_DAYS",
    "MINIMUM_ROWS",
    "PriceHistory",
    "PriceTable",
    "read_prices",
]

Floats = npt.NDArray[np.float64]

_COLUMN_NAMES: Mapping[str, str] = {
    "ticker": "ticker",
    "symbol": "ticker",
    "date": "date",
    "datetime": "date",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "adjclose": "adjusted_close",
    "adjustedclose": "adjusted_close",
    "currency": "currency",
    "split": "split",
    "splits": "split",
    "stocksplits": "split",
    "splitratio": "split",
}


@dataclass(frozen=True, eq=False)
class PriceHistory:
    """The checked prices of one ticker up to one date.

    Args:
        ticker: The ticker, in upper case.
        dates: `(T,)` strictly rising, `datetime64[D]`.
        close: `(T,)` positive, finite; adjusted where the table has adjusted closes.
        open: `(T,)` on the basis of `close`, or None where the table has no such column;
            NaN on days whose bar contradicts itself. So are `high` and `low`.
        high: See `open`.
        low: See `open`.
        notes: What was found and is no fault, in words for a report.
        currency: As the table names it ("USD", "GBp"); None where it does not.
        basis: What `close` is: "adjusted close", "close", or "close brought across splits".
    """

    ticker: str
    dates: npt.NDArray[np.datetime64]
    close: Floats
    open: Floats | None = None
    high: Floats | None = None
    low: Floats | None = None
    notes: tuple[str, ...] = ()
    currency: str | None = None
    basis: str = "close"
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        pieces = [self.ticker.encode()]
        for name in ("dates", "close", "open", "high", "low"):
            array = getattr(self, name)
            if array is not None:
                array = np.array(array, dtype="datetime64[D]" if name == "dates" else np.float64)
                array.setflags(write=False)
                object.__setattr__(self, name, array)
                pieces += [name.encode(), array.tobytes()]
        if self.currency is not None:
            pieces.append(self.currency.encode())
        object.__setattr__(self, "digest", digest_of(*pieces))

    @property
    def last_date(self) -> date:
        """The date of the last price."""
        return date.fromisoformat(str(self.dates[-1]))

    def part(self, rows: slice) -> PriceHistory:
        """Returns the history of these rows alone, with the same notes."""
        bars = (None if bar is None else bar[rows] for bar in (self.open, self.high, self.low))
        opening, high, low = bars
        return replace(
            self,
            dates=self.dates[rows],
            close=self.close[rows],
            open=opening,
            high=high,
            low=low,
        )


@dataclass(frozen=True, eq=False)
class PriceTable:
    """The rows of a price file, by ticker; a ticker's rows are checked when it is asked for.

    Args:
        rows: Columns of `date`, `close` and what else there is of `_COLUMN_NAMES`, unparsed.
        positions: Ticker in upper case to its row numbers; None when the file names no ticker.
    """

    rows: pd.DataFrame
    positions: Mapping[str, npt.NDArray[np.intp]] | None

    def history(
        self, ticker: str, *, as_of: date | None = None, maximum_age_days: int = 10
    ) -> PriceHistory:
        """Returns the ticker's history; rows after `as_of` are cut before anything else.

        Args:
            ticker: Compared without case; it names the rows of a file without a ticker column.
            as_of: The last date that may be known; None takes every row and checks no age.
            maximum_age_days: Calendar days that the last price may precede `as_of`.

        Raises:
            StaleDataError: The last price is older than that, and nothing else is wrong.
            TableError: The ticker is unknown or its rows are faulty; all faults are listed.
        """
        name = ticker.strip().upper()
        rows = _parse(self._rows_of(name))
        notes: list[str] = []
        if as_of is not None:
            later = rows["date"] > pd.Timestamp(as_of.isoformat()[:10])
            rows = rows[~later]
            if later.any():
                notes.append(f"{later.sum()} price rows after {as_of} were left out.")
        refuse_faults(rows, name, as_of=as_of, maximum_age_days=maximum_age_days)
        return _build(rows, name, notes)

    def _rows_of(self, name: str) -> pd.DataFrame:
        if self.positions is None:
            return self.rows
        if name not in self.positions:
            close = difflib.get_close_matches(name, list(self.positions), n=3)
            meant = f"Did you mean {' or '.join(close)}? " if close else ""
            raise TableError(
                "price table",
                expected=f"rows of ticker {name}",
                found=f"{len(self.positions)} other tickers",
                remedy=f"{meant}Name a ticker that the file has, or give another file.",
            )
        return self.rows.iloc[self.positions[name]]


def read_prices(path: Path) -> PriceTable:
    """Returns the price table in a CSV (also compressed) or Parquet file.

    Only the columns are checked here: a fault in a ticker's rows matters to who asks for it.

    Raises:
        MissingInputError: There is no such file.
        TableError: The file cannot be read, or a needed column is absent or twice there.
    """
    if not path.is_file():
        raise MissingInputError(
            "price table",
            expected="a CSV or Parquet file",
            found="no file of that name",
            remedy="Check the path given for the prices.",
        )
    rows = _rename(_read_frame(path))
    if "ticker" not in rows:
        return PriceTable(rows=rows, positions=None)
    names = rows["ticker"].astype(str).str.strip().str.upper()
    groups = rows.groupby(names.to_numpy(), sort=True).indices
    positions = {str(name): np.asarray(at, dtype=np.intp) for name, at in groups.items()}
    return PriceTable(rows=rows, positions=positions)


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame = pd.read_parquet(path)
            return frame if frame.index.name is None else frame.reset_index()
        # As text: pandas would take the tickers NA and TRUE for something else.
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pyarrow's and pandas' errors derive from these
        raise TableError(
            "price table",
            expected="a comma-separated UTF-8 text with a header line, or a Parquet file",
            found=f"a file that raises {type(error).__name__}",
            remedy="Export the prices again; Parquet files end in .parquet.",
        ) from error


def _rename(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [str(c).lower().replace(" ", "").replace("_", "") for c in frame.columns]
    known = [(at, _COLUMN_NAMES[key]) for at, key in enumerate(keys) if key in _COLUMN_NAMES]
    names = [name for _, name in known]
    faults = [f"two columns for {name}" for name in sorted(set(names)) if names.count(name) > 1]
    if "date" not in names:
        faults.append("no column date")
    if not {"close", "adjusted_close"} & set(names):
        faults.append("no column close")
    if not len(frame):
        faults.append("no rows")
    if faults:
        raise TableError(
            "price table",
            expected="columns date and close, and if there ticker, open, high, low, adj close",
            found="; ".join(faults),
            remedy="Name each column once in the header line and separate them by commas.",
        )
    return frame.iloc[:, [at for at, _ in known]].set_axis(names, axis=1)


def _parse(raw: pd.DataFrame) -> pd.DataFrame:
    """Returns dates as days and prices as float64; what cannot be parsed becomes NaT or NaN."""
    parsed = {"date": _parse_dates(raw["date"])}
    for name in ("open", "high", "low", "close", "adjusted_close"):
        if name in raw:
            parsed[name] = _parse_numbers(raw[name])
    if "currency" in raw:
        parsed["currency"] = raw["currency"].astype(str).str.strip()
    if "split" in raw:
        parsed["split"] = _parse_splits(raw["split"])
    rows = pd.DataFrame(parsed)
    if "adjusted_close" not in rows:
        return rows
    if "close" in rows:  # one basis for the whole bar
        factor = rows["adjusted_close"] / rows["close"].where(rows["close"] > 0)
        for name in {"open", "high", "low"} & set(rows.columns):
            rows[name] = rows[name] * factor
    else:  # a raw bar beside an adjusted close cannot be brought onto one basis
        rows = rows.drop(columns=["open", "high", "low"], errors="ignore")
    return rows.assign(close=rows["adjusted_close"])


def _parse_numbers(column: pd.Series) -> pd.Series:
    finite = np.isfinite(pd.to_numeric(column, errors="coerce").astype(np.float64))
    # Only NumPy's own cast rounds a text to the nearest float64; `to_numeric` may be one off.
    return column.where(finite).astype(object).where(finite, np.nan).astype(np.float64)


def _parse_splits(column: pd.Series) -> pd.Series:
    """Returns new shares for one old; 1 on days without a split, NaN where it cannot be read."""
    blank = column.isna() | (column.astype(str).str.strip() == "")
    ratios = _parse_numbers(column.where(~blank, 1.0))
    return ratios.where(ratios != 0, 1.0)  # exporters write 0 for no split


def _parse_dates(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)  # the day at the exchange, not in UTC
    if not pd.api.types.is_datetime64_any_dtype(column):
        # One format: 03/04/2015 is March to some and April to others. A time may follow.
        column = pd.to_datetime(column.astype(str).str[:10], format="%Y-%m-%d", errors="coerce")
    return column.astype("datetime64[us]").dt.normalize()


def _build(rows: pd.DataFrame, ticker: str, notes: list[str]) -> PriceHistory:
    rows, basis, split_words = bring_across_splits(rows)
    notes += split_words
    bars = rows.reindex(columns=["open", "high", "low"])
    absent = [name for name in bars if name not in rows]
    broken = contradictory_bars(bars, rows["close"])
    if broken.any() and len(absent) < len(bars.columns):
        notes.append(
            f"{broken.sum()} of {len(rows)} daily bars contradict themselves (a zero or missing "
            "price, or an open or close outside low to high); those days use the closes alone."
        )
    notes += [*split_notes(rows, basis), *quote_notes(rows), *calendar_notes(rows)]
    usable = bars.mask(broken)

    def column(name: str) -> Floats | None:
        return None if name in absent else usable[name].to_numpy(np.float64)

    return PriceHistory(
        ticker=ticker,
        dates=rows["date"].to_numpy().astype("datetime64[D]"),
        close=rows["close"].to_numpy(np.float64),
        open=column("open"),
        high=column("high"),
        low=column("low"),
        notes=tuple(notes),
        currency=str(rows["currency"].iloc[0]) if "currency" in rows else None,
        basis=basis,
    )
