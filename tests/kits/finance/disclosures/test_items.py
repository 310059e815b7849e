"""Item headings are told from contents tables, pointers and page headers."""

from __future__ import annotations

import pytest

from kits.finance.disclosures.forms import ITEMS, item_named
from kits.finance.disclosures.items import find_headings

BODY = (
    "Item 1. Business\n" + "We make things. " * 30 + "\nItem 1A. Risk Factors\n"
    "" + "Sales may fall. " * 30 + "\nItem 1B. Unresolved Staff Comments\nNone.\n"
    "Item 2. Properties\nWe lease.\nItem 3. Legal Proceedings\nNone.\n"
)


def keys(text: str, form: str = "10-K") -> list[str]:
    return [heading.item.key for heading in find_headings(text, form)]  # type: ignore[arg-type]


BODY_KEYS = ["item_1", "item_1a", "item_1b", "item_2", "item_3"]


def test_headings_of_the_body_are_found_in_order() -> None:
    """Each one with its caption, where its line begins."""
    headings = find_headings(BODY, "10-K")
    assert [h.item.key for h in headings] == BODY_KEYS
    assert all(h.named and not h.rivals for h in headings)
    assert BODY[headings[1].start : headings[1].end] == "Item 1A. Risk Factors"


@pytest.mark.parametrize("end", ["\t5", "", " ........ 5", "\n5", "\t5-9"])
def test_a_contents_table_is_left_out(end: str) -> None:
    """With page numbers in any place, or without any."""
    captions = ["1. Business", "1A. Risk Factors", "1B. Unresolved Staff Comments"]
    captions += ["2. Properties", "3. Legal Proceedings"]
    contents = "\n".join(f"Item {caption}{end}" for caption in captions)
    headings = find_headings(f"Contents\n{contents}\nPart I\n{BODY}", "10-K")
    assert [h.item.key for h in headings] == BODY_KEYS
    assert min(h.start for h in headings) > len(contents)
    assert keys(contents) == [] or end == ""


@pytest.mark.parametrize(
    "heading",
    [
        "Item 1A. Risk Factors",
        "ITEM 1A.\nRISK FACTORS",
        "Item 1A.\tRisk Factors",
        "Item 1A: Risk Factors.",
        "Item 1A.Risk Factors",
        "Item 1A - Risk Factors",
        "Item 1A — Risk Factors",
        "ITEM 1(A). RISK FACTORS",
        "Item 1A Risk Factors",
        "PART I, Item 1A. Risk Factors",
        "Item 1A. Risk Factors. - ---------",
        "Item 1A. “Risk Factors",
    ],
)
def test_a_heading_is_known_in_its_usual_spellings(heading: str) -> None:
    """Punctuation, capitals and a caption on the next line make no difference."""
    found = find_headings(BODY.replace("Item 1A. Risk Factors", heading), "10-K")
    assert [(h.item.key, h.named) for h in found][1] == ("item_1a", True)


@pytest.mark.parametrize(
    "line",
    [
        "Item 1B. Unresolved Staff Comments, below, says more about this.",
        "Item 2 of this report describes our buildings.",
        "Item 1A. Risk Factors (continued)",
        "Item 1B. Unresolved Staff Comments” tells more.",
        "We refer to\nItem 3. Legal Proceedings",
        "See Item 1B. Unresolved Staff Comments",
    ],
)
def test_pointers_and_page_headers_are_no_headings(line: str) -> None:
    """A line in the risk factors that only points elsewhere does not end them."""
    text = BODY.replace("\nItem 1B", f"\n{line}\nMore risks.\nItem 1B", 1)
    headings = find_headings(text, "10-K")
    assert [h.item.key for h in headings] == BODY_KEYS
    assert text[: headings[2].start].endswith("More risks.\n")


def test_a_second_heading_further_on_is_reported() -> None:
    """The earlier one is taken, and the later one named as its rival."""
    text = BODY.replace("Sales may fall. ", "Item 2. Properties\nSales may fall. ", 1)
    text = text.replace("Item 1B. Unresolved Staff Comments\nNone.\n", "")
    properties = next(h for h in find_headings(text, "10-K") if h.item.key == "item_2")
    assert properties.rivals == (text.rindex("Item 2."),)


def test_the_items_of_a_quarterly_report_are_told_apart_by_part() -> None:
    """Item 1 stands in both parts; captions and order decide."""
    text = (
        "Item 1. Financial Statements\nCash.\nItem 2. Management's Discussion\nGood.\n"
        "Item 4. Controls and Procedures\nFine.\nPart II\nItem 1. Legal Proceedings\nNone.\n"
        "Item 1A. Risk Factors\nNo change.\nItem 6. Exhibits\nNone.\n"
    )
    parts = [1, 1, 1, 2, 2, 2]
    assert [h.item.part for h in find_headings(text, "10-Q")] == parts


def test_item_keys_are_unique_and_found_by_number() -> None:
    """Each form names an item once; a 10-Q needs the part as well."""
    for form, items in ITEMS.items():
        assert len({item.key for item in items}) == len(items)
        for item in items:
            assert item_named(form, item.part, item.number) == item
    assert item_named("10-Q", None, "1") is None
    assert item_named("10-K", None, "99") is None
