"""An 8-K's items are read in both numberings, in any order, and none is lost in silence."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from common.errors import SectionNotFoundError
from kits.finance.disclosures.document import Disclosure
from kits.finance.disclosures.filing import read_disclosure

SIGNED = "SIGNATURES\nPursuant to the requirements of the Securities Exchange Act of 1934 ..."
RESULTS = "Item 2.02 Results of Operations and Financial Condition\nWe earned more. " + "Much. " * 9
EXHIBITS = "Item 9.01 Financial Statements and Exhibits\n(d) Exhibits\n99.1 Press release"


def read(folder: Path, *parts: str) -> Disclosure:
    path = folder / "event.txt"
    path.write_text("\n\n".join(["FORM 8-K", "CURRENT REPORT", *parts]), encoding="utf-8")
    return read_disclosure(path)


def text(disclosure: Disclosure, key: str) -> str:
    section = disclosure.section(key)
    return disclosure.document.text[section.start : section.end]


def test_items_reach_to_the_next_heading_and_the_last_to_the_signature(tmp_path: Path) -> None:
    """In the numbering of 2004."""
    disclosure = read(tmp_path, RESULTS, EXHIBITS, SIGNED)
    assert disclosure.form == "8-K"
    assert [(i.key, i.state) for i in disclosure.items] == [
        ("item_2_02", "complete"), ("item_9_01", "complete"),
    ]  # fmt: skip
    assert text(disclosure, "item_2_02") == RESULTS.strip()
    assert text(disclosure, "item_9_01") == EXHIBITS


def test_items_before_2004_have_plain_numbers(tmp_path: Path) -> None:
    """Item 5 is "Other Events" there, and Item 7 the exhibits; the order is the filer's."""
    other = "ITEM 5.  OTHER EVENTS.\nThe company was renamed."
    exhibits = "Item 7(c). Exhibits\n99 Press release"
    disclosure = read(tmp_path, exhibits, other, SIGNED)
    assert [section.key for section in disclosure.sections] == ["item_7", "item_5"]
    assert text(disclosure, "item_5") == other


@pytest.mark.parametrize(
    "headings",
    ["Items 2.02 and 7.01. Results of Operations; Regulation FD Disclosure",
     "Item 2.02. Results of Operations and Condition\nItem 7.01. Regulation FD Disclosure",
     "Items 2.02(a) and 7.01(b) Results of Operations"],
)  # fmt: skip
def test_headings_without_text_between_are_joint(tmp_path: Path, headings: str) -> None:
    """Both items are the same section; neither is empty."""
    disclosure = read(tmp_path, f"{headings}\nWe earned more.", EXHIBITS, SIGNED)
    assert text(disclosure, "item_2_02") == text(disclosure, "item_7_01")
    assert text(disclosure, "item_7_01").endswith("We earned more.")
    assert "together with Item 2.02" in disclosure.item("item_7_01").reason


def test_a_list_of_contents_is_left_out(tmp_path: Path) -> None:
    """With the signature and exhibit index that close it."""
    contents = "Item 2.02 Results of Operations\nItem 9.01 Exhibits\nSIGNATURE\nEXHIBIT INDEX"
    disclosure = read(tmp_path, contents, RESULTS, EXHIBITS, SIGNED)
    assert text(disclosure, "item_2_02") == RESULTS.strip()
    assert not disclosure.withheld


def test_an_item_in_running_text_is_no_heading(tmp_path: Path) -> None:
    """Nor one that a line begins with by chance; a line that ends a sentence leads nowhere."""
    pointing = "It is furnished under\nItem 2.02 of Form 8-K; see the liabilities of that section."
    disclosure = read(tmp_path, RESULTS + "\n" + pointing + "\n" + EXHIBITS, SIGNED)
    assert [section.key for section in disclosure.sections] == ["item_2_02", "item_9_01"]
    assert "furnished" in text(disclosure, "item_2_02")


def test_what_cannot_be_whole_is_withheld_with_its_reason(tmp_path: Path) -> None:
    """No signature, or the same item again behind another one."""
    cut = read(tmp_path, RESULTS, EXHIBITS)
    assert "no signature" in cut.withheld["item_9_01"]
    two_events = read(tmp_path, RESULTS, RESULTS, EXHIBITS, SIGNED)
    assert text(two_events, "item_2_02").count("We earned more.") == 2
    twice = read(tmp_path, RESULTS, EXHIBITS, RESULTS, SIGNED)
    assert "second heading" in twice.withheld["item_2_02"]
    with pytest.raises(SectionNotFoundError, match="second heading"):
        twice.section("item_2_02")
    with pytest.raises(SectionNotFoundError, match="found none"):
        read(tmp_path, "We have nothing to report.", SIGNED)


def test_an_item_by_reference_is_called_so(tmp_path: Path) -> None:
    """Its text stands under another item."""
    entry = "Item 1.01 Entry into a Material Definitive Agreement\nWe signed. " + "Terms. " * 20
    reference = (
        "Item 2.03 Creation of a Direct Financial Obligation\n"
        "The information set forth in Item 1.01 is incorporated herein by reference."
    )
    disclosure = read(tmp_path, entry, reference, SIGNED)
    assert disclosure.item("item_2_03").state == "by_reference"
    assert disclosure.item("item_1_01").state == "complete"


def test_an_item_that_edgar_s_header_names_must_be_found(tmp_path: Path) -> None:
    """The header is EDGAR's own record of the items."""
    source = (
        "<SEC-HEADER>\nCONFORMED SUBMISSION TYPE:\t8-K\nFILED AS OF DATE:\t20060119\n"
        "ITEM INFORMATION:\tResults of Operations and Financial Condition\n"
        "ITEM INFORMATION:\tRegulation FD Disclosure\n"
        "FILER:\n\tCENTRAL INDEX KEY:\t0000000001\n</SEC-HEADER>\n"
        f"<DOCUMENT>\n<TYPE>8-K\n<TEXT>\n{RESULTS}\n{EXHIBITS}\n{SIGNED}\n</TEXT>\n</DOCUMENT>\n"
    )
    path = tmp_path / "full.txt"
    path.write_text(source, encoding="utf-8")
    disclosure = read_disclosure(path)
    assert disclosure.item("item_7_01").state == "incomplete"
    assert "EDGAR's header names it" in disclosure.withheld["item_7_01"]
    assert disclosure.item("item_2_02").state == "complete"


def test_real_current_reports_are_read(tandem_data: Path, tmp_path: Path) -> None:
    """The 84 full submissions among them, of 1994 to 2009: two lack an item that EDGAR names."""
    packed = tandem_data / "finance" / "filings_samples" / "edgar_crawler_8K_raw.zip"
    states: Counter[str] = Counter()
    with zipfile.ZipFile(packed) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".txt"))
        for name in names:
            path = tmp_path / Path(name).name
            path.write_bytes(archive.read(name))
            disclosure = read_disclosure(path)
            assert disclosure.form == "8-K"
            states.update(item.state for item in disclosure.items)
    assert states["incomplete"] == 2
    assert states["complete"] > 120
