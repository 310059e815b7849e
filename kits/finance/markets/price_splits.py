"""Splits: declared ones are brought across, undeclared ones that the closes suggest are noted."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["bring_across_splits", "split_notes"]

_USUAL = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
_NEAR = 0.02  # of the ratio: what a share moves on the day of its split
_NEAR_SMALL = 0.005  # for 3 to 2, which a bad day reaches as well
_LARGE_MOVE = 0.5


def bring_across_splits(rows: pd.DataFrame) -> tuple[pd.DataFrame, str, list[str]]:
    """Divides the prices before each declared split by its ratio, where that was not done yet.

    A file that declares splits may hold raw closes or adjusted ones; the close of the day says
    which: it is nearer to the day before's divided by the ratio, or to it as it is. Adjusted
    closes are left alone.

    Returns:
        The rows, what `close` is now, and notes.
    """
    if "adjusted_close" in rows:
        return rows, "adjusted close", []
    if "split" not in rows or not (rows["split"] != 1).any():
        return rows, "close", []
    moves = np.log(rows["close"]).diff().to_numpy()
    ratios = rows["split"].to_numpy(np.float64)
    raw = [
        at
        for at in np.flatnonzero(ratios != 1.0)
        if at and abs(moves[at] + np.log(ratios[at])) < abs(moves[at])
    ]
    if not raw:
        return rows, "close", []
    divisor = np.ones(len(rows))
    for at in raw:
        divisor[:at] *= ratios[at]
    brought = rows.copy()
    for name in {"open", "high", "low", "close"} & set(rows.columns):
        brought[name] = rows[name] / divisor
    days = ", ".join(f"{rows['date'].iloc[at]:%Y-%m-%d} ({ratios[at]:g} for 1)" for at in raw)
    return brought, "close brought across splits", [f"Closes brought across splits: {days}."]


def split_notes(rows: pd.DataFrame, basis: str) -> list[str]:
    """Returns the days whose close looks like an undeclared split, and the count of large moves."""
    close = rows["close"].to_numpy(np.float64)
    dates = rows["date"].to_numpy().astype("datetime64[D]")
    ratios = close[:-1] / close[1:]
    found = []
    if basis == "close":
        usual = np.array([*_USUAL, *(1.0 / ratio for ratio in _USUAL)])
        nearest = usual[np.abs(np.log(ratios[:, None] / usual[None, :])).argmin(axis=1)]
        near = np.where(np.abs(np.log(nearest)) < np.log(2.0), _NEAR_SMALL, _NEAR)
        suspects = np.flatnonzero(np.abs(ratios / nearest - 1.0) < near)
        if len(suspects):
            words = [f"{dates[at + 1]} ({_ratio_words(nearest[at])})" for at in suspects[-3:]]
            found.append(
                f"{len(suspects)} daily move(s) look like splits: {', '.join(words)}; give closes "
                "that are adjusted for splits, or a column split, if they are."
            )
    jumps = int((np.abs(close[1:] / close[:-1] - 1.0) > _LARGE_MOVE).sum())
    if jumps:
        found.append(
            f"{jumps} daily moves of more than 50%: check that the closes are adjusted for splits."
        )
    return found


def _ratio_words(ratio: float) -> str:
    return f"{ratio:g} for 1" if ratio > 1 else f"1 for {1 / ratio:g}"
