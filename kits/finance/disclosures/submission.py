"""Reads a full-submission text file: EDGAR's header, and the documents that follow it.

The header's fields are those of the EDGAR dissemination format (Public Dissemination Service
specification); files before 1996 call it `IMS-HEADER`. EDGAR's clock is New York's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from common.errors import DocumentError

__all__ = [
    "EDGAR_ZONE",
    "Filer",
    "Submission",
    "SubmissionDocument",
    "SubmissionHeader",
    "looks_like_submission",
    "read_submission",
]

EDGAR_ZONE = ZoneInfo("America/New_York")

_HEADER = re.compile(
    r"<(?P<name>SEC|IMS)-HEADER>(?P<body>.*?)</(?P=name)-HEADER>", re.DOTALL | re.IGNORECASE
)
_DOCUMENT = re.compile(r"^<DOCUMENT>[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_TEXT = re.compile(r"^<TEXT>[ \t]*\r?\n?", re.MULTILINE | re.IGNORECASE)
_END_OF_TEXT = re.compile(r"^</TEXT>", re.MULTILINE | re.IGNORECASE)
_TAG = re.compile(r"^<(TYPE|SEQUENCE|FILENAME|DESCRIPTION)>([^\r\n]*)", re.MULTILINE)
_ACCEPTED = re.compile(r"^<ACCEPTANCE-DATETIME>\s*(\d{14})", re.MULTILINE)
_FIELD = re.compile(r"^[ \t]*([A-Z][A-Z0-9 .&/()-]*?):[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_FILER = re.compile(
    r"^(?:FILER|SUBJECT COMPANY|REPORTING-OWNER|FILED BY|ISSUER):[ \t]*\r?$", re.MULTILINE
)
_SIC = re.compile(r"\[?(\d{3,4})\]?\s*$")
# a submission's main document, where its type does not equal the header's form
_MAIN_TYPES = re.compile(r"(?:10-KT?(?:405)?|10-K(?:SB|405)|10-QT?|8-K|20-F)(?:/A)?", re.IGNORECASE)


@dataclass(frozen=True)
class Filer:
    """A company that a submission is filed for.

    Args:
        cik: Its Central Index Key, ten digits.
        name: Its name as EDGAR conforms it.
        sic: Its Standard Industrial Classification, or None where none is given.
        state_of_incorporation: Two letters or digits, or "".
        fiscal_year_end: Month and day as MMDD, or "".
    """

    cik: str
    name: str
    sic: int | None
    state_of_incorporation: str
    fiscal_year_end: str


@dataclass(frozen=True)
class SubmissionHeader:
    """What EDGAR says of a submission.

    Args:
        accession_number: Such as "0000950117-01-500102".
        form: The submission type, such as "10-K" or "10-K/A".
        filed_date: The day from which it counts as filed.
        accepted: When EDGAR accepted it, with New York's zone; None in older files.
        period_of_report: The period's last day, or the day of an 8-K's event.
        filers: At least one.
        items: An 8-K's items, as captions or as the numbers of older files.
        document_count: How many public documents it says to hold, or None.
    """

    accession_number: str
    form: str
    filed_date: date
    accepted: datetime | None
    period_of_report: date | None
    filers: tuple[Filer, ...]
    items: tuple[str, ...] = ()
    document_count: int | None = None

    @property
    def is_amendment(self) -> bool:
        """Whether it amends an earlier filing."""
        return self.form.endswith("/A")

    @property
    def base_form(self) -> str:
        """The form without the mark of an amendment."""
        return self.form.removesuffix("/A")

    @property
    def counts_from(self) -> datetime:
        """When the public could know it: its acceptance, else the end of its filing day."""
        if self.accepted is not None:
            return self.accepted
        return datetime.combine(self.filed_date + timedelta(days=1), time(), EDGAR_ZONE)


@dataclass(frozen=True)
class SubmissionDocument:
    """One document of a submission: `source[start:end]`, without its SGML wrapping.

    Args:
        type: Such as "10-K" or "EX-99.1".
        sequence: Its place, from 1, or 0 where none is given.
        is_whole: Whether its end mark stands there.
    """

    type: str
    sequence: int
    filename: str
    description: str
    start: int
    end: int
    is_whole: bool


@dataclass(frozen=True)
class Submission:
    """A submission's header, where the file has one, and its documents in their order."""

    header: SubmissionHeader | None
    documents: tuple[SubmissionDocument, ...]

    @property
    def main(self) -> SubmissionDocument:
        """The document on the submission's form; else the first on a known form, else the first."""
        form = self.header.form.upper() if self.header else ""
        for document in self.documents:
            if document.type.upper() == form:
                return document
        known = [d for d in self.documents if _MAIN_TYPES.fullmatch(d.type)]
        return (known or list(self.documents))[0]


def looks_like_submission(source: str) -> bool:
    """Whether a text holds EDGAR's document marks."""
    return _DOCUMENT.search(source) is not None


def read_submission(source: str) -> Submission:
    """Reads the header and finds the documents of a full-submission text file.

    Args:
        source: The decoded file. A page saved with its `<DOCUMENT>` mark alone is taken too.

    Raises:
        DocumentError: There is no document, the header is faulty, or the main document is
            cut off.
    """
    header = _HEADER.search(source)
    documents = tuple(_documents(source))
    if not documents:
        raise _faulty("no <DOCUMENT> with a <TEXT>")
    submission = Submission(_header(header["body"]) if header else None, documents)
    if not submission.main.is_whole:
        raise _faulty("a main document that is cut off before </TEXT>")
    return submission


def _documents(source: str) -> Iterator[SubmissionDocument]:
    marks = [mark.start() for mark in _DOCUMENT.finditer(source)]
    for begin, limit in zip(marks, [*marks[1:], len(source)], strict=True):
        text = _TEXT.search(source, begin, limit)
        if text is None:
            continue
        tags = {m[1].upper(): m[2].strip() for m in _TAG.finditer(source, begin, text.start())}
        end = _END_OF_TEXT.search(source, text.end(), limit)
        sequence = tags.get("SEQUENCE", "")
        yield SubmissionDocument(
            type=tags.get("TYPE", ""),
            sequence=int(sequence) if sequence.isdigit() else 0,
            filename=tags.get("FILENAME", ""),
            description=tags.get("DESCRIPTION", ""),
            start=text.end(),
            end=limit if end is None else end.start(),
            is_whole=end is not None,
        )


def _header(body: str) -> SubmissionHeader:
    first_filer = _FILER.search(body)
    fields = list(_FIELD.findall(body[: first_filer.start()] if first_filer else body))
    single = dict(reversed(fields))  # of equal names the first counts
    form = single.get("CONFORMED SUBMISSION TYPE", "")
    filed = _date(single.get("FILED AS OF DATE", ""))
    filers = tuple(_filers(body))
    if not form or filed is None or not filers:
        raise _faulty("a header without form, filing date or filer")
    accepted = _ACCEPTED.search(body)
    count = single.get("PUBLIC DOCUMENT COUNT", "")
    return SubmissionHeader(
        accession_number=single.get("ACCESSION NUMBER", ""),
        form=form.upper(),
        filed_date=filed,
        accepted=_moment(accepted[1]) if accepted else None,
        period_of_report=_date(single.get("CONFORMED PERIOD OF REPORT", "")),
        filers=filers,
        items=tuple(value for name, value in fields if name == "ITEM INFORMATION" and value),
        document_count=int(count) if count.isdigit() else None,
    )


def _filers(body: str) -> Iterator[Filer]:
    marks = [mark.start() for mark in _FILER.finditer(body)]
    for begin, end in zip(marks, [*marks[1:], len(body)], strict=True):
        fields = dict(reversed(_FIELD.findall(body[begin:end])))
        cik = fields.get("CENTRAL INDEX KEY", "")
        if not cik.isdigit():
            continue
        sic = _SIC.search(fields.get("STANDARD INDUSTRIAL CLASSIFICATION", ""))
        yield Filer(
            cik=cik.zfill(10),
            name=fields.get("COMPANY CONFORMED NAME", ""),
            sic=int(sic[1]) if sic else None,
            state_of_incorporation=fields.get("STATE OF INCORPORATION", ""),
            fiscal_year_end=fields.get("FISCAL YEAR END", ""),
        )


def _date(digits: str) -> date | None:
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007  # a day has no zone
    except ValueError:
        return None


def _moment(digits: str) -> datetime:
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=EDGAR_ZONE)
    except ValueError as error:
        raise _faulty("an acceptance time that is no time") from error


def _faulty(found: str) -> DocumentError:
    return DocumentError(
        "full-submission text",
        expected="EDGAR's header and documents, each from <DOCUMENT> to </TEXT>",
        found=found,
        remedy="Download the complete submission text file again, or give its main document.",
    )
