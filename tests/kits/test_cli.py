"""Unusable input ends with status 2 and a remedy, and leaves nothing behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kits.cli import main

CALL = "Good morning. " + " ".join(
    f"Revenue grew in region {i} and margins fell." for i in range(40)
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: (status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tandem", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def call_file(tmp_path: Path) -> Path:
    path = tmp_path / "call.txt"
    path.write_text(CALL, encoding="utf-8")
    return path


def message(stderr: str) -> str:
    return re.sub(r"\s+", " ", stderr[stderr.index("tandem: ") :])


def prices_csv(folder: Path, *, rows: int = 600, change: Callable | None = None) -> Path:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    dates = pd.bdate_range("2014-01-01", periods=rows)
    table = pd.DataFrame({"ticker": "ABC", "date": dates, "close": close})
    path = folder / "prices.csv"
    (change(table) if change else table).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("verb", ["demo", "finance", "medical"])
def test_help_of_each_verb_answers(run: Run, verb: str) -> None:
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert "Usage" in out


def test_a_missing_document_is_named(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _, stderr = run(
        "finance", "assess", tmp_path / "no.html", "--ticker", "X", "--out", out
    )
    assert status == 2
    assert "expected" in message(stderr)
    assert "found" in message(stderr)
    assert not out.exists()


def test_an_empty_document_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    status, _, _ = run(
        "finance", "assess", tmp_path / "empty.txt", "--ticker", "X", "--out", tmp_path / "out"
    )
    assert status == 2
    assert not (tmp_path / "out").exists()


def _negative(table):
    table.loc[5, "close"] = -1.0
    return table


def _twice(table):
    import pandas as pd

    return pd.concat([table.iloc[:10], table.iloc[9:]])


@pytest.mark.parametrize(
    "change",
    [
        _negative,
        _twice,
        lambda table: table.iloc[::-1],
        lambda table: table.iloc[:300],
        lambda table: table.drop(index=range(100, 160)),
        lambda table: table.drop(columns="close"),
    ],
    ids=["negative close", "duplicate", "unsorted", "too few rows", "gap", "no close"],
)
def test_faulty_prices_are_refused(run: Run, call_file: Path, tmp_path: Path, change) -> None:
    prices = prices_csv(tmp_path, change=change)
    out = tmp_path / "out"
    status, _, stderr = run(
        "finance", "assess", call_file, "--prices", prices, "--ticker", "ABC", "--out", out
    )
    assert status == 2, stderr
    assert not out.exists()


def test_an_unknown_ticker_and_stale_prices_are_refused(
    run: Run, call_file: Path, tmp_path: Path
) -> None:
    prices = prices_csv(tmp_path)
    common = ("finance", "assess", call_file, "--prices", prices, "--out", tmp_path / "out")
    assert run(*common, "--ticker", "ABD")[0] == 2
    status, _, stderr = run(*common, "--ticker", "ABC", "--as-of", "2020-01-01")
    assert status == 2
    assert "stale" in message(stderr) or "old" in message(stderr) or "days" in message(stderr)
    assert not (tmp_path / "out").exists()


def test_json_goes_to_standard_output_alone(run: Run, call_file: Path, tmp_path: Path) -> None:
    status, out, _ = run(
        "finance", "assess", call_file, "--ticker", "ABC", "--out", tmp_path / "out", "--json"
    )
    assert status == 0
    written = json.loads(out)
    assert written == json.loads((tmp_path / "out" / "assessment.json").read_text())
    assert written["market"] is None


def test_a_folder_without_dicom_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    status, _, stderr = run("medical", "read", tmp_path / "in", "--out", tmp_path / "out")
    assert status == 2
    assert "notes.txt" not in stderr, "file names can hold patients' names"
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_refused(run: Run, tmp_path: Path) -> None:
    status, _, _ = run("medical", "read", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert status == 2


def test_a_report_in_an_unknown_encoding_is_refused(run: Run, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    report = tmp_path / "report.txt"
    report.write_bytes("Kein Rundherd, keine Ergüsse.".encode("latin-1"))
    status, _, stderr = run(
        "medical",
        "read",
        get_testdata_file("CT_small.dcm"),
        "--report",
        report,
        "--out",
        tmp_path / "out",
    )
    assert status == 2
    assert "UTF-8" in message(stderr)
    assert not (tmp_path / "out").exists()
