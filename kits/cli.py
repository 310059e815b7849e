"""The `tandem` command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError, TandemError
from kits.commands.audit import audit
from kits.commands.finance import finance
from kits.commands.keys import keys
from kits.commands.server import purge, serve
from kits.commands.terminal import as_json, print_text, shown_steps
from kits.summaries import reading_summary

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Links models, tunes them with small adapters; two kits: finance and medical.",
)
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

    with shown_steps() as report_step:
        table = run_demo(out, progress=report_step)
    print_text(table)


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
    json_output: Annotated[bool, typer.Option("--json", help="Print reading.json.")] = False,
) -> None:
    """Reads a CT series together with its report. Research use only; not a medical device."""
    from kits.medical.pipeline import read_case

    with shown_steps() as report_step:
        written = read_case(
            series,
            out=out,
            report=report,
            report_encoding=encoding,
            SeriesInstanceUID=series_chosen,
            resample=resample,
            progress=report_step,
        )
    print_text(as_json(written) if json_output else f"{reading_summary(written)}\nwritten to {out}")
