"""A record leads to the same bytes, or the replay says what is not as it was."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from common.errors import MissingInputError, StoreError
from common.routing.cache import ResultCache
from common.routing.router import ModelRouter
from common.task import Result, Task, Text
from kits.finance import replay as replay_module
from kits.finance.disclosures.document import read_document
from kits.finance.governance.archive import Archive
from kits.finance.governance.record import read_record
from kits.finance.pipeline import assess
from kits.finance.replay import SCORE_TOLERANCE, replay
from kits.finance.tasks import ADAPTER_FOLDER, open_text_model, text_model_of

TICKER, DAY = "SP500", date(2018, 11, 30)


@pytest.fixture
def copied(assessed, bundled_inputs, tmp_path):
    """An assessment of its own inputs, both free to be changed."""
    shutil.copytree(assessed, tmp_path / "out")
    record = read_record(tmp_path / "out")
    shutil.copytree(bundled_inputs, tmp_path / "in")
    moved = tuple(replace(one, path=str(tmp_path / "in" / one.name)) for one in record.inputs)
    (tmp_path / "out" / "record.json").write_text(replace(record, inputs=moved).to_text())
    return tmp_path


def kinds(outcome):
    return {one.kind for one in outcome.differences} - {"code"}  # others may edit it meanwhile


def test_an_assessment_comes_out_byte_for_byte(assessed, text_router, tmp_path):
    """All three files are equal, times included, and so is the record."""
    outcome = replay(assessed, router=text_router, out=tmp_path / "again")
    assert outcome.identical, [str(one) for one in outcome.differences]
    assert outcome.ran
    assert kinds(outcome) == set()
    assert outcome.score_difference <= SCORE_TOLERANCE
    for name in ("report.html", "assessment.json", "lineage.json"):
        assert (tmp_path / "again" / name).read_bytes() == (assessed / name).read_bytes()
    again, first = read_record(tmp_path / "again"), read_record(assessed)
    assert again.run == first.run
    assert again.outputs == first.outputs


def test_scores_of_other_batches_do_not_change_a_byte(bundled_inputs, text_router, tmp_path):
    """An assessment that took rounded-otherwise scores from a cache is replayed all the same."""
    model = text_model_of(text_router)
    text = read_document(bundled_inputs / "annual_report.html").text
    cache = ResultCache(tmp_path / "cache")
    first = assess(
        bundled_inputs / "annual_report.html",
        ticker="X",
        out=tmp_path / "first",
        router=text_router,
    )
    for start, end, score in read_record(tmp_path / "first").passage_scores:
        task = Task({"text": Text(text[start:end])})
        cache.put(model.profile, task, Result(values={"score": score + 1e-6}))
    cached = ModelRouter({"text": model}, cache=cache)
    other = assess(
        bundled_inputs / "annual_report.html", ticker="X", out=tmp_path / "out", router=cached
    )
    assert other.text.value != first.text.value
    outcome = replay(tmp_path / "out", router=text_router)
    assert outcome.identical, [str(one) for one in outcome.differences]
    assert outcome.score_difference == pytest.approx(1e-6, rel=0.01)
    cached.close()
    cache.close()


def test_scores_that_the_model_does_not_give_are_told(copied, text_router):
    """A record whose scores were made up is not taken at its word."""
    record = read_record(copied / "out")
    (start, end, score), *others = record.passage_scores
    made_up = replace(record, passage_scores=((start, end, score + 0.1), *others))
    (copied / "out" / "record.json").write_text(made_up.to_text())
    outcome = replay(copied / "out", router=text_router)
    assert "scores" in kinds(outcome)
    assert outcome.score_difference == pytest.approx(0.1)


def test_a_changed_input_is_named_and_nothing_is_run(copied, text_router):
    """One more row is another table."""
    with (copied / "in" / "sp500.csv").open("a") as file:
        file.write("2019-01-02,SP500,1,1,1,2500,1\n")
    outcome = replay(copied / "out", router=text_router)
    assert (outcome.identical, outcome.ran, kinds(outcome)) == (False, False, {"input"})
    (difference,) = [one for one in outcome.differences if one.kind == "input"]
    assert difference.name == "prices"
    assert "changed file" in difference.found


def test_a_moved_input_is_found_by_its_content(copied, text_router):
    """Its name does not matter."""
    elsewhere = copied / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (copied / "in" / "sp500.csv").rename(elsewhere / "other.csv")
    assert kinds(replay(copied / "out", router=text_router)) == {"input"}
    assert replay(copied / "out", router=text_router, inputs=[copied / "elsewhere"]).identical


def test_kept_copies_outlive_their_originals(copied, text_router):
    """With an archive, record and archive are enough."""
    archive = Archive(copied / "archive")
    assess(
        copied / "in" / "annual_report.html",
        prices=copied / "in" / "sp500.csv",
        ticker=TICKER,
        as_of=DAY,
        out=copied / "kept",
        router=text_router,
        archive=archive,
    )
    shutil.rmtree(copied / "in")
    assert all(one.archived for one in read_record(copied / "kept").inputs)
    assert replay(copied / "kept", router=text_router, archive=archive).identical


def test_another_adapter_is_named(copied, text_router):
    """A head with another bias has another digest."""
    shutil.copytree(ADAPTER_FOLDER, copied / "other-lora")
    head = load_file(copied / "other-lora" / "head.safetensors")
    head = {k: (np.asarray(v + np.float32(0.5)) if "bias" in k else v) for k, v in head.items()}
    save_file(head, copied / "other-lora" / "head.safetensors", _metadata(ADAPTER_FOLDER))
    with ModelRouter({"text": open_text_model(copied / "other-lora")}) as routes:
        outcome = replay(copied / "out", router=routes)
    assert (outcome.ran, kinds(outcome)) == (False, {"model"})
    (difference,) = [one for one in outcome.differences if one.kind == "model"]
    assert difference.name == "text, adapter_digest"
    assert difference.recorded == text_model_of(text_router).profile.adapter_digest


def test_an_absent_adapter_is_named(copied, monkeypatch):
    """The kit's own folder is gone."""
    monkeypatch.setattr(
        replay_module,
        "open_router",
        lambda cache: ModelRouter({"text": open_text_model(copied / "absent")}, cache=cache),
    )
    outcome = replay(copied / "out")
    assert (outcome.identical, outcome.ran) == (False, False)
    (difference,) = [one for one in outcome.differences if one.kind == "model"]
    assert "maec-lora on minilm" in difference.recorded


def test_other_software_is_told_though_the_bytes_agree(copied, text_router):
    """Versions are compared one by one."""
    record = read_record(copied / "out")
    older = replace(record, software={**record.software, "numpy": "1.0.0"})
    (copied / "out" / "record.json").write_text(older.to_text())
    outcome = replay(copied / "out", router=text_router)
    assert outcome.identical
    (difference,) = [one for one in outcome.differences if one.kind == "software"]
    assert (difference.name, difference.recorded) == ("numpy", "1.0.0")


def test_other_settings_are_told(copied, text_router):
    """Each by its file and name."""
    record = read_record(copied / "out")
    settings = {**record.settings, "tasks": {**record.settings["tasks"], "MAX_PASSAGE_TOKENS": 9}}
    (copied / "out" / "record.json").write_text(replace(record, settings=settings).to_text())
    outcome = replay(copied / "out", router=text_router)
    (difference,) = [one for one in outcome.differences if one.kind == "settings"]
    assert (difference.name, difference.recorded) == ("/tasks/MAX_PASSAGE_TOKENS", "9")


def test_figures_that_come_out_otherwise_are_named(copied, text_router, monkeypatch):
    """A program that quotes fewer passages writes other files."""
    monkeypatch.setattr("kits.finance.risk.linkage._N_EVIDENCE", 5)
    outcome = replay(copied / "out", router=text_router)
    assert (outcome.identical, outcome.ran) == (False, True)
    names = [one.name for one in outcome.differences if one.kind == "output"]
    assert {"report.html", "assessment.json", "lineage.json"} <= set(names)
    assert "assessment.json /reasons/1/evidence/5/start" in names


def test_an_edited_record_is_refused(copied, text_router):
    """Its digest no longer fits."""
    path = copied / "out" / "record.json"
    path.write_text(path.read_text().replace('"ticker": "SP500"', '"ticker": "OTHER"'))
    with pytest.raises(StoreError, match="edited"):
        replay(path, router=text_router)
    path.write_text("{}")
    with pytest.raises(StoreError, match="none"):
        replay(path, router=text_router)
    with pytest.raises(MissingInputError):
        replay(copied / "absent", router=text_router)


def test_an_edited_assessment_beside_its_record_is_told(copied, text_router):
    """The bytes that come out are the record's, not the file's."""
    path = copied / "out" / "assessment.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "score": 1.0}))
    outcome = replay(copied / "out", router=text_router)
    assert not outcome.identical
    assert [one.name for one in outcome.differences if one.kind == "output"] == [
        "assessment.json beside the record"
    ]


def test_a_real_call_with_its_prices_comes_out_again(tandem_data, text_router, tmp_path):
    """An earnings call of 2016 with the prices of its company, from the day's view."""
    finance = tandem_data / "finance"
    calls = pd.read_parquet(finance / "maec_calls" / "calls_text.parquet").set_index("call_id")
    table = pd.read_parquet(finance / "us_prices" / "prices_2010_2017.parquet")
    (tmp_path / "call.txt").write_text(calls.text["20160816_COTY"], encoding="utf-8")
    table[table.ticker == "COTY"].to_parquet(tmp_path / "prices.parquet", index=False)
    assess(
        tmp_path / "call.txt",
        prices=tmp_path / "prices.parquet",
        ticker="coty",
        as_of=date(2016, 8, 16),
        out=tmp_path / "out",
        router=text_router,
    )
    outcome = replay(tmp_path / "out", router=text_router)
    assert outcome.identical, [str(one) for one in outcome.differences]
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["untraced"] == []
    assert lineage["sources"]["prices"]["last_date"] == "2016-08-16"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Oracle.10-Q", "Apple.10-K"])
def test_a_real_filing_comes_out_again(tandem_data, text_router, tmp_path, name):
    """Its passages are found in the lines of its HTML."""
    packed = tandem_data / "finance" / "filings_samples" / f"{name}.html.gz"
    document = tmp_path / "filing.html"
    document.write_bytes(gzip.decompress(packed.read_bytes()))
    assess(document, ticker="X", out=tmp_path / "out", router=text_router)
    outcome = replay(tmp_path / "out", router=text_router)
    assert outcome.identical, [str(one) for one in outcome.differences]
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["untraced"] == []
    source = read_document(document).source
    for passage in lineage["sources"]["document"]["passages"]:
        before = source[: passage["source_start"]]
        assert before.count("\n") + 1 == passage["first_line"]


def _metadata(folder):
    from safetensors import safe_open

    with safe_open(folder / "head.safetensors", framework="numpy") as file:
        return file.metadata()
