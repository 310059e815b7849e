"""Reads a company's disclosure and keeps the way back to the file.

A `Document` holds the decoded file (`source`) and the text a reader would see (`text`);
sections and sentences are offsets into `text`, and `Document.source_span` leads from
there into `source`. Nothing here knows which form a document is on.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from common.errors import DocumentError, MissingInputError, SectionNotFoundError
from kits.finance.disclosures.rendering import Segment, render_html
from kits.finance.disclosures.sentences import sentence_spans

__all__ = ["Disclosure", "Document", "Section", "Sentence", "read_document", "split_sentences"]

_HTML = re.compile(r"<(?:!doctype\s+html|html|body|div|p|br|font|ix:header)\b", re.IGNORECASE)
_DECLARED = re.compile(
    rb"""<\?xml[^>]*encoding=["']([\w.-]+)|charset=["']?([\w.-]+)""", re.IGNORECASE
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = (
    (b"%PDF", "a PDF", "Export it as HTML or plain text, or download the filing's .htm file."),
    (b"\x1f\x8b", "a gzip archive", "Decompress it first (gunzip)."),
    (b"PK\x03\x04", "a ZIP archive or an Office file", "Unpack it, or save it as HTML or text."),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "Save it as HTML or plain text."),
    (b"{\\rtf", "a rich text file", "Save it as HTML or plain text."),
    (b"\x89PNG", "a PNG picture", "Give the filing itself, as HTML or plain text."),
    (b"\xff\xd8\xff", "a JPEG picture", "Give the filing itself, as HTML or plain text."),
    (b"GIF8", "a GIF picture", "Give the filing itself, as HTML or plain text."),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_MOST_CONTROL = 0.001  # share of control characters in a text, a stray one apart


@dataclass(frozen=True)
class Document:
    """A disclosure as read: the decoded file, and the text a reader sees.

    Args:
        source: The decoded file, line ends kept.
        text: What a reader sees; equal to `source` for plain text.
        kind: "html" or "text".
        digest: sha256 of the file's bytes, 64 hex digits.
        segments: For HTML, how spans of `text` stand in `source`; empty for plain text.
    """

    source: str = field(repr=False)
    text: str = field(repr=False)
    kind: Literal["html", "text"]
    digest: str
    segments: tuple[Segment, ...] = field(default=(), repr=False)

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Returns where `text[start:end]` stands in `source`, as `(start, end)`.

        The span may hold tags and entities between the words. An empty or blank span of
        separators that no source character stands for comes back as an empty span.
        """
        if self.kind == "text":
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
        key: "item_1a" (10-K), "part_2_item_1a" (10-Q), "remarks", "questions" or "call".
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
class Disclosure:
    """A document on a known form, with the sections that were found whole.

    Args:
        sections: In the order of the document; they never overlap.
        notes: What a reader should know about how the sections were found.
        withheld: Section key to the reason why it is not among `sections`.
    """

    document: Document
    form: Literal["10-K", "10-Q", "transcript"]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)

    def section(self, key: str) -> Section:
        """Returns the section named `key`, whole.

        Raises:
            SectionNotFoundError: It is absent, or it was found and may be incomplete.
        """
        for section in self.sections:
            if section.key == key:
                return section
        there = ", ".join(section.key for section in self.sections) or "no section"
        raise SectionNotFoundError(
            f"section {key} of a {self.form}",
            expected="the whole section between its heading and the next one",
            found=f"{self.withheld.get(key, 'no such heading')} (found whole: {there})",
            remedy="Give the complete filing as published, or name one of the sections found.",
        )


def read_document(path: Path) -> Document:
    """Reads an HTML or plain-text file.

    The encoding is the declared one, else UTF-8, else CP1252, each strictly.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is empty, binary, undecodable, or shows no text.
    """
    if not path.is_file():
        raise MissingInputError(
            "disclosure",
            expected="a file",
            found="a folder" if path.is_dir() else "nothing at the given path",
            remedy="Give the path of a 10-K, 10-Q or earnings call as HTML or plain text.",
        )
    content = path.read_bytes()
    _refuse_binary(content)
    source = _decode(content)
    kind: Literal["html", "text"] = "html" if _HTML.search(source) else "text"
    text, segments = render_html(source) if kind == "html" else (source, ())
    if not text.strip():
        raise DocumentError(
            "disclosure",
            expected="text to read",
            found="an empty document" if not content.strip() else "a page that shows no text",
            remedy="Check that the file was saved or downloaded completely.",
        )
    digest = hashlib.sha256(content).hexdigest()
    return Document(source=source, text=text, kind=kind, digest=digest, segments=segments)


def split_sentences(document: Document, section: Section) -> tuple[Sentence, ...]:
    """Splits a section into sentences, in order.

    Every character of the section that is not white space lies in exactly one sentence.
    """
    spans = sentence_spans(
        document.text, section.start, section.end, lines_may_wrap=document.kind == "text"
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


def _refuse_binary(content: bytes) -> None:
    for magic, found, remedy in _FOREIGN:
        if content.startswith(magic):
            raise DocumentError("disclosure", expected="HTML or text", found=found, remedy=remedy)


def _decode(content: bytes) -> str:
    for encoding in _encodings(content):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" not in text and len(_CONTROL.findall(text)) <= _MOST_CONTROL * len(text):
            return text
    raise DocumentError(
        "disclosure",
        expected="text in its declared encoding, UTF-8 or CP1252",
        found="bytes that none of these can decode as text",
        remedy="Save the document as UTF-8, or check that it is not a binary file.",
    )


def _encodings(content: bytes) -> list[str]:
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return [encoding]
    declared = _DECLARED.search(content[:4096])
    name = (declared[1] or declared[2]).decode("ascii") if declared else ""
    # a declaration that was read as ASCII cannot be of a wider encoding
    wide = name.lower().startswith(("utf-16", "utf-32", "ucs", "utf-7"))
    # ASCII and Latin-1 labels mean CP1252 in practice (WHATWG Encoding Standard, 4.2)
    narrow = name.lower().replace("_", "-") in ("ascii", "us-ascii", "iso-8859-1", "latin1")
    return [*([name] if name and not (wide or narrow) else []), "utf-8", "cp1252"]
