"""Reads an earnings call's transcript as remarks and questions, where it tells them apart."""

from __future__ import annotations

import re

from common.errors import DocumentError
from kits.finance.disclosures.document import Disclosure, Document, Section

__all__ = ["LEAST_WORDS", "read_transcript"]

LEAST_WORDS = 50
"""A call with fewer words has no content to judge (70 of the MAEC calls are so short)."""

_QUESTIONS = r"(?:questions?|q\s?(?:&|and)\s?a\b|q-and-a)"
_CALL = (
    r"(?:the |our |this |up )*(?:conference |phone |telephone )?"
    r"(?:calls?|lines?|floor|it|things|session)"
)
_WE = r"(?:we (?:will|can|would|are)|we'll|we'd|we're|i'd|i'll|i would|happy to|glad to|pleased to)"
# what a speaker says when the prepared remarks are over
_HANDOVER = re.compile(
    rf"\bopen(?:ing)? (?:up )?{_CALL} (?:up )?(?:now )?(?:for|to) [^.?!]{{0,30}}{_QUESTIONS}"
    rf"|\bopen(?:ing)? (?:it )?(?:up )?(?:for|to) (?:your |any )?{_QUESTIONS}"
    rf"|\b(?:turn|hand)\b [^.?!]{{0,40}}\boperator\b[^.?!]{{0,60}}{_QUESTIONS}"
    rf"|\boperator,[^.?!]{{0,60}}{_QUESTIONS}"
    r"|\b(?:take|answer|begin|start|ready for|go to|move to|proceed (?:to|with))\b [^.?!]{0,40}"
    rf"{_QUESTIONS}[^.?!]{{0,40}}\boperator\b"
    rf"|\b{_WE}\b[^.?!]{{0,40}}\b(?:take|answer|open|ready for)\b"
    r"[^.?!]{0,20}(?:questions|q\s?&\s?a\b)",
    re.IGNORECASE,
)
# what only announces the handover, or belongs to the questions already
_NOT_YET = re.compile(
    r"\b(?:then|after\w*|following|before|later|once|prior to|when|finally|at that (?:point|time)|"
    r"as well|wrap up|at the (?:end|conclusion) of|will conclude by|will be followed|during|"
    r"(?:answer|period|question)[ -](?:session|period)s? for this|thank you for \w+ \w+ your|"
    r"for (?:all )?(?:of )?your questions and|concludes (?:our|the) (?:q\b|question))\b"
    r"|\b(?:last|final|next|more|another|follow-up|one|two|three|that|this) (?:\w+ )?questions?\b"
    r"|\binvestor relations\b|\bno (?:further|more)\b|\bfurther questions\b|\bas always\b",
    re.IGNORECASE,
)


def read_transcript(document: Document) -> Disclosure:
    """Splits a call at the handover to questions.

    Sections are "remarks" and "questions"; where no handover can be told, the one section
    "call". Speakers are not told apart: many transcripts do not name them.

    Raises:
        DocumentError: The call has fewer than `LEAST_WORDS` words.
    """
    text = document.text
    n_words = len(text.split())
    if n_words < LEAST_WORDS:
        raise DocumentError(
            "earnings call",
            expected=f"a transcript of at least {LEAST_WORDS} words",
            found=f"{n_words} words, too few to hold any content",
            remedy="Give the full transcript; an empty shell of a call cannot be assessed.",
        )
    handover = _handover(text)
    if handover is None:
        note = "no handover to questions was found: the call is read as one section"
        return Disclosure(
            document, "transcript", (_section("call", "Call", text, 0, len(text)),), (note,)
        )
    remarks = _section("remarks", "Remarks", text, 0, handover)
    questions = _section("questions", "Questions", text, handover, len(text))
    return Disclosure(document, "transcript", (remarks, questions))


def _handover(text: str) -> int | None:
    """Returns where the sentence after the handover begins, if both sides have content."""
    for match in _HANDOVER.finditer(text):
        begin = max(text.rfind(mark, 0, match.start()) for mark in ("\n", ". ", "? ", "! ")) + 1
        close = re.compile(r"[.?!](?=\s|$)|\n|$").search(text, match.end())
        end = close.end() if close else len(text)
        if _NOT_YET.search(text, begin, end):
            continue
        if min(len(text[:end].split()), len(text[end:].split())) >= LEAST_WORDS:
            return end
    return None


def _section(key: str, title: str, text: str, start: int, end: int) -> Section:
    piece = text[start:end]
    first = start + len(piece) - len(piece.lstrip())
    return Section(key, title, first, first + len(piece.strip()))
