"""The calls of MAEC-15 and MAEC-16 with their published splits, and two labels for each horizon.

"published" is KeFVP's label: it leaves out the first return after the call (the reaction) and
measures around the mean of 30 days. "reaction" begins with that return, around the
window's own mean; it is rebuilt from closes, and the calls without closes lack it (NaN). The
shipped `past_k` columns run backwards and are not used, but for `past_0`, the 30 days' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import MissingInputError

__all__ = ["DATASETS", "HORIZONS_DAYS", "Label", "LinkedCalls", "data_digests", "read_linked_calls"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Label = Literal["published", "reaction"]
DATASETS = {"MAEC-15": "maec15", "MAEC-16": "maec16"}
HORIZONS_DAYS = (3, 7, 15, 30)
_SPLITS = ("train", "dev", "test")
_FILES = ("calls_text.parquet", "derived_labels_from_prices.csv.gz")
_PRICE_FILES = (
    "us_prices/prices_2010_2017.parquet",
    "forecast_series/vix_daily_cboe.csv.gz",
    "forecast_series/arch_sp500.csv.gz",
)


@dataclass(frozen=True, eq=False)
class LinkedCalls:
    """Calls of one set in the order of train, dev, test, by date in each.

    Args:
        dataset: "MAEC-15" or "MAEC-16".
        call_id: `(n,)` YYYYMMDD_TICKER.
        ticker: `(n,)`.
        day: `(n,)` datetime64[D].
        split: `(n,)`, "train", "dev" or "test".
        labels: For each kind `(n, 4)` log-volatility after the call, NaN where there is none.
        past_30: `(n,)` shipped log-volatility of the 30 days up to the call.
        text: One transcript for each.
    """

    dataset: str
    call_id: npt.NDArray[np.str_]
    ticker: npt.NDArray[np.str_]
    day: npt.NDArray[np.datetime64]
    split: npt.NDArray[np.str_]
    labels: Mapping[Label, Floats]
    past_30: Floats
    text: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.call_id)

    def rows(self, split: str, label: Label = "published") -> Ints:
        """Returns the rows of a split that have the label."""
        there = np.isfinite(self.labels[label]).all(axis=1)
        return np.flatnonzero((self.split == split) & there)

    def first(self, n: Mapping[str, int]) -> LinkedCalls:
        """Returns the first calls of each split, for a look."""
        rows = np.concatenate(
            [np.flatnonzero(self.split == split)[:most] for split, most in n.items()]
        )
        arrays = {
            name: getattr(self, name)[rows]
            for name in ("call_id", "ticker", "day", "split", "past_30")
        }
        labels: dict[Label, Floats] = {kind: y[rows] for kind, y in self.labels.items()}
        return replace(self, **arrays, labels=labels, text=tuple(self.text[row] for row in rows))

    def before_embargo(self, days: int) -> Ints:
        """Returns train and dev rows at least `days` before the first test call, by date."""
        first = self.day[self.split == "test"].min()
        early = (self.split != "test") & (self.day <= first - np.timedelta64(days, "D"))
        return np.flatnonzero(early)

    def unseen(self) -> npt.NDArray[np.bool_]:
        """Returns which rows' companies have no call in train or dev, `(n,)`."""
        return ~np.isin(self.ticker, self.ticker[self.split != "test"])


def read_linked_calls(data: Path) -> tuple[LinkedCalls, ...]:
    """Reads both sets.

    Raises:
        MissingInputError: A file is absent.
    """
    finance = data / "finance"
    absent = [name for name in _needed() if not (finance / name).is_file()]
    if absent:
        raise MissingInputError(
            "MAEC calls and prices",
            expected=f"{len(_needed())} files below finance",
            found=f"no {', '.join(absent)}",
            remedy="Set --data or TANDEM_DATA to the folder of the open data sets.",
        )
    folder = finance / "maec_calls"
    texts = pd.read_parquet(folder / _FILES[0], columns=["call_id", "text"])
    rebuilt = pd.read_csv(folder / _FILES[1]).drop(columns=["ticker", "date"])
    joined = texts.merge(rebuilt, on="call_id", how="left", validate="one_to_one")
    return tuple(_read_set(folder, name, joined) for name in DATASETS)


def data_digests(data: Path) -> dict[str, str]:
    """Returns the sha256 of each file that is read."""
    return {
        f"finance/{name}": sha256((data / "finance" / name).read_bytes()).hexdigest()
        for name in _needed()
    }


def _needed() -> Sequence[str]:
    labels = [
        f"maec_calls/{key}_{split}_labels.csv.gz" for key in DATASETS.values() for split in _SPLITS
    ]
    return [*(f"maec_calls/{name}" for name in _FILES), *labels, *_PRICE_FILES]


def _read_set(folder: Path, dataset: str, joined: pd.DataFrame) -> LinkedCalls:
    parts = []
    for split in _SPLITS:
        part = pd.read_csv(folder / f"{DATASETS[dataset]}_{split}_labels.csv.gz")
        parts.append(part.assign(split=split).sort_values("text_file_name"))
    table = pd.concat(parts).merge(
        joined, left_on="text_file_name", right_on="call_id", how="left", validate="one_to_one"
    )
    names = table["text_file_name"].to_numpy(dtype=str)
    published = table[[f"future_{w}" for w in HORIZONS_DAYS]].to_numpy(np.float64)
    reaction = table[[f"react_future_{w}" for w in HORIZONS_DAYS]].to_numpy(np.float64)
    days = [f"{name[:4]}-{name[4:6]}-{name[6:8]}" for name in names]
    return LinkedCalls(
        dataset=dataset,
        call_id=names,
        ticker=np.array([name[9:] for name in names]),
        day=np.array(days, dtype="datetime64[D]"),
        split=table["split"].to_numpy(dtype=str),
        labels={"published": published, "reaction": reaction},
        past_30=table["past_0"].to_numpy(np.float64),
        text=tuple(table["text"]),
    )
