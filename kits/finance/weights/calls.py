"""The MAEC earnings calls of 2015-16 with prices-only features, target and roles.

Roles, by the published splits (Li et al. 2020, MAEC; splits of KeFVP, Niu et al. 2023):
"train" = MAEC-15 and MAEC-16 train; "selection" = both dev splits (epoch, seed, ridge);
"linkage" = MAEC-15 test (weight of the text, which nothing else has seen); "test" =
MAEC-16 test, later than all others and evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import MissingInputError
from kits.finance.disclosures.language import make_passages
from kits.finance.disclosures.sentences import sentence_spans

__all__ = ["ROLES", "SPLITS", "TARGET", "WINDOWS_DAYS", "CallSet", "read_calls", "read_passages"]

SPLITS = {
    "maec15_train": "train",
    "maec16_train": "train",
    "maec15_dev": "selection",
    "maec16_dev": "selection",
    "maec15_test": "linkage",
    "maec16_test": "test",
}
ROLES = ("train", "selection", "linkage", "test")
# The 30 returns that follow the close of the call's day, the reaction to it included: what
# an analyst who reads the call that evening faces, and what `price_features` leads up to.
TARGET = "react_future_30"
WINDOWS_DAYS = (3, 7, 15, 30, 60, 120, 250)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CallSet:
    """Calls in the order of their dates.

    Args:
        call_id: `(n,)` YYYYMMDD_TICKER.
        ticker: `(n,)`.
        day: `(n,)` datetime64[D].
        role: `(n,)`, one of `ROLES`.
        features: `(n, 7)` past log-volatilities over `WINDOWS_DAYS`.
        target: `(n,)` log-volatility of the next 30 days.
        text: One transcript per call.
    """

    call_id: npt.NDArray[np.str_]
    ticker: npt.NDArray[np.str_]
    day: npt.NDArray[np.datetime64]
    role: npt.NDArray[np.str_]
    features: FloatArray
    target: FloatArray
    text: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.call_id)

    def in_role(self, role: str) -> npt.NDArray[np.int64]:
        """Returns the row numbers of the calls in `role`."""
        return np.flatnonzero(self.role == role)

    def at(self, rows: npt.NDArray[np.int64]) -> CallSet:
        """Returns the calls in `rows`, in that order."""
        names = ("call_id", "ticker", "day", "role", "features", "target")
        chosen = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **chosen, text=tuple(self.text[row] for row in rows))

    def first(self, n: int) -> CallSet:
        """Returns the first `n` calls of each role, for a quick trial."""
        return self.at(np.sort(np.concatenate([self.in_role(role)[:n] for role in ROLES])))


def read_calls(data: Path) -> CallSet:
    """Reads the calls that have prices for every feature and the target.

    Args:
        data: The folder of open data sets; the calls lie in `finance/maec_calls`.

    Raises:
        MissingInputError: A file of the set is absent.
    """
    folder = data / "finance" / "maec_calls"
    names = ["calls_text.parquet", "derived_labels_from_prices.csv.gz"]
    names += [f"{split}_labels.csv.gz" for split in SPLITS]
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise MissingInputError(
            "MAEC calls",
            expected=f"{len(names)} files in finance/maec_calls",
            found=f"no {', '.join(absent)}",
            remedy="Set --data to the folder of the open data sets.",
        )
    roles = {
        call_id: role
        for split, role in SPLITS.items()
        for call_id in pd.read_csv(folder / f"{split}_labels.csv.gz")["text_file_name"]
    }
    labels = pd.read_csv(folder / names[1])
    texts = pd.read_parquet(folder / names[0], columns=["call_id", "text"])
    table = labels.merge(texts, on="call_id", validate="one_to_one")
    table["role"] = table["call_id"].map(roles)
    columns = [f"past_lv_{window}" for window in WINDOWS_DAYS]
    table = table.dropna(subset=["role", TARGET, *columns]).sort_values(["date", "call_id"])
    return CallSet(
        call_id=table["call_id"].to_numpy(dtype=str),
        ticker=table["ticker"].to_numpy(dtype=str),
        day=pd.to_datetime(table["date"]).to_numpy().astype("datetime64[D]"),
        role=table["role"].to_numpy(dtype=str),
        features=table[columns].to_numpy(dtype=np.float64),
        target=table[TARGET].to_numpy(dtype=np.float64),
        text=tuple(table["text"]),
    )


def read_passages(
    text: str, count_tokens: Callable[[Sequence[str]], list[int]], max_tokens: int
) -> list[str]:
    """Returns a transcript's passages, cut as `kits.finance.disclosures.language` cuts them."""
    spans = sentence_spans(text, 0, len(text), lines_may_wrap=True)
    passages = make_passages(text, spans, count_tokens, max_tokens)
    return [text[start:end] for start, end in passages]
