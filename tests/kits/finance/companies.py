"""A made company: an earnings call and 700 days of prices, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["CALL", "price_csv", "write_company"]

CALL = "Good morning. " + " ".join(
    f"Revenue grew in region {i} and margins fell. We may not recover the cost of plant {i}."
    for i in range(12)
)


def price_csv(*tickers: str, rows: int = 700) -> str:
    """The text of a price file with a random walk for each ticker."""
    frames = []
    for number, ticker in enumerate(tickers):
        rng = np.random.default_rng(number)
        close = 100 * np.exp(np.cumsum(rng.standard_t(6, rows) * 0.008 * (1 + number)))
        dates = pd.bdate_range("2014-01-01", periods=rows)
        frames.append(pd.DataFrame({"ticker": ticker, "date": dates, "close": close}))
    return pd.concat(frames).to_csv(index=False)


def write_company(folder: Path, *tickers: str) -> tuple[Path, Path]:
    """Writes call and prices; returns where they lie."""
    (folder / "call.txt").write_text(CALL, encoding="utf-8")
    (folder / "prices.csv").write_text(price_csv(*tickers), encoding="utf-8")
    return folder / "call.txt", folder / "prices.csv"
