"""Reads a filing into whole items, or says which could not be found whole.

An item of a 10-K, 10-Q or 20-F reaches from its heading to the next item's heading, and is
given only when nothing speaks for a longer one (`completeness`); an 8-K's items are read by
`current_report`. See docs/finance.md, "Disclosures".
"""

from __future__ import annotations

import re
from pathlib import Path

from common.errors import DocumentError, SectionNotFoundError
from kits.finance.disclosures.completeness import TOLERANCE, ItemJudge
from kits.finance.disclosures.current_report import read_current_report
from kits.finance.disclosures.document import Disclosure, Document, read_document
from kits.finance.disclosures.forms import FilingForm, item_name
from kits.finance.disclosures.items import find_contents, find_headings
from kits.finance.disclosures.transcript import read_transcript

__all__ = ["TOLERANCE", "detect_form", "read_disclosure", "read_filing"]

_COVER_CHARACTERS = 15_000
_FORM_LINE = re.compile(
    r"^\W*form\W{0,3}\s*(?P<form>\d{1,2}\s?[-‑–—]?\s?[A-Z]{1,3}\d{0,3}|[A-Z]-\d{1,2})"
    r"(?:/A)?[ \t]*(?:$|[^\w\s]|(?-i:[A-Z]))",
    re.IGNORECASE | re.MULTILINE,
)
_FORMS: dict[str, FilingForm] = {
    "10K": "10-K", "10K405": "10-K", "10KT": "10-K", "10KT405": "10-K", "10Q": "10-Q",
    "10QT": "10-Q", "8K": "8-K", "20F": "20-F",
}  # fmt: skip
_REPORT_LINE = re.compile(
    r"(?P<kind>annual|quarterly|current)\s+report\s+pursuant\s+to\s+section\s+13", re.IGNORECASE
)
_REPORTS: dict[str, FilingForm] = {"annual": "10-K", "quarterly": "10-Q", "current": "8-K"}
_COMMISSION = re.compile(r"securities\s+and\s+exchange\s+commission", re.IGNORECASE)
_INDEX = re.compile(r"cross[\s-]*reference\s+(?:index|sheet|table)", re.IGNORECASE)


def read_disclosure(path: Path) -> Disclosure:
    """Reads a 10-K, 10-Q, 8-K or 20-F, or an earnings call (plain text or PDF).

    Filings may be HTML (inline XBRL included), plain text, full-submission text or PDF.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is empty, binary, undecodable, or on no form read here.
        SectionNotFoundError: It is a filing in which no item heading can be found.
        MissingExtraError: It is a PDF and nothing here can read one.
    """
    document = read_document(path)
    if detect_form(document) is not None:
        return read_filing(document)
    is_filing = document.submission or _COMMISSION.search(document.text[:_COVER_CHARACTERS])
    if document.kind != "html" and not is_filing:
        return read_transcript(document)
    raise _unknown_form("no cover page of a known form")


def detect_form(document: Document) -> FilingForm | None:
    """Returns the form that EDGAR's mark or else the cover page names, None where none does.

    Raises:
        DocumentError: A form is named that is not read here.
    """
    if document.submission is not None and document.submission.main.type:
        return _form_named(document.submission.main.type)
    cover = document.text[:_COVER_CHARACTERS]
    line = _FORM_LINE.search(cover)
    if line is not None:
        return _form_named(line["form"])
    report = _REPORT_LINE.search(cover)
    return None if report is None else _REPORTS[report["kind"].lower()]


def read_filing(document: Document) -> Disclosure:
    """Reads the items of a filing.

    Raises:
        DocumentError: Nothing names a form that is read here.
        SectionNotFoundError: No item heading stands outside a contents table or index.
    """
    form = detect_form(document)
    if form is None:
        raise _unknown_form("no cover page of a known form")
    if form == "8-K":
        return read_current_report(document)
    headings = find_headings(document.text, form)
    if not headings:
        raise _no_headings(document, form)
    judge = ItemJudge.of(document, form)
    findings = judge.findings(headings)
    sections = tuple(finding.section for finding in findings.values() if finding.section)
    items = tuple(finding.status for finding in findings.values())
    withheld = {
        status.key: status.reason
        for status in items
        if status.state == "incomplete" or (status.state == "absent" and status.key == "item_1a")
    }
    remarks = (*judge.remarks, *(r for f in findings.values() if f.section for r in f.remarks))
    notes = (*remarks, *(f"{key} withheld: {reason}" for key, reason in withheld.items()))
    return Disclosure(
        document, form, tuple(sorted(sections, key=lambda s: s.start)), notes, withheld, items
    )


def _form_named(name: str) -> FilingForm:
    plain = re.sub(r"[\s‑–—-]|/A$", "", name.strip().upper())
    if plain not in _FORMS:
        raise _unknown_form(f"Form {name.strip().upper()}")
    return _FORMS[plain]


def _no_headings(document: Document, form: FilingForm) -> SectionNotFoundError:
    """Returns the refusal of a filing whose items stand in a table alone."""
    entries = find_contents(document.text, form).values()
    pages = [f"{item_name(e.item)} on page {e.page}" for e in entries if e.page is not None]
    by_index = bool(_INDEX.search(document.text)) and bool(pages)
    return SectionNotFoundError(
        form,
        expected="headings such as 'Item 1A. Risk Factors' in the body of the filing",
        found=(
            f"a cross-reference index in their place ({'; '.join(pages[:4])} ...)"
            if by_index
            else "none outside a contents table"
        ),
        remedy=(
            "Read the pages that the index names: its items have no ends that could be checked."
            if by_index
            else "Give the complete main document of the filing, not its index or an exhibit."
        ),
    )


def _unknown_form(found: str) -> DocumentError:
    return DocumentError(
        "disclosure",
        expected="a 10-K, 10-Q, 8-K or 20-F with its cover page, or an earnings call as plain text",
        found=found,
        remedy="Give the main document of the filing as published, or the call's transcript.",
    )
