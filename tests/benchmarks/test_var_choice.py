"""The choice of `finance.var`'s method looks at other series than it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.var_choice import _series, choose
from kits.finance.risk.methods import METHODS


def test_no_series_of_the_test_is_among_those_of_the_choice(tandem_data: Path) -> None:
    series = dict(_series(tandem_data))
    assert len(series) == 14
    folder = tandem_data / "finance" / "forecast_series"
    stocks = pd.read_csv(folder / "skfolio_sp500_20stocks.csv.gz")
    assert not set(series) & set(stocks.columns)
    tested = np.diff(np.log(pd.read_csv(folder / "arch_sp500.csv.gz")["Adj Close"].to_numpy()))
    old = series["S&P 500, 1971-1998"]
    assert not np.isin(np.round(old[-200:], 6), np.round(tested[:200], 6)).mean() > 0.05


@pytest.mark.slow
def test_candidates_are_all_means_of_the_members(tandem_data: Path) -> None:
    table = choose(tandem_data, n_series=1)
    n = len(METHODS["evt-ensemble"].members)
    assert table["members"].nunique() == 2**n - 1
    first = table.iloc[0]
    assert (first["members"], first["pinball, evt = 1"]) == ("evt", 1.0)
