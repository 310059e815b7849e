"""The process that serves: uvicorn with our way to end.

On SIGTERM readiness turns false and new requests get 503 at once; after `notice_s` the port
is closed; open requests have `drain_s` to finish, then they are cut off. SIGINT, or a second
SIGTERM, leaves out the notice; one more leaves out the rest.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from common.errors import SettingsError
from common.serving.drain import Drain

__all__ = ["Listener", "run_server"]

_BACKLOG = 2048


@dataclass(frozen=True)
class Listener:
    """Where and how a server listens, and how it ends.

    Args:
        host: Address.
        port: TCP port; 0 draws a free one.
        tls_certificate: Certificate chain in PEM; without it the port speaks plain HTTP.
        tls_key: Private key of the certificate, PEM.
        tls_client_ca: Authorities in PEM one of which must have signed each client's
            certificate; without them no certificate is asked for.
        connections: Connections open at a time; more are answered 503.
        notice_s: Between SIGTERM and the closing of the port.
        drain_s: How long open requests may take after that.

    Raises:
        SettingsError: A file is absent, or certificate or key is given without the other.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    connections: int = 1024
    notice_s: float = 2.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        pair = (self.tls_certificate, self.tls_key)
        half = pair.count(None) == 1 or (self.tls_client_ca is not None and None in pair)
        files = [path for path in (*pair, self.tls_client_ca) if path is not None]
        if half or not all(path.is_file() for path in files):
            raise SettingsError(
                "TLS",
                expected="a certificate and its private key, PEM files",
                found="not both of them" if half else "a path without a file",
                remedy="Set TANDEM_TLS_CERTIFICATE and TANDEM_TLS_KEY, or no TANDEM_TLS_ at all.",
            )

    @property
    def scheme(self) -> str:
        """What clients write before the address."""
        return "https" if self.tls_certificate is not None else "http"


def run_server(app: ASGIApp, listener: Listener, drain: Drain) -> None:
    """Serves until a signal ends it; logs through `logging`, never what a request holds.

    Args:
        app: The application.
        listener: Where it listens.
        drain: Turned when the end begins.
    """
    config = uvicorn.Config(
        app,
        host=listener.host,
        port=listener.port,
        ssl_certfile=listener.tls_certificate,
        ssl_keyfile=listener.tls_key,
        ssl_ca_certs=None if listener.tls_client_ca is None else str(listener.tls_client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if listener.tls_client_ca is None else ssl.CERT_REQUIRED,
        log_config=None,
        access_log=False,  # addresses and keys stay out of logs; the audit log has the rest
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        limit_concurrency=listener.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(listener.drain_s)),
    )
    _Server(config, drain, listener.notice_s).run()


class _Server(uvicorn.Server):
    """uvicorn's server; a signal turns the drain first."""

    def __init__(self, config: uvicorn.Config, drain: Drain, notice_s: float) -> None:
        super().__init__(config)
        self._drain, self._notice_s = drain, notice_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens the port."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn calls it by position
        """Begins the end, or hurries it; runs in a signal handler."""
        if self._loop is None or self.should_exit:
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        again = self._drain.draining
        self._drain.begin()
        if again or sig == signal.SIGINT:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._notice_s, self._end)

    def _end(self) -> None:
        self.should_exit = True
