"""A portfolio is assessed whole: bad companies are listed, equal input gives equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest

from common.errors import DeadlineError, InputError
from common.request import new_request, serving
from common.routing.cache import ResultCache
from kits.finance.batch import RESULT_FILES, assess_portfolio
from kits.finance.holdings import read_holdings
from kits.finance.pipeline import assess
from kits.finance.tasks import open_router
from tests.kits.finance.companies import write_company

LINES = (
    "ticker,document,prices,weight,currency\n"
    "ABC,call.txt,prices.csv,2,USD\n"
    "GONE,missing.txt,prices.csv,1,USD\n"
    "XYZ,call.txt,prices.csv,1,EUR\n"
    "NONE,call.txt,prices.csv,1,USD\n"
    "TXT,call.txt,,1,USD\n"
)


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    cache = ResultCache(tmp_path_factory.mktemp("cache"))
    yield open_router(cache=cache)
    cache.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("portfolio")
    write_company(path, "ABC", "XYZ")
    (path / "portfolio.csv").write_text(LINES)
    return path


@pytest.fixture(scope="module")
def twice(folder, router):
    """The same portfolio, run two times."""
    holdings = read_holdings(folder / "portfolio.csv")
    outs = [folder / "first", folder / "second"]
    tables = [assess_portfolio(holdings, out=out, router=router) for out in outs]
    return tables[0], outs


def test_one_bad_company_does_not_stop_the_rest(twice) -> None:
    table, _ = twice
    assert [row.ticker for row in table.assessed] == ["ABC", "XYZ", "TXT"]
    assert [row.ticker for row in table.failed] == ["GONE", "NONE"]
    assert all("expected" in row.failure for row in table.failed)
    assert len(table.notes) == 5  # currencies, without prices, failures, sums, no whole


def test_every_result_is_written_and_nothing_else(twice) -> None:
    table, (out, _) = twice
    assert sorted(p.name for p in out.iterdir()) == ["companies", *RESULT_FILES]
    for row in table.assessed:
        assert (out / row.report).is_file()
        assert (out / row.report).with_name("assessment.json").is_file()
    assert len(list((out / "companies").iterdir())) == 3
    assert pq.read_table(out / "portfolio.parquet").num_rows == 5
    assert openpyxl.load_workbook(out / "portfolio.xlsx")["Companies"].max_row == 6


def test_a_company_has_the_figures_that_it_has_alone(twice, folder, router) -> None:
    table, (out, _) = twice
    alone = assess(
        folder / "call.txt",
        ticker="ABC",
        prices=folder / "prices.csv",
        out=folder / "alone",
        router=router,
    )
    assert table.rows[0].assessment.to_json() == alone.to_json()
    written = json.loads((out / "portfolio.json").read_text())
    assert written["companies"][0]["score"] == alone.score


def test_equal_input_gives_equal_bytes_times_apart(twice) -> None:
    _, (first, second) = twice
    files = [p.relative_to(first) for p in first.rglob("*") if p.is_file()]
    assert len(files) >= 4 + 2 * 3
    for name in files:
        if name.name == "record.json":  # tells of the run: times, and digests of files with times
            continue
        one, two = (first / name).read_bytes(), (second / name).read_bytes()
        if name.suffix == ".json":
            one, two = ({**json.loads(text), "run": None} for text in (one, two))
        assert one == two, name


def test_an_earlier_portfolio_is_replaced_whole(twice, folder, router) -> None:
    _, (_, out) = twice
    (one,) = read_holdings(folder / "portfolio.csv")[4:]
    assess_portfolio([one], out=out, router=router)
    assert [p.name for p in (out / "companies").iterdir()] == ["0006-TXT"]


@pytest.mark.parametrize("name", ["note.txt", "portfolio.json"])
def test_a_folder_with_other_files_is_refused(folder, router, tmp_path: Path, name) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(InputError, match="output folder"):
        assess_portfolio(read_holdings(folder / "portfolio.csv"), out=tmp_path, router=router)
    assert (tmp_path / "other.txt").read_text() == "mine"


def test_companies_of_one_currency_and_day_have_a_var_together(folder, router, tmp_path) -> None:
    (folder / "one.csv").write_text(
        "ticker,document,prices,weight\nABC,call.txt,prices.csv,3\nXYZ,call.txt,prices.csv,1\n"
    )
    out = tmp_path / "out"
    table = assess_portfolio(read_holdings(folder / "one.csv"), out=out, router=router)
    written = json.loads((out / "portfolio.json").read_text())
    parts = [one["component_es"] for one in written["companies"]]
    assert sum(parts) == pytest.approx(written["summary"]["expected_shortfall"])
    assert written["summary"]["value_at_risk"] == table.risk.value_at_risk
    assert "One-day VaR together" in (out / "dashboard.html").read_text()


def test_a_run_that_is_given_up_leaves_nothing(folder, router, tmp_path: Path) -> None:
    request = new_request()

    def give_up(done: int, _total: int) -> None:
        if done == 1:
            request.give_up()

    with serving(request), pytest.raises(DeadlineError):
        assess_portfolio(
            read_holdings(folder / "portfolio.csv"),
            out=tmp_path / "out",
            router=router,
            progress=give_up,
        )
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_from_nothing_to_all(folder, router, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    holdings = read_holdings(folder / "portfolio.csv")[4:]
    assess_portfolio(
        holdings,
        out=tmp_path / "out",
        router=router,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(0, 1), (1, 1)]


def test_nothing_of_the_companies_is_logged(folder, router, tmp_path: Path, caplog) -> None:
    caplog.set_level("DEBUG")
    holdings = read_holdings(folder / "portfolio.csv")
    assess_portfolio(holdings[1:2] + holdings[4:], out=tmp_path / "out", router=router)
    assert not any(word in caplog.text for word in ("GONE", "TXT", "missing.txt", "call.txt"))
