"""What rows of daily prices must and should be: faults that are refused, findings that are noted.

Rows are a frame with `date` (days) and `close`, and where the table has them `open`, `high`,
`low`, `currency` and `split`, oldest first; what could not be read is NaT or NaN.
"""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import pandas as pd

from common.errors import StaleDataError, TableError

__all__ = [
    "MAXIMUM_GAP_DAYS",
    "MINIMUM_ROWS",
    "calendar_notes",
    "contradictory_bars",
    "quote_notes",
    "refuse_faults",
]

MINIMUM_ROWS = 500
"""Rows up to the as-of date below which a GARCH fit on daily data is not attempted."""

MAXIMUM_GAP_DAYS = 10
"""Calendar days between two rows that may pass; the closure of September 2001 lasted seven."""

_CURRENCY = re.compile(r"[A-Za-z]{3}")
_LONG_RUN = 5  # equal closes in a row that a traded share seldom shows
_LONG_GAP_DAYS = 5  # a weekend with two holidays
_MOST_MISSING = 0.06  # of weekdays; exchanges close on about 4%
_SPIKE = 0.3  # of a move in ln price that the next day takes back


def refuse_faults(
    rows: pd.DataFrame, ticker: str, *, as_of: date | None, maximum_age_days: int
) -> None:
    """Raises one error that lists every fault of the rows.

    Checks: dates and closes parse; closes are positive; dates rise strictly; no gap is longer
    than `MAXIMUM_GAP_DAYS`; there are `MINIMUM_ROWS` rows; closes move; splits are ratios; one
    currency; the last is recent.

    Args:
        rows: Parsed, with what cannot be read as NaN or NaT.
        ticker: For the message.
        as_of: The day of the forecast, or None.
        maximum_age_days: Calendar days that the last price may precede it.

    Raises:
        StaleDataError: The last price is too old, and nothing else is wrong.
        TableError: The rows are faulty.
    """
    faults = [*_faults(rows), *_currency_faults(rows)]
    if not faults:
        faults += _still_quotes(rows["close"].tail(MINIMUM_ROWS // 2))
    stale = _staleness(rows, as_of, maximum_age_days)
    if stale and not faults:
        raise StaleDataError(
            f"prices of {ticker}",
            expected=f"a last price at most {maximum_age_days} days before {as_of}",
            found=stale,
            remedy="Give prices that reach the as-of date, or name an as-of date they reach.",
        )
    if faults or stale:
        raise TableError(
            f"prices of {ticker}",
            expected=f"at least {MINIMUM_ROWS} rows of positive closes, one a trading day, "
            f"oldest first, without gaps of more than {MAXIMUM_GAP_DAYS} days",
            found="; ".join([*faults, *([stale] if stale else [])]),
            remedy="Correct or drop these rows, sort by date as YYYY-MM-DD, fill gaps from the "
            "source or start the file after them.",
        )


def _faults(rows: pd.DataFrame) -> list[str]:
    dates, close = rows["date"], rows["close"]
    steps_days = dates.dropna().diff().dt.days
    counts = {
        "rows whose date is not a day as YYYY-MM-DD": dates.isna().sum(),
        "rows whose close is not a number": close.isna().sum(),
        "rows with a close of zero or less": (close <= 0).sum(),
        "rows with a date that occurs more than once": dates.dropna().duplicated().sum(),
        "rows dated before the row above them": (steps_days < 0).sum(),
    }
    if "split" in rows:
        wrong = rows["split"].isna() | (rows["split"] <= 0)
        counts["rows whose split is not a ratio above zero"] = wrong.sum()
    faults = [f"{count} {words}" for words, count in counts.items() if count]
    gaps = steps_days[steps_days > MAXIMUM_GAP_DAYS]
    if len(gaps) and not (steps_days < 0).any():
        noun = "gap" if len(gaps) == 1 else "gaps"
        faults.append(
            f"{len(gaps)} {noun} of more than {MAXIMUM_GAP_DAYS} days (the longest "
            f"{gaps.max():.0f} days, the last ending {dates[gaps.index[-1]]:%Y-%m-%d})"
        )
    if len(rows) < MINIMUM_ROWS:
        faults.append(f"{len(rows)} rows up to the as-of date")
    return faults


def _currency_faults(rows: pd.DataFrame) -> list[str]:
    if "currency" not in rows or rows.empty:
        return []
    found = sorted(set(rows["currency"]))
    if len(found) > 1:
        return [f"rows in {len(found)} currencies"]
    return [] if _CURRENCY.fullmatch(found[0]) else ["a currency that is no code of three letters"]


def _still_quotes(latest: pd.Series) -> list[str]:
    if latest.nunique() == 1:
        return [f"the same close on each of the last {len(latest)} rows"]
    still = int((latest.diff() == 0).sum())
    if still > len(latest) / 2:
        return [f"a close equal to the day before on {still} of the last {len(latest)} rows"]
    return []


def _staleness(rows: pd.DataFrame, as_of: date | None, maximum_age_days: int) -> str:
    last = rows["date"].max()
    if as_of is None or pd.isna(last):
        return ""
    age_days = (pd.Timestamp(as_of.isoformat()[:10]) - last).days
    return (
        f"a last price of {last:%Y-%m-%d}, {age_days} days before it"
        if age_days > maximum_age_days
        else ""
    )


def contradictory_bars(bars: pd.DataFrame, close: pd.Series) -> pd.Series:
    """Returns which days' bars are absent in part or cannot have happened."""
    slack = 1e-6 * close  # prices stored as float32 differ by less
    there = bars.loc[:, bars.notna().any()]
    broken = (there.isna() | (there <= 0)).any(axis=1)
    for inner in (bars["open"], close):
        broken |= (inner > bars["high"] + slack) | (inner < bars["low"] - slack)
    return broken | (bars["high"] < bars["low"])


def quote_notes(rows: pd.DataFrame) -> list[str]:
    """Returns what the closes make doubtful: standing quotes, and jumps that come back."""
    close, dates = rows["close"].reset_index(drop=True), rows["date"].reset_index(drop=True)
    found = []
    runs = (close.diff() != 0).cumsum()
    lengths = runs.map(runs.value_counts())
    long = lengths[lengths >= _LONG_RUN]
    if len(long):
        n_runs, longest = runs[long.index].nunique(), int(long.max())
        found.append(
            f"{n_runs} {_noun('run', n_runs)} of {_LONG_RUN} or more equal closes, the longest "
            f"{longest} rows up to {dates[long.index[long == longest][-1]]:%Y-%m-%d}: days without "
            "trade look calmer than they were."
        )
    moves = np.log(close).diff()
    back = (moves.abs() > _SPIKE) & ((moves + moves.shift(-1)).abs() < 0.1 * moves.abs())
    if back.any():
        n = int(back.sum())
        found.append(
            f"{n} {_noun('close', n)} jumped by more than {_SPIKE:.0%} and came back the next day, "
            f"the last on {dates[back[back].index[-1]]:%Y-%m-%d}: check for errors of quotation."
        )
    return found


def calendar_notes(rows: pd.DataFrame) -> list[str]:
    """Returns how the days differ from those of one exchange; a day ahead is always a row."""
    dates = rows["date"].to_numpy().astype("datetime64[D]")
    weekday = np.is_busday(dates)
    found = []
    if not weekday.all():
        n = int((~weekday).sum())
        found.append(
            f"{n} {_noun('row', n)} on Saturdays or Sundays: a day of the forecast is a row of the "
            "table, not a trading day of an exchange."
        )
    expected = int(np.busday_count(dates[0], dates[-1])) + int(weekday[-1])
    missing = expected - int(weekday.sum())
    if missing > _MOST_MISSING * expected:
        found.append(
            f"{missing} of {expected} weekdays have no price ({missing / expected:.0%}, exchanges "
            "close on about 4%): a return over such a gap counts as one day's."
        )
    steps = np.diff(dates).astype(int)
    gaps = int((steps > _LONG_GAP_DAYS).sum())
    if gaps:
        found.append(
            f"{gaps} {_noun('gap', gaps)} of {_LONG_GAP_DAYS + 1} to {MAXIMUM_GAP_DAYS} days "
            f"between rows, the longest {steps.max()} days."
        )
    return found


def _noun(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
