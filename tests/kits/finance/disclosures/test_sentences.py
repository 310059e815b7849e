"""Sentences cover the text, in order, and end where a reader would end them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.disclosures.sentences import sentence_spans


def split(text: str, *, lines_may_wrap: bool = False) -> list[str]:
    spans = sentence_spans(text, 0, len(text), lines_may_wrap=lines_may_wrap)
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    "sentences",
    [
        ["We sell to the U.S. Government.", "It pays late."],
        ["Apple Inc. was founded in 1976.", "We design phones."],
        ["The parent is Alphabet Inc.", "The company is listed."],
        ["Mr. Smith and Dr. Jones resigned on Jan. 5, 2016.", "Both were directors."],
        ["Sales rose 3.5% to $1.2 billion.", "Margins fell."],
        ["See Item 1A. Risk Factors and Note 5. Leases for details.", "That is all."],
        ["See No. 5 below.", "We said no.", "Nothing changed."],
        ["J. P. Morgan acted for us, e.g. in 2012.", "So did I.", "We agreed."],
        ["“We are pleased.”", "He left."],
        ["Is it so?", "Yes!", "Good."],
        ["We wait... and see.", "Then we act."],
        ["It ended at 5 p.m. Eastern time.", "We adjourned."],
        ["We operate in the U.S.", "In Europe, we lease."],
    ],
    ids=lambda sentences: sentences[0],
)
def test_full_stops_of_abbreviations_do_not_end_a_sentence(sentences: list[str]) -> None:
    """Joined by spaces and split again, the sentences come back."""
    assert split(" ".join(sentences)) == sentences


def test_headings_bullets_and_rows_stand_alone() -> None:
    """A line without a full stop is a sentence of its own; an item heading is not cut."""
    lines = ["Item 1A. Risk Factors", "General", "• the first; and", "• the second.", "Cash\t5\t6"]
    assert split("\n".join(lines)) == lines


def test_lines_broken_at_a_fixed_width_run_on() -> None:
    """In plain text a sentence may cross line ends; a blank line ends it."""
    text = (
        "We depend on a small number of customers for most of our\n"
        "revenue, and the loss of one of them would harm us. The\n"
        "United States is our largest market, and we expect it to\n"
        "stay so for several years.\n\n"
        "Competition\n\n"
        "Our markets are crowded with rivals that are larger than\n"
        "we are.\n"
    )
    found = [" ".join(s.split()) for s in split(text, lines_may_wrap=True)]
    assert [s[:11] for s in found] == ["We depend o", "The United ", "Competition", "Our markets"]
    assert found[1].endswith("several years.")


def test_lines_that_are_sentences_stay_apart() -> None:
    """Transcripts with one sentence a line are not joined."""
    lines = ["Thank you.", "Good afternoon and welcome to the call of our fourth quarter", "Yes"]
    assert split("\n".join(lines * 3), lines_may_wrap=True) == lines * 3


TEXTS = st.text(alphabet='aAbI19.,!?•"”() \t\n\r\u00a0\u2028', max_size=120)


@given(TEXTS, st.booleans(), st.data())
def test_sentences_cover_the_words_in_order_without_overlap(
    text: str, wrap: bool, data: st.DataObject
) -> None:
    """Every character that is not white space lies in one sentence; none begins blank."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    position = start
    for first, last in sentence_spans(text, start, end, lines_may_wrap=wrap):
        assert position <= first < last <= end
        assert not text[position:first].strip()
        assert text[first:last] == text[first:last].strip()
        position = last
    assert not text[position:end].strip()
