"""The `tandem` command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import InputError, TandemError
from kits.commands.audit import audit
from kits.commands.keys import keys
from kits.commands.server import purge, serve
from kits.summaries import assessment_summary, reading_summary

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Links models, tunes them with small adapters; two kits: finance and medical.",
)
finance = typer.Typer(no_args_is_help=True, help="Risk from disclosures and prices.")
medical = typer.Typer(no_args_is_help=True, help="CT and report read together (research use).")
app.add_typer(finance, name="finance")
app.add_typer(medical, name="medical")
app.command()(serve)
app.command()(purge)
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")

EXIT_FAILED = 1
EXIT_UNUSABLE_INPUT = 2


def main() -> None:
    """Runs the command line: exit status 0, 2 for unusable input, 1 for other failures."""
    # Libraries announce their own future changes; a user of the command cannot act on them.
    warnings.simplefilter("ignore", FutureWarning)
    try:
        app()
    except TandemError as error:
        print(f"tandem: {error}", file=sys.stderr)  # noqa: T201  # the command's own output
        status = EXIT_UNUSABLE_INPUT if isinstance(error, InputError) else EXIT_FAILED
        sys.exit(status)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for inputs and results.")] = Path("tandem-demo"),
) -> None:
    """Runs both kits on bundled inputs, offline."""
    from kits.demo import run_demo

    with _progress() as report_step:
        table = run_demo(out, progress=report_step)
    _print(table)


@finance.command()
def assess(
    document: Annotated[Path, typer.Argument(help="10-K or 10-Q (HTML), or an earnings call.")],
    *,
    ticker: Annotated[str, typer.Option(help="The company's ticker in the price table.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and assessment.json.")],
    prices: Annotated[
        Path | None, typer.Option(help="Daily prices, CSV or Parquet; without: text part only.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=["%Y-%m-%d"], help="Nothing later than this day is used."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print assessment.json.")] = False,
) -> None:
    """Scores one company from a disclosure and, when given, its prices."""
    from kits.finance.pipeline import assess as run_assess

    day: date | None = as_of.date() if as_of else None
    with _progress() as report_step:
        run_assess(document, prices=prices, ticker=ticker, as_of=day, out=out, progress=report_step)
    written = json.loads((out / "assessment.json").read_text(encoding="utf-8"))
    _print(_as_json(written) if as_json else f"{assessment_summary(written)}\nwritten to {out}")


@medical.command()
def read(
    series: Annotated[Path, typer.Argument(help="Folder of one CT series, or one DICOM file.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for SR, SEG, FHIR, PNG and reading.json.")],
    report: Annotated[Path | None, typer.Option(help="The radiology report, plain text.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the report, where it is not UTF-8.")
    ] = None,
    series_chosen: Annotated[
        str | None, typer.Option("--series", help="Number or UID of one of several series.")
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Resample a tilted or uneven series; said in results."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print reading.json.")] = False,
) -> None:
    """Reads a CT series together with its report. Research use only; not a medical device."""
    from kits.medical.pipeline import read_case

    with _progress() as report_step:
        written = read_case(
            series,
            out=out,
            report=report,
            report_encoding=encoding,
            SeriesInstanceUID=series_chosen,
            resample=resample,
            progress=report_step,
        )
    _print(_as_json(written) if as_json else f"{reading_summary(written)}\nwritten to {out}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the present step and its time on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        running: list[Any] = []

        def report_step(step: str) -> None:
            if running:
                bars.update(running[-1], total=1, completed=1)
            running.append(bars.add_task(step, total=None))

        yield report_step
        if running:
            bars.update(running[-1], total=1, completed=1)


def _print(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")


def _as_json(written: dict[str, Any]) -> str:
    return json.dumps(written, indent=2, ensure_ascii=False)
