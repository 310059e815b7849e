"""The filings benchmark composes files that hold their items, and judges what came back."""

from __future__ import annotations

import random
import re
from datetime import date
from html import unescape

import pytest

from benchmarks.filing_layouts import FAULTS, LAYOUTS, SplitFiling
from benchmarks.finance_filings import Result, has_risk_factors, is_held_out

RISKS = "Item 1A. Risk Factors\n" + "Sales may fall when prices rise.\n" * 300
FILING = SplitFiling(
    "sample", "12345", date(2007, 12, 31),
    {"1": "Item 1. Business\nWe make things.\nWe sell them.", "1A": RISKS.strip(),
     "1B": "Item 1B. Unresolved Staff Comments\nNone.", "2": "Item 2. Properties\nOne building."},
)  # fmt: skip


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", unescape(re.sub(r"<[^>]+>", " ", text))))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_layout_keeps_every_word_of_the_items(layout: str) -> None:
    """And the same seed gives the same file."""
    page = LAYOUTS[layout](FILING, random.Random(0))
    assert page == LAYOUTS[layout](FILING, random.Random(0))
    # a contents table repeats the caption and the words behind it
    assert words(page).count("Sales may fall when prices rise") - 300 in (0, 1)
    assert "We sell them" in words(page)
    assert "December 31 2007" in words(page)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_damaged_file_is_not_the_whole_one(fault: str) -> None:
    """Half of Item 1A, a false heading in it, or none at all."""
    page = FAULTS[fault](FILING, random.Random(0))
    lines = [line for line in re.split(r"\n|<p>", page) if line.strip()]
    if fault == "cut off":
        assert words(page).count("Sales may fall") < 300
    elif fault == "false heading":
        assert sum(line.startswith("Item 2.") for line in lines) == 2
    else:
        assert not any(line.startswith("Item 1A. Risk") for line in lines)


def test_a_result_is_right_when_it_is_whole_or_rightly_absent() -> None:
    """A filing without risk factors must be called absent, not given something."""
    without = FILING.with_items(_1A=None)
    assert has_risk_factors(FILING)
    assert not has_risk_factors(without)
    assert Result(FILING, "complete").is_right
    assert not Result(FILING, "withheld").is_right
    assert Result(without, "absent").is_right
    assert not Result(without, "complete").is_right
    assert is_held_out(FILING) == is_held_out(without)
