"""`tandem keys add | revoke | list`: the API keys of this machine's server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from common.serving.keys import KeyStore

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True, help="API keys of this machine's server.")


@keys.command()
def add(
    key_id: Annotated[str, typer.Argument(help="Who it is for: a-z, 0-9, - and _.")],
    *,
    role: Annotated[str, typer.Option(help="analyst, integrator or admin.")] = "analyst",
    rate: Annotated[
        float | None, typer.Option(help="Requests a second; TANDEM_RATE_PER_S without it.")
    ] = None,
    body_bytes: Annotated[
        int | None, typer.Option(help="Largest body in bytes; TANDEM_BODY_BYTES without it.")
    ] = None,
) -> None:
    """Makes a key and prints it once; only its digest is kept."""
    from common.serving.keys import ROLES

    chosen = next((one for one in ROLES if one == role), None)
    if chosen is None:
        raise typer.BadParameter(f"expected one of {', '.join(ROLES)}", param_hint="--role")
    typer.echo(_store().add(key_id, chosen, rate_per_s=rate, body_bytes=body_bytes))


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The id given to `add`.")]) -> None:
    """Ends a key at once, also for a server that runs."""
    _store().revoke(key_id)
    typer.echo(f"revoked: {key_id}")


@keys.command("list")
def list_keys() -> None:
    """Prints id, role, dates and limits of each key; never the key."""
    for one in _store().list():
        ended = f"revoked {one.revoked}" if one.revoked else "good"
        rate = "" if one.rate_per_s is None else f"  {one.rate_per_s:g} requests/s"
        body = "" if one.body_bytes is None else f"  {one.body_bytes} bytes"
        typer.echo(f"{one.key_id}  {one.role}  added {one.created}  {ended}{rate}{body}")


def _store() -> KeyStore:
    from common.serving.keys import KeyStore
    from common.settings import load_settings

    return KeyStore.from_settings(load_settings())
