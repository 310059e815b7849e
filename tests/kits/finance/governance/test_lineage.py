"""Every figure of an assessment is computed again from its inputs, through its lineage alone."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from kits.finance.disclosures.document import split_sentences
from kits.finance.disclosures.filing import read_disclosure
from kits.finance.disclosures.language import read_language
from kits.finance.governance.lineage import PRINCIPLES, Figure, figure_pointers, trace, value_at
from kits.finance.governance.surroundings import current_settings
from kits.finance.markets.forecasters import forecast_volatility
from kits.finance.markets.prices import PriceHistory
from kits.finance.pipeline import view_market
from kits.finance.reporting.backtest import SIGNIFICANCE, recent_backtest
from kits.finance.risk.linkage import assess_text, link, read_linkage
from kits.finance.risk.measures import one_day_var_es
from kits.finance.tasks import LINKAGE_FILE, text_model_of

TICKER, DAY = "SP500", date(2018, 11, 30)


class Sources:
    """What a lineage names, read from the files that it names; the report itself is not asked."""

    def __init__(self, lineage, coefficients, prices, document):
        self.lineage, self.coefficients = lineage, coefficients
        self.prices, self.document = prices, document
        self.record = {"settings": current_settings()}
        self.computed = {}

    def figure(self, pointer):
        """Computes a figure from its sources, which are computed from theirs, and so on."""
        if pointer not in self.computed:
            entry = self.lineage.of(pointer)
            value = COMPUTATIONS[entry.rule](self, entry, pointer)
            self.computed[pointer] = value
        return self.computed[pointer]

    def key(self, entry, name):
        """A coefficient, if the entry names it."""
        named = [s["keys"] for s in entry.sources if s.get("source") == "coefficients"]
        assert name in named[0], f"{entry.pointer} does not name {name}"
        return self.coefficients[name]

    def setting(self, entry, name):
        """A setting of the record, if the entry names it."""
        named = [p for s in entry.sources if s.get("source") == "record" for p in s["pointers"]]
        (pointer,) = [p for p in named if p.rsplit("/", 1)[1] == name]
        return value_at(self.record, pointer)

    def related(self, entry):
        """The figures that the entry names."""
        return [self.figure(s["figure"]) for s in entry.sources if "figure" in s]

    def history(self, entry):
        """The cells that the entry names, read from the CSV file, and nothing else of it."""
        (cells,) = [s for s in entry.sources if s.get("source") == "prices"]
        with self.prices.open(newline="") as file:
            rows = [
                row
                for row in csv.DictReader(file)
                if row["ticker"] == cells["ticker"]
                and cells["first_date"] <= row["date"] <= cells["last_date"]
            ]
        assert len(rows) == cells["n_rows"]
        columns = {name: np.array([float(r[name]) for r in rows]) for name in cells["columns"]}
        dates = np.array([row["date"] for row in rows], dtype="datetime64[D]")
        return PriceHistory(ticker=TICKER, dates=dates, **columns)

    def passages(self, entry, at=-1):
        """The passages of the entry's last (or first) source of them."""
        sources = [s for s in entry.sources if s.get("source") == "document"]
        first, last = sources[at]["passages"]
        return self.lineage.sources["document"]["passages"][first : last + 1]


def _probability(sources, entry, pointer):
    return 1 / (1 + math.exp(-math.fsum(sources.related(entry))))


def _price_ridge(sources, entry, pointer):
    close = sources.history(entry).close
    returns = [b / a - 1 for a, b in pairwise(close)]
    windows = sources.key(entry, "windows_days")
    assert max(windows) == len(returns), "no row is named that is not needed"
    past = [math.log(statistics.pstdev(returns[-window:])) for window in windows]
    weights = sources.key(entry, "price_coefficients")
    terms = [w * x for w, x in zip(weights, past, strict=True)]
    return math.exp(sources.key(entry, "price_intercept") + math.fsum(terms))


def _text_value(sources, entry, pointer):
    mean = statistics.fmean(p["score"] for p in sources.passages(entry))
    return mean - sources.key(entry, "text_centre")


def _percentile(sources, entry, pointer):
    mean = statistics.fmean(p["score"] for p in sources.passages(entry))
    known = sources.key(entry, "text_percentiles")
    if mean <= known[0]:
        return 0.0
    above = next(at for at, value in enumerate(known) if value >= mean)
    return above - (known[above] - mean) / (known[above] - known[above - 1])


def _evidence(sources, entry, pointer):
    (quoted,) = sources.passages(entry, at=0)
    return (quoted["score"] - sources.key(entry, "text_centre")) / len(sources.passages(entry))


def _reason_evidence(sources, entry, pointer):
    per_score = sources.key(entry, "calibration_slope") * sources.key(entry, "text_weight")
    return per_score * _evidence(sources, entry, pointer)


def _offset(sources, entry, pointer):
    (quoted,) = sources.passages(entry)
    return quoted[pointer.rsplit("/", 1)[1]]


def _sentences(sources, entry, pointer):
    read = sources.setting(entry, "READ_SECTIONS")["10-K"]
    word = re.compile(r"[A-Za-z]{2,}")
    count = 0
    for section in sources.document.sections:
        if section.key in read:
            for sentence in split_sentences(sources.document.document, section):
                pieces = sentence.text.split()
                count += 2 * sum(bool(word.search(piece)) for piece in pieces) >= len(pieces)
    return count


def _forecast(sources, entry, pointer):
    _, _, model, name, *_ = pointer.split("/")
    cells = json.dumps(entry.sources)
    if cells not in sources.computed:  # one simulation gives many figures
        sources.computed[cells] = forecast_volatility(
            sources.history(entry), model=model, seed=sources.setting(entry, "seed")
        )
    found = np.asarray(getattr(sources.computed[cells], name)).tolist()
    return value_at(found, pointer.removeprefix(f"/market/{model}/{name}"))


def _tail(sources, entry, pointer):
    tail = one_day_var_es(sources.history(entry), level=sources.setting(entry, "level"))
    return getattr(tail, pointer.rsplit("/", 1)[1])


def _history(sources, entry, pointer):
    close = sources.history(entry).close
    return len(close) if pointer.endswith("n_days") else close[-1]


def _numbers(*values, digits):
    return [f"{value:.{digits}f}" for value in values]


COMPUTATIONS = {
    "baseline": lambda s, e, p: (
        s.key(e, "calibration_intercept") + s.key(e, "calibration_slope") * s.key(e, "price_centre")
    ),
    "event_probability": _probability,
    "event_probability_prices_only": _probability,
    "event_threshold": lambda s, e, p: _numbers(
        100 * math.exp(s.key(e, "event_threshold")), digits=2
    ),
    "evidence_contribution": _evidence,
    "evidence_offsets": _offset,
    "forecast_setting": lambda s, e, p: value_at(
        {name: s.setting(e, name) for name in ("horizon_days", "quantile_levels")},
        re.sub(r"/market/\w+", "", p),
    ),
    "garch_forecast": _forecast,
    "har_forecast": _forecast,
    "price_contribution": lambda s, e, p: (
        s.key(e, "calibration_slope") * (math.log(s.related(e)[0]) - s.key(e, "price_centre"))
    ),
    "price_history": _history,
    "price_ridge": _price_ridge,
    "price_statement": lambda s, e, p: _numbers(
        100 * s.related(e)[0], 100 * math.exp(s.key(e, "price_centre")), digits=2
    ),
    "reason_evidence_contribution": _reason_evidence,
    "score": lambda s, e, p: 100 * s.related(e)[0],
    "sentence_count": _sentences,
    "tail_level": lambda s, e, p: s.setting(e, "level"),
    "tail_risk": _tail,
    "text_contribution": lambda s, e, p: (
        s.key(e, "calibration_slope") * s.key(e, "text_weight") * s.related(e)[0]
    ),
    "text_percentile": _percentile,
    "text_statement": lambda s, e, p: [
        str(s.related(e)[0]),
        *(
            _numbers(100 * math.expm1(s.key(e, "text_weight") * s.related(e)[1]), digits=1)
            if s.key(e, "text_weight")
            else []
        ),
    ],
    "text_value": _text_value,
    "volatility_linked": lambda s, e, p: (
        s.related(e)[0] * math.exp(s.key(e, "text_weight") * s.related(e)[1])
    ),
}


@pytest.fixture(scope="module")
def parts(bundled_inputs, text_router):
    """The stages of an assessment up to an as-of date that leaves prices out."""
    disclosure = read_disclosure(bundled_inputs / "annual_report.html")
    model = text_model_of(text_router)
    reading = read_language(
        disclosure, text_router, count_tokens=model.count_tokens, max_tokens=model.max_tokens
    )
    market = view_market(bundled_inputs / "sp500.csv", ticker=TICKER, as_of=DAY)
    linkage = read_linkage(LINKAGE_FILE, adapter_digest=reading.provenance.adapter_digest)
    return disclosure, reading, market, linkage


@pytest.fixture(scope="module", params=["as shipped", "text with a weight"])
def traced(request, parts, bundled_inputs):
    """An assessment's JSON and the sources that its lineage names."""
    disclosure, reading, market, linkage = parts
    if request.param != "as shipped":
        linkage = replace(linkage, text_weight=0.6)
    assessment = link(disclosure, reading, market, linkage, ticker=TICKER)
    lineage = trace(assessment, disclosure, reading)
    written = json.loads(json.dumps(assessment.to_json()))
    sources = Sources(lineage, linkage.to_json(), bundled_inputs / "sp500.csv", disclosure)
    return written, sources


def test_every_figure_has_exactly_one_entry(traced):
    """None is untraced, and no pointer is covered twice."""
    written, sources = traced
    assert sources.lineage.untraced == ()
    pointers = figure_pointers(written)
    for pointer in pointers:
        entries = [
            entry
            for entry in sources.lineage.figures
            if pointer == entry.pointer or pointer.startswith(f"{entry.pointer}/")
        ]
        assert len(entries) == 1, pointer
    assert {"/score", "/market/tail/value_at_risk", "/text/value"} <= set(pointers)


def test_every_number_is_recomputed_from_its_inputs_through_the_lineage(traced):
    """Prices come from the file's cells, scores from the passages, the rest from these."""
    written, sources = traced
    pointers = [p for p in figure_pointers(written) if not p.startswith("/notes/")]
    assert len(pointers) > 350
    for pointer in pointers:
        shown, found = value_at(written, pointer), sources.figure(pointer)
        if isinstance(shown, str):
            words = shown.split(", the top quintile")[0]
            digits = re.findall(r"[-+]?\d+\.\d+|\d+(?= sentences)", words)
            assert [d.removeprefix("+") for d in digits] == found, pointer
        else:
            assert found == pytest.approx(shown, rel=1e-9, abs=1e-12), pointer


def test_rows_left_out_are_counted_in_a_note(traced, bundled_inputs):
    """The count is that of the file's rows after the as-of date."""
    written, _ = traced
    with (bundled_inputs / "sp500.csv").open(newline="") as file:
        later = sum(row["date"] > DAY.isoformat() for row in csv.DictReader(file))
    assert f"{later} price rows after {DAY} were left out." in written["notes"]


def test_passages_lead_to_the_lines_of_the_file(traced, bundled_inputs):
    """The words of each passage stand between its first and last line of the source."""
    _, sources = traced
    lines = (
        (bundled_inputs / "annual_report.html")
        .read_text(encoding="utf-8")
        .splitlines(keepends=True)
    )
    text = sources.document.document.text
    for passage in sources.lineage.sources["document"]["passages"]:
        source = "".join(lines[passage["first_line"] - 1 : passage["last_line"]])
        words = text[passage["start"] : passage["end"]].split()
        assert words[0] in source
        assert words[-1] in source


def test_scores_of_the_passages_are_those_of_the_model(traced, text_router):
    """Asked again, the text model says the same of each passage."""
    from common.task import Task, Text

    _, sources = traced
    text, passages = sources.document.document.text, sources.lineage.sources["document"]["passages"]
    tasks = [Task({"text": Text(text[p["start"] : p["end"]])}) for p in passages]
    scores = [one["text"].result.values["score"] for one in text_router.execute_many(tasks)]
    assert scores == pytest.approx([p["score"] for p in passages], abs=1e-5)


def test_a_figure_without_a_rule_is_listed_and_stops_nothing(parts):
    """A reason of a new kind is untraced until somebody writes its rule."""
    disclosure, reading, market, linkage = parts
    assessment = link(disclosure, reading, market, linkage, ticker=TICKER)
    first, second = assessment.reasons
    renamed = replace(assessment, reasons=(replace(first, code="NEW_KIND"), second))
    assert trace(renamed, disclosure, reading).untraced == (
        "/reasons/0/statement",
        "/reasons/0/contribution",
    )


def test_text_alone_is_traced_too(parts):
    """Without prices there are no figures of prices."""
    disclosure, reading, _, linkage = parts
    lineage = trace(assess_text(disclosure, reading, linkage, ticker="X"), disclosure, reading)
    assert lineage.untraced == ()
    assert "prices" not in lineage.sources
    assert lineage.of("/score") is None


def test_the_file_beside_the_assessment_is_the_lineage(assessed):
    """It names principles of BCBS 239 by number and leaves nothing untraced."""
    written = json.loads((assessed / "lineage.json").read_text())
    assert written["untraced"] == []
    assert set(PRINCIPLES) < set(written["principles"])
    assert written["sources"]["prices"]["n_rows"] == 1500


def numbers_of(page):
    """The decimal fractions that a page shows, axes and quotations aside."""
    for element in ("style", "svg", "mark"):
        page = re.sub(rf"<{element}\b.*?</{element}>", " ", page, flags=re.DOTALL)
    return re.findall(r"\d[\d,]*\.\d+", re.sub(r"<[^>]+>", " ", page))


def require_roundings(shown, values):
    """Each number that is shown is one of the values, rounded."""
    for number in shown:
        digits = len(number.split(".")[1])
        assert number in {f"{abs(value):,.{digits}f}" for value in values}, number


@pytest.fixture(scope="module")
def page(assessed):
    """The page up to its provenance, and its section on the backtest."""
    whole = (assessed / "report.html").read_text(encoding="utf-8").split("Provenance</h2>")[0]
    section = r'<section aria-labelledby="backtest">.*?</section>'
    (backtest,) = re.findall(section, whole, flags=re.DOTALL)
    return whole.replace(backtest, ""), backtest


def test_the_page_shows_figures_of_the_json_and_of_the_backtest_alone(assessed, page):
    """Each rounded figure outside the backtest is one of assessment.json's.

    Those are recomputed from the inputs above; the page adds a sum and a difference.
    """
    written = json.loads((assessed / "assessment.json").read_text())
    texts = [value_at(written, p) for p in figure_pointers(written)]
    values = [value for value in texts if not isinstance(value, str)]
    words = " ".join(text for text in texts if isinstance(text, str))
    values += [float(number) for number in re.findall(r"\d+\.\d+", words)]
    total = written["baseline_log_odds"] + sum(r["contribution"] for r in written["reasons"])
    values += [total, written["score"] - 100 * written["event_probability_prices_only"]]
    shown = numbers_of(page[0])
    assert len(shown) > 30
    require_roundings(shown, [*values, *(100 * value for value in values)])


def test_the_pages_backtest_is_recomputed_from_the_cells_that_its_entry_names(
    assessed, page, bundled_inputs
):
    """No other row of the table is needed."""
    written = json.loads((assessed / "lineage.json").read_text())
    (entry,) = [one for one in written["figures"] if one["pointer"] == "report.html#backtest"]
    entry = Figure(entry["pointer"], entry["rule"], entry["method"], tuple(entry["sources"]))
    history = Sources(None, {}, bundled_inputs / "sp500.csv", None).history(entry)
    assert len(history.close) == 1251
    again = recent_backtest(history, level=0.99)
    values = [again.traffic_light.multiplier or 0, again.n_days * (1 - again.level), SIGNIFICANCE]
    values += [figure for test in again.tests for figure in (test.statistic, test.p_value)]
    shown = numbers_of(page[1])
    assert len(shown) > 10
    require_roundings(shown, values)
    assert f"{again.n_exceptions} of {again.n_days} days" in page[1]
