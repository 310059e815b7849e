"""`tandem serve` and `tandem purge`."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["purge", "serve"]


def serve(
    *,
    host: Annotated[
        str | None, typer.Option(help="Address; TANDEM_HOST (127.0.0.1) without it.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="HTTP port, 0 for a free one; TANDEM_PORT (8080) without it.")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port; TANDEM_GRPC_PORT (8081) without it.")
    ] = None,
    insecure_local: Annotated[
        bool,
        typer.Option("--insecure-local", help="Take requests without keys, on loopback only."),
    ] = False,
) -> None:
    """Serves the models of both kits: REST, Open Inference Protocol, gRPC; docs at /docs."""
    from common.settings import load_settings
    from kits.service import run_service

    given = {"host": host, "port": port, "grpc_port": grpc_port}
    chosen = {name: value for name, value in given.items() if value is not None}
    run_service(load_settings().model_copy(update=chosen), insecure_local=insecure_local)


def purge() -> None:
    """Erases sessions, ended transactions and results that are too old; the audit log stays."""
    from common.settings import load_settings
    from kits.service import open_retention

    with open_retention(load_settings()) as retention:
        for name, n_erased in retention.apply().items():
            typer.echo(f"erased: {n_erased} {name}")
