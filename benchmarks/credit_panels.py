"""The open credit panels as `CreditPanel`s: read, freed of what may not be used, grouped.

Left out of every model, ours and the others': the outcome's copies, identifiers, and what lending
law forbids or a bank would have to defend (sex, marital status, age, nationality: ECOA, 12 CFR
1002.6). Published figures that use them are not comparable to that extent.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import MissingInputError
from kits.finance.risk.credit_panel import CreditPanel, Table, duplicate_groups

__all__ = ["PANELS", "panel_digest", "read_panel"]

_BY_CONTENT = "row hash: no time or company in the panel; equal rows on one side"
_BY_COMPANY = "company (CIK hash) and time: unseen companies, from the first test day on"

_TAIWAN_LEFT_OUT = ("ID", "Default", "SEX", "MARRIAGE", "AGE")
_GERMAN_LEFT_OUT = ("creditability", "personal_status_and_sex", "age_in_years", "foreign_worker")
_RATINGS_USED = slice(9, None)  # the ratios; sector and agency would say what they already know


def read_panel(name: str, folder: Path) -> CreditPanel:
    """Reads a panel by name.

    Args:
        name: One of `PANELS`.
        folder: Folder of the open data sets.

    Raises:
        MissingInputError: The file is not there.
    """
    path = _file(name, folder)
    return PANELS[name][1](name, path)


def panel_digest(name: str, folder: Path) -> str:
    """Returns the sha256 of the panel's file."""
    return sha256(_file(name, folder).read_bytes()).hexdigest()


def _file(name: str, folder: Path) -> Path:
    path = folder / "finance" / PANELS[name][0]
    if not path.is_file():
        raise MissingInputError(
            f"credit panel {name}",
            expected="its file in the folder of open data sets",
            found="no such file",
            remedy="Set TANDEM_DATA to that folder, or pass --data.",
        )
    return path


def _taiwan(name: str, path: Path) -> CreditPanel:
    """30,000 card holders, October 2005: default in the next month (Yeh and Lien 2009)."""
    frame = pd.read_csv(path)
    default = frame["Default"].to_numpy() == 1
    # 0, 5 and 6 are in no codebook: they stay levels of their own
    frame["EDUCATION"] = frame["EDUCATION"].astype(str)
    return _by_content(name, _table(frame.drop(columns=list(_TAIWAN_LEFT_OUT))), default)


def _german(name: str, path: Path) -> CreditPanel:
    """1,000 loans; bad were drawn more often than they occur. Known coding errors (SOURCE.md)."""
    frame = pd.read_csv(path, keep_default_na=False)
    default = frame["creditability"].to_numpy() == "bad"
    return _by_content(name, _table(frame.drop(columns=list(_GERMAN_LEFT_OUT))), default)


def _hmeq(name: str, path: Path) -> CreditPanel:
    """5,960 home equity loans; missing values say much."""
    frame = pd.read_csv(path)
    default = frame["BAD"].to_numpy() == 1
    return _by_content(name, _table(frame.drop(columns=["BAD"])), default)


def _polish(name: str, path: Path) -> CreditPanel:
    """Polish manufacturers, 64 ratios: bankrupt after 5 years ("1year") or 1 year ("5year")."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    names = [line.split("'")[1] for line in lines if line.lower().startswith("@attribute '")]
    start = next(i for i, line in enumerate(lines) if line.lower().startswith("@data")) + 1
    rows = [line.split(",") for line in lines[start:] if line.strip()]
    cells = np.array([[np.nan if c == "?" else float(c) for c in row] for row in rows])
    # two ratios carry the same caption in the source
    columns = {f"{i + 1} {caption}": cells[:, i] for i, caption in enumerate(names)}
    return _by_content(name, columns, cells[:, -1] == 1)


def _ratings(name: str, path: Path) -> CreditPanel:
    """7,805 ratings of 2010-16 with 16 ratios: below investment grade or not."""
    frame = pd.read_csv(path)
    cik = frame["CIK"].astype(str).to_numpy(dtype=np.str_)
    day = pd.to_datetime(frame["Rating Date"], format="%m/%d/%Y").to_numpy()
    return CreditPanel(
        name=name,
        columns=_table(frame[frame.columns[_RATINGS_USED]]),
        default=frame["Binary Rating"].to_numpy() == 0,
        group=cik,
        day=day.astype("datetime64[D]"),
        split_rule=_BY_COMPANY,
    )


def _by_content(name: str, columns: Table, default: npt.NDArray[np.bool_]) -> CreditPanel:
    return CreditPanel(name, columns, default, duplicate_groups(columns), None, _BY_CONTENT)


def _table(frame: pd.DataFrame) -> Table:
    return {
        str(column): (
            values.to_numpy(dtype=np.float64)
            if pd.api.types.is_numeric_dtype(values)
            else values.fillna("").astype(str).to_numpy(dtype=np.str_)
        )
        for column, values in frame.items()
    }


# Name -> file below finance/, and how it is read.
PANELS: Mapping[str, tuple[str, Callable[[str, Path], CreditPanel]]] = MappingProxyType(
    {
        "taiwan_default": ("credit/taiwan_default.csv.gz", _taiwan),
        "german_credit": ("credit/german_credit.csv.gz", _german),
        "hmeq": ("credit/hmeq.csv.gz", _hmeq),
        "polish_1year": ("credit/polish_1year.arff.gz", _polish),
        "polish_5year": ("credit/polish_5year.arff.gz", _polish),
        "ratings": ("ratings/corporate_ratings_ratios_7805.csv.gz", _ratings),
    }
)
