"""`tandem finance assess | portfolio`: one company, or many, scored from disclosures and prices."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from kits.commands.terminal import as_json, print_text, shown_count, shown_steps
from kits.summaries import assessment_summary, portfolio_summary

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
    json_output: Annotated[bool, typer.Option("--json", help="Print assessment.json.")] = False,
) -> None:
    """Scores one company from a disclosure and, when given, its prices."""
    from kits.finance.pipeline import assess as run_assess

    day: date | None = as_of.date() if as_of else None
    with shown_steps() as report_step:
        run_assess(document, prices=prices, ticker=ticker, as_of=day, out=out, progress=report_step)
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
