"""A real assessment that tests share: the bundled annual report, and prices of package arch."""

from __future__ import annotations

from importlib.resources import files

import pytest

from kits.finance.pipeline import assess
from kits.finance.tasks import open_router

TICKER = "SP500"


@pytest.fixture(scope="session")
def bundled_inputs(tmp_path_factory):
    """The two files that the assessment reads."""
    from arch.data import sp500

    folder = tmp_path_factory.mktemp("inputs")
    (folder / "annual_report.html").write_bytes(
        files("kits").joinpath("demo_inputs", "annual_report.html").read_bytes()
    )
    table = sp500.load().rename(columns=str.lower).iloc[-1500:]
    table.insert(0, "ticker", TICKER)
    columns = ["ticker", "open", "high", "low", "close", "volume"]
    table[columns].to_csv(folder / "sp500.csv", index_label="date", date_format="%Y-%m-%d")
    return folder


@pytest.fixture(scope="session")
def text_router():
    """The kit's own text model, without a cache."""
    with open_router(cache=None) as routes:
        yield routes


@pytest.fixture(scope="session")
def assessed(bundled_inputs, text_router, tmp_path_factory):
    """The folder that an assessment was written to; never written to again."""
    out = tmp_path_factory.mktemp("assessed") / "out"
    assess(
        bundled_inputs / "annual_report.html",
        prices=bundled_inputs / "sp500.csv",
        ticker=TICKER,
        out=out,
        router=text_router,
    )
    return out
