"""Reads a company's disclosure and keeps the way back to the file.

A `Document` holds the decoded file (`source`) and the text a reader would see (`text`);
sections and sentences are offsets into `text`, and `Document.source_span` leads from
there into `source`. Nothing here knows which form a document is on.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from common.errors import DocumentError, SectionNotFoundError
from kits.finance.disclosures.decoding import decode, read_bytes
from kits.finance.disclosures.pdf import looks_like_pdf, read_pdf
from kits.finance.disclosures.rendering import Segment, render_html
from kits.finance.disclosures.sentences import sentence_spans
from kits.finance.disclosures.submission import (
    Submission,
    SubmissionHeader,
    looks_like_submission,
    read_submission,
)

__all__ = [
    "Disclosure",
    "Document",
    "Form",
    "ItemState",
    "ItemStatus",
    "Section",
    "Sentence",
    "read_document",
    "split_sentences",
]

_XML = re.compile(r"\s*(?:<\?xml\b|<(?:xbrli:)?xbrl\b)", re.IGNORECASE)
_HTML = re.compile(r"<(?:!doctype\s+html|html|body|div|p|br|font|ix:header)\b", re.IGNORECASE)

Form = Literal["10-K", "10-Q", "8-K", "20-F", "transcript"]
ItemState = Literal["complete", "by_reference", "omitted", "incomplete", "absent"]


@dataclass(frozen=True)
class Document:
    """A disclosure as read: the decoded file, and the text a reader sees.

    Args:
        source: The decoded file, line ends kept; of a PDF its extracted text.
        text: What a reader sees: of a full submission, its main document alone.
        kind: "html", "text" or "pdf".
        digest: sha256 of the file's bytes, 64 hex digits.
        segments: How spans of `text` stand in `source`; empty where both are equal.
        main: Where the main document stands in `source`; None where it is all of it.
        submission: Header and documents, where the file is a full submission.
    """

    source: str = field(repr=False)
    text: str = field(repr=False)
    kind: Literal["html", "text", "pdf"]
    digest: str
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    main: tuple[int, int] | None = None
    submission: Submission | None = field(default=None, repr=False)

    @property
    def main_source(self) -> str:
        """The part of `source` that `text` was made from."""
        return self.source if self.main is None else self.source[slice(*self.main)]

    @property
    def header(self) -> SubmissionHeader | None:
        """EDGAR's header, where the file has one."""
        return self.submission.header if self.submission else None

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Returns where `text[start:end]` stands in `source`, as `(start, end)`.

        The span may hold tags and entities between the words. An empty or blank span of
        separators that no source character stands for comes back as an empty span.
        """
        if not self.segments:
            return start, end
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end) - 1
        if first > last:
            position = self.segments[first].source_start if first < len(self.segments) else 0
            return position, position
        head, tail = self.segments[first], self.segments[last]
        source_start, _ = _into(head, max(start, head.text_start))
        _, source_end = _into(tail, min(end, tail.text_end) - 1)
        return source_start, source_end

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.text_start for segment in self.segments]

    @cached_property
    def _ends(self) -> list[int]:
        return [segment.text_end for segment in self.segments]


@dataclass(frozen=True)
class Section:
    """A part of a document: `document.text[start:end]`, heading included.

    Args:
        key: "item_1a" (10-K, 20-F), "part_2_item_1a" (10-Q), "item_2_02" (8-K), "remarks",
            "questions" or "call".
        title: The heading in words, such as "Item 1A. Risk Factors".
    """

    key: str
    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """One sentence, or a heading or table row that stands alone.

    Args:
        text: Exactly `document.text[start:end]`, white space inside kept.
        section: The key of the section it was found in.
    """

    text: str
    start: int
    end: int
    section: str


@dataclass(frozen=True)
class ItemStatus:
    """What became of one item of a form.

    Args:
        key: The section's key.
        name: "Item 1A", or "Part II, Item 1A" in a 10-Q.
        state: "complete"; "by_reference" (the item points to another document); "omitted"
            (it says that it need not be given); "incomplete" (it is there, and is withheld);
            "absent" (it is not there). Only the first three have a section.
        reason: Why; empty for a complete item of which there is nothing to say.
        n_words: Words found, heading included; 0 where it is absent.
    """

    key: str
    name: str
    state: ItemState
    reason: str
    n_words: int


@dataclass(frozen=True)
class Disclosure:
    """A document on a known form, with the sections that were found whole.

    Args:
        sections: In the order of the document; they never overlap.
        notes: What a reader should know about how the sections were found.
        withheld: Section key to the reason why it is not among `sections`.
        items: What became of each item of the form, in its order; empty for a call.
        joint: Key of an item that is given together with another, to the key of the other.
    """

    document: Document
    form: Form
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    items: tuple[ItemStatus, ...] = ()
    joint: Mapping[str, str] = field(default_factory=dict)

    def section(self, key: str) -> Section:
        """Returns the section named `key`, whole; of a joint item, the section of both.

        Raises:
            SectionNotFoundError: It is absent, or it was found and may be incomplete.
        """
        for section in self.sections:
            if section.key == self.joint.get(key, key):
                return section
        there = ", ".join(section.key for section in self.sections) or "no section"
        raise SectionNotFoundError(
            f"section {key} of a {self.form}",
            expected="the whole section between its heading and the next one",
            found=f"{self.withheld.get(key, 'no such heading')} (found whole: {there})",
            remedy="Give the complete filing as published, or name one of the sections found.",
        )

    def item(self, key: str) -> ItemStatus:
        """Returns what became of an item.

        Raises:
            SectionNotFoundError: The form has no such item.
        """
        for status in self.items:
            if status.key == key:
                return status
        raise SectionNotFoundError(
            f"item {key} of a {self.form}",
            expected="an item of the form",
            found="none of that key",
            remedy="Name one of `Disclosure.items`.",
        )


def read_document(path: Path) -> Document:
    """Reads an HTML page, plain text, a full-submission text file or a PDF.

    The encoding is the declared one, else UTF-8, else CP1252, each strictly.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is empty, binary, undecodable, cut off, or shows no text.
        MissingExtraError: It is a PDF and nothing here can read one.
    """
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if looks_like_pdf(content):
        text = read_pdf(content)
        return Document(source=text, text=text, kind="pdf", digest=digest)
    source = decode(content)
    submission = read_submission(source) if looks_like_submission(source) else None
    main = (submission.main.start, submission.main.end) if submission else None
    body = source[slice(*main)] if main else source
    kind: Literal["html", "text"] = "html" if _HTML.search(body) else "text"
    if kind == "text" and _XML.match(body):
        raise DocumentError(
            "disclosure",
            expected="a filing as HTML, text or PDF, or a call as text",
            found="XML that holds no page, as an XBRL instance is",
            remedy="Give the filing's main document; an instance's facts are read by read_facts.",
        )
    text, segments = render_html(body) if kind == "html" else (body, ())
    if not text.strip():
        raise DocumentError(
            "disclosure",
            expected="text to read",
            found="an empty document" if not body.strip() else "a page that shows no text",
            remedy="Check that the file was saved or downloaded completely.",
        )
    if main:
        segments = _moved(segments or (Segment(0, len(body), 0, len(body)),), main[0])
    return Document(source, text, kind, digest, segments, main, submission)


def _moved(segments: tuple[Segment, ...], by: int) -> tuple[Segment, ...]:
    return tuple(
        Segment(one.text_start, one.text_end, one.source_start + by, one.source_end + by)
        for one in segments
    )


def split_sentences(document: Document, section: Section) -> tuple[Sentence, ...]:
    """Splits a section into sentences, in order.

    Every character of the section that is not white space lies in exactly one sentence.
    """
    spans = sentence_spans(
        document.text, section.start, section.end, lines_may_wrap=document.kind != "html"
    )
    return tuple(
        Sentence(text=document.text[start:end], start=start, end=end, section=section.key)
        for start, end in spans
    )


def _into(segment: Segment, position: int) -> tuple[int, int]:
    """Returns the source span of the one text character at `position`."""
    if segment.text_end - segment.text_start != segment.source_end - segment.source_start:
        return segment.source_start, segment.source_end
    offset = segment.source_start + position - segment.text_start
    return offset, offset + 1
