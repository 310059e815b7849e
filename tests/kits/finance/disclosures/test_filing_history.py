"""What was known of a company at a moment, amendments included."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from kits.finance.disclosures.filing_history import filings_as_of
from kits.finance.disclosures.submission import EDGAR_ZONE, Filer, SubmissionHeader

YEAR_END = date(2007, 12, 31)


def header(
    form: str,
    accepted: datetime | None,
    *,
    period: date = YEAR_END,
    number: int = 1,
    cik: str = "1",
) -> SubmissionHeader:
    day = accepted.date() if accepted else date(2008, 3, 3)
    filer = Filer(cik.zfill(10), "SAMPLE CORP", None, "WA", "1231")
    return SubmissionHeader(f"0-08-{number:06}", form, day, accepted, period, (filer,))


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2008, 3, day, hour, minute, tzinfo=EDGAR_ZONE)


ORIGINAL = header("10-K", at(3, 17, 15))
AMENDMENT = header("10-K/A", at(20, 9), number=2)


@pytest.mark.parametrize(
    ("as_of", "known"),
    [
        (at(3, 17, 14), []),
        (at(3, 17, 15), [ORIGINAL]),
        (date(2008, 3, 3), []),  # accepted after the close of that day
        (date(2008, 3, 4), [ORIGINAL]),
        (date(2008, 3, 20), [AMENDMENT, ORIGINAL]),
    ],
)
def test_a_filing_counts_from_its_acceptance(
    as_of: datetime | date, known: list[SubmissionHeader]
) -> None:
    """And an amendment stands before what it amends from its own."""
    reports = filings_as_of([AMENDMENT, ORIGINAL], as_of)
    assert [list(report.versions) for report in reports] == ([known] if known else [])


def test_the_report_of_the_latest_period_comes_first() -> None:
    """Even when an older one was amended later; two 8-Ks of one day are two reports."""
    older = header("10-K", at(1, 9), period=date(2006, 12, 31), number=3)
    late = header("10-K/A", at(25, 9), period=date(2006, 12, 31), number=4)
    events = [header("8-K", at(10, h), period=date(2007, 6, 1), number=h) for h in (9, 11)]
    reports = filings_as_of([late, older, ORIGINAL, *events], at(31, 12))
    assert [report.latest for report in reports] == [ORIGINAL, events[1], events[0], late]
    assert reports[-1].versions == (late, older)


def test_filings_of_two_companies_or_a_moment_without_a_zone_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(InputError, match="2 different filers"):
        filings_as_of([ORIGINAL, header("10-K", at(4, 9), cik="2")], at(31, 12))
    with pytest.raises(InputError, match="without"):
        filings_as_of([ORIGINAL], datetime(2008, 3, 31))  # noqa: DTZ001  # the fault


@given(st.lists(st.integers(0, 60 * 24 * 30), min_size=1, max_size=8), st.integers(0, 60 * 24 * 31))
def test_nothing_accepted_later_is_ever_known(minutes: list[int], as_of: int) -> None:
    """And nothing accepted before is ever missing."""
    start = at(1, 0)
    filings = [
        header("10-K" if n == 0 else "10-K/A", start + timedelta(minutes=m), number=n)
        for n, m in enumerate(minutes)
    ]
    moment = start + timedelta(minutes=as_of)
    known = [v for report in filings_as_of(filings, moment) for v in report.versions]
    assert sorted(v.accession_number for v in known) == sorted(
        filing.accession_number for filing in filings if filing.counts_from <= moment
    )
