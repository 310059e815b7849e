"""A portfolio's file is checked once, and every fault of it is told with its line."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MissingInputError, TableError
from kits.finance.holdings import COLUMNS, holdings_of, read_holdings

HEADER = ",".join(COLUMNS) + "\n"


def read(text: str):
    return holdings_of(text, locate=Path)


def test_columns_may_come_in_any_order_and_case_and_blank_lines_are_skipped() -> None:
    (one, two) = read("Document,TICKER\ncall.txt,abc\n\n other.txt , brk.b \n")
    assert (one.ticker, one.document, one.line) == ("ABC", Path("call.txt"), 2)
    assert (two.ticker, two.document, two.line) == ("BRK.B", Path("other.txt"), 4)
    assert one.prices is one.as_of is None
    assert one.weight == two.weight == 0.5


def test_weights_become_shares() -> None:
    rows = read(HEADER + "A,a.txt,p.csv,3,2016-01-05,USD\nB,b.txt,,1,,\n")
    assert [row.weight for row in rows] == [0.75, 0.25]
    assert rows[0].as_of == date(2016, 1, 5)
    assert rows[0].currency == "USD"


def test_paths_are_read_from_the_files_own_folder(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("ticker,document,prices\nA,docs/a.txt,/srv/p.csv\n")
    (row,) = read_holdings(tmp_path / "p.csv")
    assert row.document == tmp_path / "docs" / "a.txt"
    assert row.prices == Path("/srv/p.csv")


def test_all_faults_are_told_at_once_by_line_and_without_their_values() -> None:
    text = HEADER + (
        "=SECRET(),a.txt,,1,,USD\n"
        "B,,,1,,\n"
        "C,c.txt,,-1,,\n"
        "D,d.txt,,1,05.01.2016,\n"
        "E,e.txt,,1,2016-02-30,dollars\n"
        "F,f.txt\n"
        "G,g.txt,,,,\n"
        "g,g.txt,,1,,\n"
    )
    with pytest.raises(TableError) as refused:
        read(text)
    told = refused.value.found
    for line in (2, 3, 4, 5, 6, 7, 9):
        assert f"line {line}:" in told
    for column in ("ticker", "document", "weight", "as_of", "currency"):
        assert f"{column} is not" in told
    assert "a weight on 6 of 7 lines" in told
    assert "SECRET" not in told
    assert "dollars" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column ticker; no column document"),
        ("ticker,document\n", "no line with a company"),
        ("ticker,document,load\nA,a.txt,1\n", "1 column of another name"),
        ("ticker,ticker,document\nA,B,a.txt\n", "two columns ticker"),
        ('ticker,document\n"A,a.txt\n', "quotes that do not close"),
    ],
)
def test_a_file_that_is_no_portfolio_is_refused(text: str, told: str) -> None:
    with pytest.raises(TableError) as refused:
        read(text)
    assert told in refused.value.found


def test_a_name_that_is_not_located_is_a_fault() -> None:
    with pytest.raises(TableError, match="line 2: document is not a file"):
        holdings_of("ticker,document\nA,../../etc/passwd\n", locate=lambda _: None)


def test_a_missing_file_and_one_in_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_holdings(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("ticker,document\nA,é.txt\n".encode("latin-1"))
    with pytest.raises(TableError, match="UTF-8"):
        read_holdings(tmp_path / "latin.csv")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for given_text in (text, HEADER + text):
        try:
            rows = read(given_text)
        except TableError:
            continue
        assert sum(row.weight for row in rows) == pytest.approx(1)


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=40))
def test_shares_add_up_to_one_and_keep_their_proportions(weights) -> None:
    lines = [f"T{i},d{i}.txt,,{weight!r},,\n" for i, weight in enumerate(weights)]
    rows = read(HEADER + "".join(lines))
    assert sum(row.weight for row in rows) == pytest.approx(1)
    assert rows[-1].weight / rows[0].weight == pytest.approx(weights[-1] / weights[0])
