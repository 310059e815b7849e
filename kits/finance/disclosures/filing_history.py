"""The filings of one company as they were known at a moment.

A filing counts from the moment EDGAR accepted it. An amendment does not erase what it amends:
it stands before it, from its own acceptance on, and an item that it does not restate is still
the one of the earlier filing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time

from common.errors import InputError
from kits.finance.disclosures.submission import EDGAR_ZONE, SubmissionHeader

__all__ = ["CLOSE", "ReportVersions", "filings_as_of"]

CLOSE = time(16, 0)
"""The regular close of trading in New York: what is accepted later, prices cannot know."""


@dataclass(frozen=True)
class ReportVersions:
    """One report and its amendments, newest first.

    Args:
        form: Without the mark of an amendment.
        period_of_report: The period's last day, or the day of an 8-K's event.
        versions: At least one. An item is sought in them in this order.
    """

    form: str
    period_of_report: date | None
    versions: tuple[SubmissionHeader, ...]

    @property
    def latest(self) -> SubmissionHeader:
        """The version in force."""
        return self.versions[0]


def filings_as_of(
    filings: Iterable[SubmissionHeader], as_of: datetime | date
) -> tuple[ReportVersions, ...]:
    """Returns the reports known at a moment, the one of the latest period first.

    Args:
        filings: Headers of one company's submissions, in any order.
        as_of: A moment with its zone; or a day, which means its `CLOSE` in New York.

    Raises:
        InputError: The filings are of different companies, or the moment has no zone.
    """
    moment = _moment(as_of)
    known: dict[tuple[str, date | None, str], list[SubmissionHeader]] = {}
    companies: set[str] = set()
    for filing in filings:
        companies.add(filing.filers[0].cik)
        if filing.counts_from <= moment:
            known.setdefault(_report(filing), []).append(filing)
    if len(companies) > 1:
        raise InputError(
            "filings",
            expected="submissions of one company",
            found=f"{len(companies)} different filers",
            remedy="Divide them by the filer's CIK first.",
        )
    reports = [
        ReportVersions(form, period, tuple(sorted(versions, key=_age, reverse=True)))
        for (form, period, _), versions in known.items()
    ]
    return tuple(sorted(reports, key=_recency, reverse=True))


def _report(filing: SubmissionHeader) -> tuple[str, date | None, str]:
    """A report is a form and period; two events of one day are two 8-Ks, never versions."""
    current = filing.base_form == "8-K" and not filing.is_amendment
    return filing.base_form, filing.period_of_report, filing.accession_number if current else ""


def _age(filing: SubmissionHeader) -> tuple[datetime, bool, str]:
    return filing.counts_from, filing.is_amendment, filing.accession_number


def _recency(report: ReportVersions) -> tuple[date, datetime]:
    return report.period_of_report or date.min, report.latest.counts_from


def _moment(as_of: datetime | date) -> datetime:
    if not isinstance(as_of, datetime):
        return datetime.combine(as_of, CLOSE, EDGAR_ZONE)
    if as_of.tzinfo is None:
        raise InputError(
            "as-of moment",
            expected="a moment with its time zone",
            found="one without",
            remedy="Give it as 2024-02-01T16:00-05:00, or give a day.",
        )
    return as_of
