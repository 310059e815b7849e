"""What the routes stand on: the text model, the jobs, the threads; and the work they share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import TableError, TooLargeError
from common.serving.security import Caller
from common.serving.work import WorkThreads
from common.task import Provenance
from kits.finance.api.answers import ASSESSMENT, PORTFOLIO
from kits.finance.api.job import Job, Outcome
from kits.finance.api.jobs import JobStore
from kits.finance.api.questions import (
    AssessmentQuestion,
    ForecastQuestion,
    PortfolioQuestion,
    PriceQuestion,
)
from kits.finance.api.uploads import Upload
from kits.finance.holdings import Holding, holdings_of

if TYPE_CHECKING:
    from common.routing.router import ModelRouter

__all__ = ["AT_ONCE_BYTES", "FinanceService"]

AT_ONCE_BYTES = 8 << 20
"""Files of an assessment beyond which it has to be a job."""


@dataclass(frozen=True)
class FinanceService:
    """The finance kit behind the API.

    Args:
        router: Its "text" slot holds the kit's text model.
        jobs: Where work that outlasts a request goes, and results are kept.
        work: Where requests wait for work.
    """

    router: ModelRouter
    jobs: JobStore
    work: WorkThreads

    def assess_now(self, question: AssessmentQuestion, caller: Caller) -> tuple[Job, Outcome]:
        """Assesses one company within the request and keeps the results.

        Raises:
            TooLargeError: The files are too large for that.
            InputError: Document or prices cannot be used.
        """
        if question.n_bytes > AT_ONCE_BYTES:
            raise TooLargeError(
                "assessment",
                expected=f"files of at most {AT_ONCE_BYTES} bytes together",
                found="more",
                remedy="Send it as a job, with the header Prefer: respond-async.",
            )
        files = _AssessmentFiles(question)
        return self.jobs.run(
            ASSESSMENT, caller, receive=files.receive, work=lambda job: self._assess(job, question)
        )

    def assess_later(self, question: AssessmentQuestion, caller: Caller) -> Job:
        """Takes an assessment as a job.

        Raises:
            OverloadError: As many jobs wait as may.
        """
        files = _AssessmentFiles(question)
        return self.jobs.submit(
            ASSESSMENT, caller, receive=files.receive, work=lambda job: self._assess(job, question)
        )

    def portfolio_later(self, question: PortfolioQuestion, caller: Caller) -> Job:
        """Takes a portfolio as a job; its CSV is checked at once.

        Raises:
            TableError: The CSV is faulty, or names files that were not sent.
            OverloadError: As many jobs wait as may.
        """
        places = {name: _place(at, one) for at, (name, one) in enumerate(question.files.items())}
        holdings = holdings_of(
            question.portfolio, locate=lambda name: Path(places[name]) if name in places else None
        )
        _require_csv(holdings)

        def receive(folder: Path) -> None:
            for name, one in question.files.items():
                one.save(folder / places[name])

        return self.jobs.submit(
            PORTFOLIO,
            caller,
            receive=receive,
            work=lambda job: self._portfolio(job, holdings, question.portfolio),
        )

    def backtest(self, question: PriceQuestion | ForecastQuestion) -> dict[str, Any]:
        """Returns every test of VaR and ES forecasts.

        Raises:
            TableError: Prices or forecasts cannot be used.
        """
        from kits.finance.reporting.backtest import (
            backtest_forecasts,
            backtest_history,
            read_history,
        )

        if isinstance(question, ForecastQuestion):
            found = backtest_forecasts(
                question.losses,
                question.value_at_risk,
                question.expected_shortfall,
                level=question.level,
            )
            return found.to_json()
        with self.jobs.scratch() as folder:
            path = question.prices.save(folder / "prices.csv")
            history = read_history(path, ticker=question.ticker, as_of=question.as_of)
        return backtest_history(history, level=question.level, method=question.method).to_json()

    def _assess(self, job: Job, question: AssessmentQuestion) -> Outcome:
        from kits.finance.pipeline import assess

        prices = None if question.prices is None else job.inputs / "prices.csv"
        assessment = assess(
            job.inputs / f"document{question.document.suffix}",
            ticker=question.ticker,
            out=job.results,
            prices=prices,
            as_of=question.as_of,
            router=self.router,
            progress=job.report_step,
        )
        return Outcome(
            models=assessment.provenance,
            input_digest=assessment.document_digest,
        )

    def _portfolio(self, job: Job, holdings: tuple[Holding, ...], text: str) -> Outcome:
        from kits.finance.batch import assess_portfolio

        table = assess_portfolio(
            [_within(job.inputs, one) for one in holdings],
            out=job.results,
            router=self.router,
            progress=job.report_count,
        )
        models: dict[str, Provenance] = {}
        for row in table.assessed:
            for one in row.assessment.provenance if row.assessment else ():
                models.setdefault(one.model + (one.adapter_digest or ""), one)
        return Outcome(
            models=tuple(models.values()),
            input_digest=hashlib.sha256(text.encode()).hexdigest(),
        )


@dataclass(frozen=True)
class _AssessmentFiles:
    """Writes a question's files under names of our own."""

    question: AssessmentQuestion

    def receive(self, folder: Path) -> None:
        document, prices = self.question.document, self.question.prices
        document.save(folder / f"document{document.suffix}")
        if prices is not None:
            prices.save(folder / "prices.csv")


def _place(at: int, upload: Upload) -> str:
    return f"{at:05d}{upload.suffix}"


def _within(folder: Path, holding: Holding) -> Holding:
    prices = None if holding.prices is None else folder / holding.prices
    return replace(holding, document=folder / holding.document, prices=prices)


def _require_csv(holdings: tuple[Holding, ...]) -> None:
    """Refuses price files that could unfold hugely, as the assessment's schema does."""
    other = [one.line for one in holdings if one.prices and one.prices.suffix != ".csv"]
    if other:
        raise TableError(
            "portfolio",
            expected="price files that end in .csv",
            found=f"others on {len(other)} lines, the first on line {other[0]}",
            remedy="Send prices as plain CSV.",
        )
