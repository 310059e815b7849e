"""EDGAR's header becomes typed values, and the main document is told from the exhibits."""

from __future__ import annotations

import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from common.errors import DocumentError
from kits.finance.disclosures.decoding import decode
from kits.finance.disclosures.submission import looks_like_submission, read_submission

HEADER = """<SEC-HEADER>0000950144-08-000001.hdr.sgml : 20080303
<ACCEPTANCE-DATETIME>20080303171542
ACCESSION NUMBER:\t\t0000950144-08-000001
CONFORMED SUBMISSION TYPE:\t10-K/A
PUBLIC DOCUMENT COUNT:\t\t2
CONFORMED PERIOD OF REPORT:\t20071231
FILED AS OF DATE:\t\t20080303

FILER:

\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\t\t\tSAMPLE CORP
\t\tCENTRAL INDEX KEY:\t\t\t0000012345
\t\tSTANDARD INDUSTRIAL CLASSIFICATION:\tSTATE COMMERCIAL BANKS [6022]
\t\tSTATE OF INCORPORATION:\t\t\tWA
\t\tFISCAL YEAR END:\t\t\t1231
</SEC-HEADER>
"""


def document(kind: str, text: str, end: str = "</TEXT>\n</DOCUMENT>\n") -> str:
    return f"<DOCUMENT>\n<TYPE>{kind}\n<SEQUENCE>1\n<FILENAME>a.htm\n<TEXT>\n{text}\n{end}"


def test_the_header_s_fields_are_typed() -> None:
    """Times carry New York's zone; the SIC code is told from its words."""
    header = read_submission(HEADER + document("10-K/A", "text")).header
    assert header is not None
    assert (header.form, header.base_form, header.is_amendment) == ("10-K/A", "10-K", True)
    assert header.accepted == datetime(2008, 3, 3, 22, 15, 42, tzinfo=UTC)
    assert (header.filed_date, header.period_of_report) == (date(2008, 3, 3), date(2007, 12, 31))
    (filer,) = header.filers
    assert (filer.cik, filer.sic, filer.state_of_incorporation) == ("0000012345", 6022, "WA")


def test_a_filing_without_an_acceptance_time_counts_from_the_end_of_its_day() -> None:
    """EDGAR's older headers name the day alone."""
    header = read_submission(
        HEADER.replace("<ACCEPTANCE-DATETIME>20080303171542\n", "") + document("10-K", "text")
    ).header
    assert header is not None
    assert header.accepted is None
    assert header.counts_from == datetime(2008, 3, 4, 5, 0, tzinfo=UTC)


def test_the_main_document_is_the_one_of_the_header_s_form() -> None:
    """Wherever it stands; without a header, the first of a known form."""
    parts = document("EX-13", "annual report") + document("10-K/A", "the form")
    for source in (HEADER + parts, parts):
        main = read_submission(source).main
        assert source[main.start : main.end].strip() == "the form"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (HEADER + document("10-K/A", "Item 1. Busi", end=""), "cut off"),
        (HEADER + "<DOCUMENT>\n<TYPE>10-K\n", "no <DOCUMENT>"),
        (HEADER.replace("0000012345", "none") + document("10-K", "text"), "filer"),
        (HEADER.replace("20080303171542", "20081303171542") + document("10-K", "t"), "no time"),
    ],
)
def test_a_faulty_submission_is_refused(source: str, found: str) -> None:
    """Cut off inside the main document, or without what a header must hold."""
    assert looks_like_submission(source)
    with pytest.raises(DocumentError, match=found):
        read_submission(source)


def test_all_real_submissions_are_read_and_hold_as_many_documents_as_they_say(
    tandem_data: Path,
) -> None:
    """84 of the sample 8-Ks, of 1994 to 2009; the file's name says the filer's CIK."""
    packed = tandem_data / "finance" / "filings_samples" / "edgar_crawler_8K_raw.zip"
    n_read = n_accepted = 0
    with zipfile.ZipFile(packed) as archive:
        for name in (n for n in archive.namelist() if n.endswith(".txt")):
            submission = read_submission(decode(archive.read(name)))
            header = submission.header
            assert header is not None
            assert header.document_count == len(submission.documents)
            assert header.filers[0].cik.lstrip("0") == Path(name).name.split("_")[0]
            assert submission.main.type == header.form == "8-K"
            # accepted after half past five, it carries the next business day's date
            assert abs((header.counts_from.date() - header.filed_date).days) <= 3
            n_read += 1
            n_accepted += header.accepted is not None
    assert (n_read, n_accepted) == (84, 44)
