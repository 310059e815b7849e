"""An assessment is whole, repeats, quotes the document exactly, and leaves nothing half-written."""

from __future__ import annotations

import gzip
import json
from datetime import date

import pandas as pd
import pytest

from common.errors import InputError, StaleDataError, TableError
from common.routing.cache import ResultCache
from kits.finance.disclosures.document import read_document
from kits.finance.pipeline import assess
from kits.finance.risk.score import logit
from kits.finance.tasks import open_router

CALL, TICKER, DAY = "20160816_COTY", "COTY", date(2016, 8, 16)


@pytest.fixture(scope="module")
def call(tandem_data, tmp_path_factory):
    """A real earnings call as a text file."""
    calls = pd.read_parquet(tandem_data / "finance" / "maec_calls" / "calls_text.parquet")
    path = tmp_path_factory.mktemp("call") / "call.txt"
    path.write_text(calls.set_index("call_id").text[CALL], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prices(tandem_data, tmp_path_factory):
    """The real prices of its company."""
    table = pd.read_parquet(tandem_data / "finance" / "us_prices" / "prices_2010_2017.parquet")
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    table[table.ticker == TICKER].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """The kit's own text model with a cache of this module."""
    cache = ResultCache(tmp_path_factory.mktemp("cache"))
    yield open_router(cache=cache)
    cache.close()


@pytest.fixture(scope="module")
def twice(call, prices, router, tmp_path_factory):
    """Two runs on the same input: assessments, written JSON, and the second folder."""
    out = tmp_path_factory.mktemp("out")
    arguments = {"prices": prices, "ticker": TICKER, "as_of": DAY, "router": router}
    runs = [assess(call, out=out / str(run), **arguments) for run in range(2)]
    written = [json.loads((out / str(run) / "assessment.json").read_text()) for run in range(2)]
    return runs, written, out / "1"


def test_a_real_call_with_its_prices_is_assessed_in_full(twice):
    """Probability, score, both forecasts and tail risk are there and agree."""
    assessment = twice[0][0]
    assert assessment.as_of == DAY
    total = assessment.baseline_log_odds + sum(r.contribution for r in assessment.reasons)
    assert total == pytest.approx(logit(assessment.event_probability), abs=1e-6)
    assert assessment.score == pytest.approx(100 * assessment.event_probability)
    assert [reason.code for reason in assessment.reasons] == ["PRICE_VOLATILITY", "TEXT_TONE"]
    assert 0.005 < assessment.volatility_linked < 0.05
    assert assessment.market.tail.value_at_risk <= assessment.market.tail.expected_shortfall


def test_quotations_match_the_document(call, twice):
    """Offsets lead to the quoted sentences in the file itself."""
    text = call.read_text(encoding="utf-8")
    evidence = [*twice[0][0].text.evidence, *twice[0][0].reasons[1].evidence]
    assert evidence
    for quotation in evidence:
        assert text[quotation.start : quotation.end] == quotation.sentence
        assert text[quotation.source_start : quotation.source_end] == quotation.sentence


def test_the_same_input_gives_the_same_json_but_for_its_run(twice):
    """The second run answers every passage from the cache, and says so."""
    first, second = twice[1]
    assert {**first, "run": None} == {**second, "run": None}
    assert (first["run"]["cache"]["hits"], second["run"]["cache"]["misses"]) == (0, 0)
    assert second["run"]["cache"]["hits"] == first["run"]["cache"]["misses"] > 0


def test_four_files_are_written_and_nothing_else(twice):
    """No temporary folder stays behind."""
    folder = twice[2]
    assert sorted(path.name for path in folder.iterdir()) == [
        "assessment.json",
        "lineage.json",
        "record.json",
        "report.html",
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["0", "1"]


def test_without_prices_the_text_stands_alone(call, router, tmp_path):
    """The note says that no market part could be computed."""
    assessment = assess(call, ticker=TICKER, out=tmp_path / "out", router=router)
    assert assessment.event_probability is assessment.score is assessment.market is None
    assert any("No market part could be computed" in note for note in assessment.notes)
    assert (tmp_path / "out" / "report.html").is_file()


def test_later_prices_change_nothing(call, prices, router, tmp_path):
    """Rows after the as-of date are cut before anything is computed from them."""
    table = pd.read_csv(prices)
    changed = table.copy()
    changed.loc[pd.to_datetime(changed.date) > "2016-08-16", ["open", "high", "low", "close"]] *= 3
    results = []
    for name, frame in (("as_given", table), ("changed", changed)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        assessment = assess(
            call,
            ticker=TICKER,
            prices=tmp_path / f"{name}.csv",
            as_of=DAY,
            out=tmp_path / name,
            router=router,
        )
        results.append(assessment.to_json())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"ticker": "ABSENT"}, TableError),
        ({"as_of": date(2020, 1, 1)}, StaleDataError),
        ({"as_of": date(2013, 7, 1)}, TableError),
    ],
)
def test_unusable_prices_leave_nothing_behind(call, prices, router, tmp_path, change, kind):
    """Unknown ticker, stale prices and too short a history raise before anything is written."""
    arguments = {"prices": prices, "ticker": TICKER, "router": router} | change
    with pytest.raises(kind):
        assess(call, out=tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(call, router, tmp_path):
    """Nothing is overwritten."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="output folder"):
        assess(call, ticker=TICKER, out=tmp_path / "out", router=router)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Apple.10-K", "10-K"),
        pytest.param("Nvidia.10-K", "10-K", marks=pytest.mark.slow),
        ("Oracle.10-Q", "10-Q"),
    ],
)
def test_real_filings_give_the_text_part(tandem_data, router, tmp_path, name, form):
    """Quotations match the text, and the note names the model's domain."""
    packed = tandem_data / "finance" / "filings_samples" / f"{name}.html.gz"
    (tmp_path / "filing.html").write_bytes(gzip.decompress(packed.read_bytes()))
    assessment = assess(tmp_path / "filing.html", ticker="X", out=tmp_path / "out", router=router)
    assert assessment.form == form
    assert assessment.text.n_sentences > 300
    assert any("outside its domain" in note for note in assessment.notes)
    document = read_document(tmp_path / "filing.html")
    for quotation in assessment.text.evidence:
        assert document.text[quotation.start : quotation.end] == quotation.sentence
