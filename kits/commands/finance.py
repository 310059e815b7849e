"""`tandem finance assess | portfolio | backtest | card | replay`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from kits.commands.terminal import as_json, print_text, shown_count, shown_steps
from kits.summaries import (
    assessment_summary,
    backtest_summary,
    portfolio_summary,
    replay_summary,
)

__all__ = ["finance"]

finance = typer.Typer(no_args_is_help=True, help="Risk from disclosures and prices.")

_AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="Nothing later than this day is used."),
]


@finance.command()
def assess(
    document: Annotated[Path, typer.Argument(help="10-K or 10-Q (HTML), or an earnings call.")],
    *,
    ticker: Annotated[str, typer.Option(help="The company's ticker in the price table.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and assessment.json.")],
    prices: Annotated[
        Path | None, typer.Option(help="Daily prices, CSV or Parquet; without: text part only.")
    ] = None,
    as_of: _AsOf = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep copies of the inputs in TANDEM_HOME, for replay.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print assessment.json.")] = False,
) -> None:
    """Scores one company from a disclosure and, when given, its prices."""
    from kits.finance.governance.archive import Archive
    from kits.finance.pipeline import assess as run_assess

    with shown_steps() as report_step:
        run_assess(
            document,
            prices=prices,
            ticker=ticker,
            as_of=_day(as_of),
            out=out,
            progress=report_step,
            archive=Archive.from_settings() if keep else None,
        )
    written = json.loads((out / "assessment.json").read_text(encoding="utf-8"))
    print_text(
        as_json(written) if json_output else f"{assessment_summary(written)}\nwritten to {out}"
    )


@finance.command()
def portfolio(
    portfolio_csv: Annotated[
        Path,
        typer.Argument(
            metavar="PORTFOLIO.csv",
            help="Columns ticker, document; optionally prices, weight, as_of, currency.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for dashboard.html and the tables.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print portfolio.json.")] = False,
) -> None:
    """Scores every company of a portfolio; one that cannot be scored is listed with its reason.

    Exit status 0 where at least one company was assessed, 1 where none was.
    """
    from kits.finance.batch import assess_portfolio
    from kits.finance.holdings import read_holdings

    holdings = read_holdings(portfolio_csv)
    with shown_count("companies") as report_count:
        table = assess_portfolio(holdings, out=out, progress=report_count)
    written = json.loads((out / "portfolio.json").read_text(encoding="utf-8"))
    print_text(
        as_json(written) if json_output else f"{portfolio_summary(written)}\nwritten to {out}"
    )
    if not table.assessed:
        sys.exit(1)


@finance.command()
def backtest(
    *,
    prices: Annotated[Path, typer.Option(help="Daily prices, CSV or Parquet.")],
    ticker: Annotated[
        str | None, typer.Option(help="Which ticker; a file of one alone needs none.")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence level of VaR and ES.")] = 0.99,
    method: Annotated[
        str, typer.Option(help="How VaR is forecast, such as historical, fhs-garch, garch-t, evt.")
    ] = "fhs-garch",
    days: Annotated[
        int | None, typer.Option(min=1, help="Days to test, the last ones; every day without.")
    ] = None,
    as_of: _AsOf = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print every figure.")] = False,
) -> None:
    """Tests VaR and ES forecasts on past days, each made from the days before it alone."""
    from kits.finance.reporting.backtest import backtest_history, read_history

    with shown_steps() as report_step:
        report_step("Reading the prices")
        history = read_history(prices, ticker=ticker, as_of=_day(as_of))
        report_step("Forecasting each day from the days before it")
        found = backtest_history(history, level=level, method=method, days=days)
    written = {"ticker": history.ticker, **found.to_json()}
    print_text(as_json(written) if json_output else backtest_summary(written))


@finance.command()
def card(
    out: Annotated[Path, typer.Option(help="Folder for model_card.html and model_card.md.")],
) -> None:
    """Writes the model card: purpose, data, method, limits, performance, monitoring."""
    from kits.finance.reporting.model_card import write_model_card

    for path in write_model_card(out):
        print_text(f"written: {path}")


@finance.command()
def replay(
    record: Annotated[
        Path, typer.Argument(help="record.json of an assessment, or the folder it lies in.")
    ],
    *,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder with inputs that lie elsewhere now; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what comes out; without it only compared.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print every difference.")] = False,
) -> None:
    """Makes an assessment again from its record and compares every byte.

    Exit status 0 where all files came out the same, 1 where one did not.
    """
    from kits.finance.replay import replay as run_replay

    with shown_steps() as report_step:
        found = run_replay(record, inputs=inputs or (), out=out, progress=report_step)
    written = asdict(found)
    print_text(as_json(written) if json_output else replay_summary(written))
    if not found.identical:
        sys.exit(1)


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()
