"""Reads a 10-K or 10-Q into whole items, or says which could not be found whole.

Two independent readings are compared: our own search for item headings, and edgartools on
the same HTML. An item reaches from its heading to the next item's heading; it is given
only when nothing speaks for a longer one. See docs/finance.md, "Disclosures".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import DocumentError, SectionNotFoundError
from kits.finance.disclosures.document import Disclosure, Document, Section, read_document
from kits.finance.disclosures.edgar_sections import EdgarSection, WordIndex, read_edgar_sections
from kits.finance.disclosures.items import ITEMS, FilingForm, Heading, find_headings
from kits.finance.disclosures.transcript import read_transcript

__all__ = ["TOLERANCE", "detect_form", "read_disclosure", "read_filing"]

TOLERANCE = 0.05
"""Two readings of an item agree when their lengths in words differ by this share or less."""

_TOLERANCE_WORDS = 25  # a page footer or two, which the readings count differently
_COVER_CHARACTERS = 15_000
_LEAST_WORDS = 50  # of an item that is never short without saying why
_LONG_ITEMS = frozenset({"item_1", "item_1a", "item_7", "item_8", "part_1_item_1", "part_1_item_2"})
_RISK_ITEMS = frozenset({"item_1a", "part_2_item_1a"})
# a filing may end with these: Form 10-K ended with Item 14 until 2003
_LAST_ITEMS = frozenset({"item_14", "item_15", "item_16", "part_2_item_6"})
_FORM_LINE = re.compile(
    r"^\W*form\W{0,3}\s*(?P<form>\d{1,2}\s?[-‑–—]?\s?[A-Z]{1,3}\d{0,3}|[A-Z]-\d{1,2})"
    r"(?:/A)?[ \t]*(?:$|[^\w\s]|(?-i:[A-Z]))",
    re.IGNORECASE | re.MULTILINE,
)
_FORMS: dict[str, FilingForm] = {
    "10K": "10-K", "10K405": "10-K", "10KT": "10-K", "10Q": "10-Q", "10QT": "10-Q",
}  # fmt: skip
_REPORT_LINE = re.compile(
    r"(?P<kind>annual|quarterly)\s+report\s+pursuant\s+to\s+section\s+13", re.IGNORECASE
)
_COMMISSION = re.compile(r"securities\s+and\s+exchange\s+commission", re.IGNORECASE)
_SHORT_BY_RIGHT = re.compile(
    r"not\s+(?:required|applicable)|smaller\s+reporting|none\b|no\s+material\s+change|"
    r"incorporated\s+(?:herein\s+)?by\s+reference|reserved|omitted|"
    r"(?:set\s+forth|included|contained|appears?|described|discussed|beginning)\b|\b(?:see|refer)\b",
    re.IGNORECASE,
)
_PART_LINE = re.compile(r"\n\W*part[ \t]+(?:[IV]+|\d)\b[^\n]{0,40}\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class _Finding:
    """What became of one heading: a section (with notes), or the reason there is none."""

    section: Section | None
    remarks: tuple[str, ...]


def read_disclosure(path: Path) -> Disclosure:
    """Reads a 10-K or 10-Q (HTML or plain text), or an earnings call (plain text).

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is empty, binary, undecodable, or on no form read here.
        SectionNotFoundError: It is a filing in which no item heading can be found.
    """
    document = read_document(path)
    if detect_form(document) is not None:
        return read_filing(document)
    if document.kind == "text" and not _COMMISSION.search(document.text[:_COVER_CHARACTERS]):
        return read_transcript(document)
    raise _unknown_form("no cover page of a known form")


def detect_form(document: Document) -> FilingForm | None:
    """Returns the form that the cover page names, or None where it names none.

    Raises:
        DocumentError: The cover page names a form that is not read here.
    """
    cover = document.text[:_COVER_CHARACTERS]
    line = _FORM_LINE.search(cover)
    if line is not None:
        name = re.sub(r"[\s‑–—-]", "", line["form"]).upper()
        if name not in _FORMS:
            raise _unknown_form(f"Form {line['form'].strip().upper()}")
        return _FORMS[name]
    report = _REPORT_LINE.search(cover)
    if report is None:
        return None
    return "10-K" if report["kind"].lower() == "annual" else "10-Q"


def read_filing(document: Document) -> Disclosure:
    """Reads the items of a 10-K or 10-Q.

    Raises:
        DocumentError: The cover page names neither form.
        SectionNotFoundError: No item heading stands outside a contents table.
    """
    form = detect_form(document)
    if form is None:
        raise _unknown_form("no cover page of a known form")
    headings = find_headings(document.text, form)
    if not headings:
        raise SectionNotFoundError(
            form,
            expected="headings such as 'Item 1A. Risk Factors' in the body of the filing",
            found="none outside a contents table",
            remedy="Give the complete main document of the filing, not its index or an exhibit.",
        )
    reading = _Reading.of(document, form)
    findings = {
        heading.item.key: reading.judge(heading, following)
        for heading, following in zip(headings, (*headings[1:], None), strict=True)
    }
    sections = tuple(finding.section for finding in findings.values() if finding.section)
    withheld = {k: "; ".join(f.remarks) for k, f in findings.items() if f.section is None}
    withheld |= reading.absent(form, findings)
    remarks = (*reading.remarks, *(r for f in findings.values() if f.section for r in f.remarks))
    notes = (*remarks, *(f"{key} withheld: {reason}" for key, reason in withheld.items()))
    return Disclosure(document, form, sections, notes, withheld)


@dataclass(frozen=True)
class _Reading:
    """A filing's text with its words counted, and edgartools' sections beside it."""

    text: str
    words: WordIndex
    edgar: Mapping[str, EdgarSection]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, document: Document, form: FilingForm) -> _Reading:
        words = WordIndex(document.text)
        if document.kind == "text":
            remark = "plain text: items were found by their headings alone"
            return cls(document.text, words, {}, (remark,))
        edgar, fault = read_edgar_sections(document.source, form)
        return cls(document.text, words, edgar, (fault,) if fault else ())

    def judge(self, heading: Heading, following: Heading | None) -> _Finding:
        """Decides whether the span between two headings is the whole item."""
        section = self._between(heading, following)
        n_words = self.words.count(section.start, section.end)
        edgar = self.edgar.get(heading.item.key)
        agreed = edgar is not None and _agree(n_words, len(edgar.words))
        fault = self._fault(heading, following, section, n_words=n_words, agreed=agreed)
        if fault is None and edgar is not None and not agreed:
            fault = self._longer_elsewhere(edgar, section, n_words=n_words, following=following)
        if fault is not None:
            return _Finding(None, (fault,))
        name = _name(heading)
        remarks = []
        if edgar is None and self.edgar:
            remarks.append(f"{name}: found by its heading; edgartools did not find it")
        elif edgar is not None and not agreed:
            remarks.append(
                f"{name}: the whole span to the next heading is given, {n_words} words; "
                f"edgartools gives {len(edgar.words)}"
            )
        remarks += self._remarks(heading, following, section, n_words=n_words)
        return _Finding(section, tuple(remarks))

    def absent(self, form: FilingForm, found: Mapping[str, _Finding]) -> dict[str, str]:
        """Returns why there is no Item 1A, or another item that edgartools alone found."""
        reasons = {}
        for item in ITEMS[form]:
            if item.key in found:
                continue
            edgar = self.edgar.get(item.key)
            if edgar is not None:
                reasons[item.key] = (
                    f"edgartools gives {len(edgar.words)} words, but no heading "
                    f"'Item {item.number}' stands in the body"
                )
            elif item.key == "item_1a":
                reasons[item.key] = "no heading 'Item 1A' stands in the body"
        return reasons

    def _between(self, heading: Heading, following: Heading | None) -> Section:
        end = len(self.text) if following is None else following.start
        tail = self.text[max(end - 150, heading.end) : end]
        part_line = _PART_LINE.search(tail) if following is not None else None
        if part_line is not None:
            end -= len(tail) - part_line.start()
        end = heading.start + len(self.text[heading.start : end].rstrip())
        title = " ".join(self.text[heading.start : heading.end].split())
        return Section(heading.item.key, title[:120], heading.start, end)

    def _fault(
        self,
        heading: Heading,
        following: Heading | None,
        section: Section,
        *,
        n_words: int,
        agreed: bool,
    ) -> str | None:
        name = _name(heading)
        if not heading.named and heading.item.key in _RISK_ITEMS:
            return f"the heading {name} does not say 'Risk Factors'"
        if following is None:
            whole = heading.item.key in _LAST_ITEMS
            return None if whole else f"no item heading follows {name}: the filing may be cut off"
        if not following.named and not agreed:
            return f"{name} is followed by a heading without the form's caption"
        after = [start for start in (*heading.rivals, *following.rivals) if start > section.end]
        unsure = self.words.count(section.end, max(after, default=section.end))
        if after and not agreed and not _agree(n_words, n_words + unsure):
            return f"{name} or {_name(following)} has a second heading further on"
        body = self.text[heading.end : section.end]
        if heading.item.key in _LONG_ITEMS | _RISK_ITEMS and n_words < _LEAST_WORDS:
            return None if _SHORT_BY_RIGHT.search(body) else f"{name} has only {n_words} words"
        return None

    def _longer_elsewhere(
        self, edgar: EdgarSection, section: Section, *, n_words: int, following: Heading | None
    ) -> str | None:
        """Returns a fault where edgartools goes on beyond our end and knows the next item too.

        Where it does not know the next item, it has run past that heading, which stands in
        the text; then our end is the better one.
        """
        if len(edgar.words) < n_words or following is None:
            return None
        if following.named and following.item.key not in self.edgar:
            return None
        place = self.words.find(edgar.words)
        if place is not None and _agree(n_words, self.words.count(section.start, place[1])):
            return None
        return f"edgartools gives {len(edgar.words)} words where the headings span {n_words}"

    def _remarks(
        self, heading: Heading, following: Heading | None, section: Section, *, n_words: int
    ) -> list[str]:
        name = _name(heading)
        remarks = []
        short = heading.item.key in _RISK_ITEMS and n_words < 2 * _LEAST_WORDS
        if short and _SHORT_BY_RIGHT.search(self.text, heading.end, section.end):
            remarks.append(f"{name}: short by right ({n_words} words: not required, or refers)")
        if not heading.named:
            remarks.append(f"{name}: its caption is not the form's")
        if (
            following is not None
            and heading.item.key == "item_1a"
            and following.rank > heading.rank + 3
        ):
            remarks.append(f"{name}: the next heading found is {_name(following)}")
        return remarks


def _agree(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= max(TOLERANCE * ours, _TOLERANCE_WORDS)


def _name(heading: Heading) -> str:
    item = heading.item
    return (
        f"Part {'I' * item.part}, Item {item.number}"
        if item.key[0] == "p"
        else f"Item {item.number}"
    )


def _unknown_form(found: str) -> DocumentError:
    return DocumentError(
        "disclosure",
        expected="a 10-K or 10-Q with its cover page, or an earnings call as plain text",
        found=found,
        remedy="Give the main document of the filing as published, or the call's transcript.",
    )
