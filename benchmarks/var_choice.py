"""`python -m benchmarks.var_choice`: which method `finance.var` was to use, on other series.

None of the series of `finance.var` is looked at: the S&P 500 of 1971 to 1998 (before the
test's first day), seven exchange rates from 1990 on (without China's, which was pegged) and
six FTSE 100 shares of 2000 to 2023, whose calendar overlaps with that of the test. Every
candidate is read from the same estimations: all means of the three Pareto methods, each with
several steps of the level.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kits.finance.markets.losses import pinball_loss
from kits.finance.risk.backtests import conditional_coverage, kupiec
from kits.finance.risk.methods import METHODS
from kits.finance.risk.rolling import RollingFilters, roll_filters

__all__ = ["choose"]

Floats = npt.NDArray[np.float64]

LEVEL = 0.99
STEPS = (0.0, 0.0002, 0.0005, 0.001)
PEGGED = 4  # column of the Chinese yuan
SHARES = slice(2, None, 6)  # every sixth column; those with gaps are passed over


def choose(data: Path, *, n_series: int | None = None) -> pd.DataFrame:
    """Returns a row for each candidate: series passing, exception share, relative pinball.

    Args:
        data: Folder of the open data sets.
        n_series: The first so many series alone, for a look.
    """
    rolled = []
    for name, returns in list(_series(data))[:n_series]:
        sys.stderr.write(f"{name}: {len(returns)} returns\n")
        rolled.append(roll_filters(returns, method="evt-ensemble"))
    names = METHODS["evt-ensemble"].members
    rows = []
    base = [_pinball(_only(filters, (0,)), 0.0) for filters in rolled]  # "evt", level fixed
    for count in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), count):
            for step in STEPS:
                measured = [_measure(_only(filters, chosen), step) for filters in rolled]
                passing, share, score = np.mean(
                    [(m[0], m[1], m[2] / b) for m, b in zip(measured, base, strict=True)], axis=0
                )
                members = "+".join(names[at] for at in chosen)
                rows.append((members, step, passing, share, score))
    columns = ["members", "level step", "series passing", "exception share", "pinball, evt = 1"]
    return pd.DataFrame(rows, columns=columns)


def _only(filters: RollingFilters, chosen: tuple[int, ...]) -> RollingFilters:
    return replace(filters, members=tuple(filters.members[at] for at in chosen))


def _measure(filters: RollingFilters, step: float) -> tuple[bool, float, float]:
    rolled = filters.tail_risk(level=LEVEL, level_step=step)
    tests = [test(rolled.exceptions, level=LEVEL) for test in (kupiec, conditional_coverage)]
    score = pinball_loss(rolled.losses, rolled.value_at_risk, level=LEVEL).mean()
    return min(t.p_value for t in tests) > 0.05, float(rolled.exceptions.mean()), float(score)


def _pinball(filters: RollingFilters, step: float) -> float:
    return _measure(filters, step)[2]


def _series(data: Path) -> Iterator[tuple[str, Floats]]:
    folder = data / "finance" / "forecast_series"
    old = pd.read_csv(data / "finance" / "realized_vol" / "mfgarch_sp500_1971_2018.csv.gz")
    before = old[pd.to_datetime(old["date"]) < pd.Timestamp("1999-01-04")]["return"].dropna()
    yield "S&P 500, 1971-1998", before.to_numpy(np.float64) / 100
    rates = pd.read_csv(folder / "exchange_rate.txt.gz", header=None)
    for column, values in enumerate(rates.to_numpy(np.float64).T):
        returns = np.diff(np.log(values))
        if column != PEGGED:
            yield f"exchange rate {column}", returns[returns != 0]  # holidays are filled in
    shares = pd.read_csv(folder / "skfolio_ftse100.csv.gz").iloc[:, SHARES].dropna(axis=1)
    for name in shares.columns[:6]:
        yield name, np.diff(np.log(shares[name].to_numpy(np.float64)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.var_choice")
    parser.add_argument("--data", type=Path, required=True, help="folder of the open data sets")
    table = choose(parser.parse_args().data)
    sys.stdout.write(table.to_string(index=False, float_format="{:.4f}".format) + "\n")
