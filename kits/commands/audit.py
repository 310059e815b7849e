"""`tandem audit verify`: whether the audit log is what the server wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["audit"]

audit = typer.Typer(no_args_is_help=True, help="The audit log of this machine's server.")


@audit.callback()
def about() -> None:
    """Keeps `verify` a command of its own while it is the only one."""


@audit.command()
def verify(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="The log's folder; TANDEM_HOME/audit without it.")
    ] = None,
    noted: Annotated[
        list[str] | None,
        typer.Option(help="A head noted earlier, NUMBER:HASH, that the log must still hold."),
    ] = None,
) -> None:
    """Finds edited, removed, moved and cut-off records; status 1 where there are any."""
    from common.serving.audit_chain import ChainPlace, verify_audit
    from common.settings import load_settings

    places = []
    for one in noted or ():
        found = re.fullmatch(r"(\d{1,12}):([0-9a-f]{64})", one)
        if found is None:
            raise typer.BadParameter("expected NUMBER:HASH", param_hint="--noted")
        places.append(ChainPlace(int(found[1]), found[2]))
    report = verify_audit(folder or load_settings().home / "audit", noted=places)
    for fault in report.faults:
        typer.echo(f"fault: {fault}", err=True)
    typer.echo(f"{report.n_records} records, {len(report.faults)} faults")
    typer.echo(f"head {report.last.sequence}:{report.last.hash}")
    if report.faults:
        raise typer.Exit(1)
