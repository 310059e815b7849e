"""The finance commands: what they write, what they print, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kits.cli import main
from tests.kits.finance.companies import write_company

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: (status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tandem", "finance", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize("verb", ["assess", "backtest", "card", "portfolio", "replay"])
def test_help_of_each_verb_answers(run: Run, verb: str) -> None:
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert "Usage" in out


def test_a_portfolio_lists_the_riskiest_first_and_who_failed(run: Run, tmp_path: Path) -> None:
    write_company(tmp_path, "CALM", "WILD")
    (tmp_path / "portfolio.csv").write_text(
        "ticker,document,prices\n"
        "CALM,call.txt,prices.csv\nWILD,call.txt,prices.csv\nGONE,none.txt,prices.csv\n"
    )
    status, out, err = run("portfolio", tmp_path / "portfolio.csv", "--out", tmp_path / "out")
    assert status == 0
    assert out.index("WILD") < out.index("CALM") < out.index("not assessed: line 4, GONE")
    assert "3/3" in err, "the progress bar"
    assert (tmp_path / "out" / "dashboard.html").is_file()


def test_a_portfolio_of_which_nothing_can_be_assessed_ends_with_1(run: Run, tmp_path) -> None:
    (tmp_path / "portfolio.csv").write_text("ticker,document\nGONE,none.txt\n")
    asked = ("portfolio", tmp_path / "portfolio.csv", "--out", tmp_path / "out")
    status, out, _ = run(*asked)
    assert status == 1
    assert "not assessed: line 2" in out
    status, out, _ = run(*asked, "--json")
    assert (status, json.loads(out)["summary"]["n_failed"]) == (1, 1)
    assert (tmp_path / "out" / "portfolio.xlsx").is_file()


def test_a_faulty_portfolio_ends_with_2_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "portfolio.csv").write_text("ticker,document,weight\nA,a.txt,x\n,b.txt,1\n")
    status, _, err = run("portfolio", tmp_path / "portfolio.csv", "--out", tmp_path / "out")
    assert status == 2
    assert "line 2: weight" in err.replace("\n", " ")
    assert "line 3: ticker" in err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_backtest_prints_each_test_and_the_same_as_json(run: Run, tmp_path: Path) -> None:
    write_company(tmp_path, "ABC")
    asked = ("backtest", "--prices", tmp_path / "prices.csv", "--level", 0.95, "--days", 250)
    status, out, _ = run(*asked, "--method", "historical")
    assert status == 0
    assert "Kupiec proportion of failures: " in out
    _, printed, _ = run(*asked, "--method", "historical", "--json")
    written = json.loads(printed)
    assert f"{written['n_exceptions']} of 250 days lost more (12.5 expected)" in out
    assert written["ticker"] == "ABC"


def test_a_backtest_needs_to_know_which_ticker_and_a_known_method(run: Run, tmp_path) -> None:
    write_company(tmp_path, "ABC", "XYZ")
    status, _, err = run("backtest", "--prices", tmp_path / "prices.csv")
    assert status == 2
    assert "Name the ticker" in err
    asked = ("backtest", "--prices", tmp_path / "prices.csv", "--ticker", "ABC")
    assert run(*asked, "--method", "crystal-ball")[0] == 2


def test_an_assessment_is_replayed_to_the_same_bytes_and_a_changed_input_is_told(
    run, tmp_path
) -> None:
    call, prices = write_company(tmp_path, "ABC")
    out = tmp_path / "out"
    assert run("assess", call, "--prices", prices, "--ticker", "ABC", "--out", out)[0] == 0
    status, printed, _ = run("replay", out)
    assert (status, printed.splitlines()[0]) == (0, "identical: every file came out byte for byte")
    prices.write_text(prices.read_text() + "ABC,2099-01-01,1\n")
    status, printed, _ = run("replay", out, "--json")
    assert status == 1
    assert any(one["kind"] == "input" for one in json.loads(printed)["differences"])


@pytest.mark.slow
def test_inputs_that_were_kept_are_found_when_the_files_are_gone(run: Run, tmp_path) -> None:
    call, prices = write_company(tmp_path, "ABC")
    out = tmp_path / "out"
    asked = ("assess", call, "--prices", prices, "--ticker", "ABC", "--out", out)
    assert run(*asked, "--keep")[0] == 0
    call.unlink()
    prices.unlink()
    assert run("replay", out)[0] == 0


def test_the_card_is_written_as_a_page_and_as_markdown(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("card", "--out", tmp_path / "card")
    assert status == 0
    names = sorted(path.name for path in (tmp_path / "card").iterdir())
    assert names == ["model_card.html", "model_card.md"]
    assert all(name in out.replace("\n", "") for name in names)
