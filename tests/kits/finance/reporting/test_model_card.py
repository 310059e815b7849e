"""The model card says what was measured, in SR 11-7's order, and nothing else."""

from __future__ import annotations

import json
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from common.errors import InputError, StoreError
from kits.finance.governance.inventory import Approval, InventoryEntry
from kits.finance.reporting.card_evidence import read_evidence
from kits.finance.reporting.card_sections import card_sections
from kits.finance.reporting.model_card import render_card_markdown, write_model_card
from kits.finance.tasks import ADAPTER_FOLDER

DAY = date(2026, 11, 1)
TITLES = ["Purpose and use", "Data", "Method", "Assumptions", "Limits", "Performance", "Monitoring"]
ATTACK = '<script>alert("1")</script> | [x](http://x)'
ENTRY = InventoryEntry(
    model_id="finance.linkage",
    version="0.1.0",
    owner=ATTACK,
    purpose="Scores",
    status="champion",
    registered="2026-01-01T00:00:00+00:00",
    next_review_date=date(2026, 10, 1),
    approvals=(Approval("Validation", "2026-01-02T00:00:00+00:00", "Report 12"),),
)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """The shipped weights, and one recorded benchmark."""
    folder = tmp_path_factory.mktemp("results")
    result = {
        "benchmark": "finance.example",
        "date": "2026-10-31",
        "verdict": "not shown",
        "note": "A made result.",
        "rows": [
            {
                "role": "peer",
                "name": "HAR",
                "dataset": "made",
                "metric": "MSE",
                "value": 0.25,
                "low": 0.125,
                "high": 0.5,
            }
        ],
    }
    (folder / "finance.example.cpu.json").write_text(json.dumps(result))
    (folder / "tuning.other.cpu.json").write_text("no JSON, and not of this kit")
    return read_evidence(results=folder)


@pytest.fixture(scope="module")
def card(evidence, tmp_path_factory):
    """Page and Markdown text."""
    written = write_model_card(
        tmp_path_factory.mktemp("card") / "out", evidence=evidence, inventory=[ENTRY], on=DAY
    )
    return [path.read_text(encoding="utf-8") for path in written]


def test_sections_follow_the_order_of_sr_11_7(card):
    """In both forms."""
    page, markdown = card
    assert re.findall(r"<h2>\d\. (.*?)</h2>", page) == TITLES
    assert re.findall(r"^## \d\. (.*)$", markdown, re.MULTILINE) == TITLES


def test_figures_are_those_of_the_files(card):
    """Errors, areas and counts of the test calls stand in metrics.json."""
    metrics = json.loads((ADAPTER_FOLDER / "metrics.json").read_text())
    linkage = json.loads((ADAPTER_FOLDER / "linkage.json").read_text())
    for text in card:
        for block in metrics["test"].values():
            assert f"{block['prices_only']['mse']:.4g}" in text
            assert f"{block['prices_only']['event_auc']:.4g}" in text
        assert f"{metrics['n_calls']['train']:,}" in text
        assert f"{linkage['calibration_slope']:.4g}" in text
        for digest in metrics["data_sha256"].values():
            assert digest in text


def test_a_benchmark_is_shown_with_its_role_interval_and_verdict(card):
    """As it was recorded; those of other kits are not read."""
    for text in card:
        assert "finance.example, 2026-10-31: not shown. A made result." in text
        assert "0.125 to 0.5" in text
        assert "tuning.other" not in text


def test_a_long_benchmark_is_shown_by_its_headlines(tmp_path):
    """And the card says where the rows are."""
    row = {"role": "ours", "name": "x", "dataset": "d", "metric": "m", "value": 0.125}
    result = {"benchmark": "finance.long", "verdict": "exceeded", "rows": [row] * 700}
    result["headlines"] = {"mse_ratio_h1": 0.75}
    (tmp_path / "finance.long.cpu.json").write_text(json.dumps(result))
    evidence = read_evidence(results=tmp_path)
    text = render_card_markdown(card_sections(evidence, [], on=DAY), on=DAY)
    assert "the 700 rows with intervals are in its results file" in text
    assert "| mse ratio h1 | 0.75 |" in text
    assert "0.125" not in text


def test_without_benchmarks_or_inventory_the_card_says_so(evidence, tmp_path):
    """An absence is no silence."""
    bare = read_evidence(results=tmp_path)
    text = render_card_markdown(card_sections(bare, [], on=DAY), on=DAY)
    assert "No benchmark of the finance kit was recorded" in text
    assert "The inventory is empty" in text


def test_the_inventory_names_owner_approver_and_what_is_overdue(card):
    """A review that is due is marked."""
    for text in card:
        assert "2026-10-01 (overdue)" in text
        assert "Validation" in text
        assert "1 of them overdue" in text


def test_names_are_escaped_in_both_forms(card):
    """What somebody entered as an owner opens no tag, no cell and no link."""
    page, markdown = card
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in re.sub(r"\\.", "", markdown)
    rows = [line for line in markdown.splitlines() if "finance.linkage" in line and "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7, "six cells"
    assert "](http" not in re.sub(r"\\.", "", rows[0])


def test_the_page_needs_nothing_from_elsewhere_and_closes_its_tags(card):
    """Offline and printable."""
    page, _ = card
    assert not re.search(r"\bsrc=|@import|\burl\(|href=\"(?!#)", page)
    assert "@media print" in page
    open_tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Balance().feed(page)
    assert open_tags == []


def test_equal_evidence_gives_equal_files(card, evidence, tmp_path):
    """Day and inventory alike."""
    again = write_model_card(tmp_path, evidence=evidence, inventory=[ENTRY], on=DAY)
    assert [path.read_text(encoding="utf-8") for path in again] == card


def test_what_the_text_adds_is_said_plainly(card):
    """The shipped adapter's weight is 0."""
    for text in card:
        assert "text adds no measurable accuracy" in text


def test_weights_of_another_shape_are_shown_as_they_are(tmp_path):
    """A scorecard's metrics have no test block of calls."""
    folder = tmp_path / "weights" / "scorecard"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"auc": {"dev": 0.75}, "rows": [1, 2]}))
    evidence = read_evidence(weights=tmp_path / "weights", results=tmp_path)
    text = render_card_markdown(card_sections(evidence, [], on=DAY), on=DAY)
    assert "| auc.dev | 0.75 |" in text


def test_damaged_evidence_and_a_file_in_the_way_are_refused(tmp_path):
    """Nothing is written."""
    folder = tmp_path / "weights" / "x"
    folder.mkdir(parents=True)
    for content in ("{", "[]"):
        (folder / "metrics.json").write_text(content)
        with pytest.raises(StoreError, match=r"x/metrics\.json"):
            read_evidence(weights=tmp_path / "weights")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="output folder"):
        write_model_card(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_without_arguments_the_installed_kit_is_described(tmp_path):
    """Weights, benchmarks and inventory of this place."""
    page, markdown = write_model_card(tmp_path / "card")
    assert sorted(path.name for path in (tmp_path / "card").iterdir()) == [
        "model_card.html",
        "model_card.md",
    ]
    assert "finance.text.maec-lora" in page.read_text(encoding="utf-8")
    assert "finance.text.maec-lora" in markdown.read_text(encoding="utf-8")
