"""Calls are split at the handover to questions, or read as one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.errors import DocumentError
from kits.finance.disclosures.document import Document, split_sentences
from kits.finance.disclosures.transcript import LEAST_WORDS, read_transcript

REMARKS = "Sales rose by five percent in the quarter.\n" * 12
ANSWERS = "We expect the margin to hold next year.\n" * 12


def call(text: str) -> Document:
    return Document(text, text, "text", "")


@pytest.mark.parametrize(
    "handover",
    [
        "Operator, we are now ready for questions.",
        "With that, I will turn it back over to the operator for Q&A.",
        "We will now open the call for your questions.",
        "And now we'd be happy to take your questions.",
    ],
)
def test_a_handover_to_the_questions_divides_a_call(handover: str) -> None:
    """The remarks end with it; both sections together hold every word."""
    text = f"{REMARKS}{handover}\n{ANSWERS}"
    remarks, questions = read_transcript(call(text)).sections
    assert (remarks.key, questions.key) == ("remarks", "questions")
    assert text[remarks.start : remarks.end] == REMARKS + handover
    assert text[questions.start : questions.end] == ANSWERS.strip()


@pytest.mark.parametrize(
    "line",
    [
        "After our remarks we will open the call for your questions.",
        "Operator, we will take one more question.",
        "Then we will take your questions.",
        "I'll take the first question.",
        "",
    ],
)
def test_announcements_and_further_questions_do_not_divide_it(line: str) -> None:
    """Without a handover there is one section, and a note says so."""
    disclosure = read_transcript(call(f"{REMARKS}{line}\n{ANSWERS}"))
    assert [section.key for section in disclosure.sections] == ["call"]
    assert "one section" in disclosure.notes[0]


@pytest.mark.parametrize("text", ["Thank you.", "word " * (LEAST_WORDS - 1)])
def test_a_call_without_content_is_refused(text: str) -> None:
    """The message says how many words there were."""
    with pytest.raises(DocumentError, match=f"found {len(text.split())} words"):
        read_transcript(call(text))


def test_real_calls_are_read_or_refused_for_their_length(tandem_data: Path) -> None:
    """Of the 2,165 MAEC calls the 51 shortest are refused; the rest keep every word."""
    folder = tandem_data / "finance" / "maec_calls"
    calls = pd.read_parquet(folder / "calls_text.parquet", columns=["text"])["text"]
    refused = divided = 0
    for text in calls:
        if len(text.split()) < LEAST_WORDS:
            with pytest.raises(DocumentError):
                read_transcript(call(text))
            refused += 1
            continue
        disclosure = read_transcript(call(text))
        divided += len(disclosure.sections) == 2
        parts = [text[s.start : s.end] for s in disclosure.sections]
        assert "".join("".join(parts).split()) == "".join(text.split())
    assert (len(calls), refused) == (2165, 51)
    assert divided >= 300


def test_the_sentences_of_a_real_call_cite_it_exactly(tandem_data: Path) -> None:
    """One sentence a line, as the data set gives them."""
    folder = tandem_data / "finance" / "maec_calls"
    text = pd.read_parquet(folder / "calls_text.parquet", columns=["text"])["text"][0]
    disclosure = read_transcript(call(text))
    found = [s for part in disclosure.sections for s in split_sentences(disclosure.document, part)]
    assert all(text[s.start : s.end] == s.text for s in found)
    assert " ".join(s.text for s in found).split() == text.split()
