"""Real parts of a server for tests: keys, audit, counters, and a client in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from common.serving.app import AppParts, create_app
from common.serving.audit import AuditLog
from common.serving.audit_chain import audit_files
from common.serving.drain import Drain
from common.serving.keys import ROLES, KeyStore
from common.serving.security import AccessControl
from common.serving.telemetry import Telemetry

__all__ = ["Server", "client_of", "open_server"]


@dataclass
class Server:
    """The application, and what it stands on."""

    app: object
    parts: AppParts
    keys: dict[str, str]
    store: KeyStore
    folder: Path

    def headers(self, role: str = "analyst", **more: str) -> dict[str, str]:
        return {"X-API-Key": self.keys[role], **more}

    def audited(self) -> list[dict]:
        import json

        self.parts.audit.flush()
        return [
            json.loads(line)
            for path in audit_files(self.folder / "audit")
            for line in path.read_text().splitlines()
        ]


@contextmanager
def open_server(folder: Path, **parts: object) -> Iterator[Server]:
    """A server with one key for each role."""
    store = KeyStore(folder / "keys.json")
    keys = {role: store.add(role, role) for role in ROLES}
    limits = {name: parts.pop(name) for name in ("rate_per_s", "body_bytes") if name in parts}
    with AuditLog(folder / "audit") as audit:
        chosen = AppParts(
            access=AccessControl(store, **limits),
            telemetry=Telemetry(),
            audit=audit,
            drain=parts.pop("drain", None) or Drain(),
            **parts,
        )
        yield Server(create_app(chosen), chosen, keys, store, folder)


@asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application in this process; the lifespan does not run."""
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://tandem") as client:
        yield client
