"""API keys at rest: their digests, roles and limits in one file that only its owner reads.

A key is `tandem.<key id>.<secret>`, the secret 256 random bits. The file holds the sha256 of
the whole key: nobody can guess 256 random bits, so a slow hash (scrypt), which protects short
secrets that people choose, would only make each request tens of milliseconds slower. The
key itself is shown once, when it is added.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from common.errors import AuthenticationError, InputError, StoreError, UnknownNameError
from common.settings import Settings, load_settings

__all__ = ["ROLES", "KeyRecord", "KeyStore", "Role"]

Role = Literal["analyst", "integrator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Roles, each allowed all that the ones before it are."""

_FORMAT = 1
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY = re.compile(r"tandem\.([a-z0-9][a-z0-9_-]{0,63})\.[A-Za-z0-9_-]{43}")
_NO_DIGEST = "0" * 64  # compared with where no key has the id, so that both take as long
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class KeyRecord:
    """One key as it is kept.

    Args:
        key_id: Who or what the key was given to; appears in the audit log.
        role: What it may do.
        digest: sha256 of the key, 64 hexadecimal digits.
        created: When it was added, ISO 8601 in UTC.
        revoked: When it was revoked; None while it is good.
        rate_per_s: Requests a second that it may send; the server's default without it.
        body_bytes: Largest body that it may send; the server's default without it.
    """

    key_id: str
    role: Role
    digest: str
    created: str
    revoked: str | None = None
    rate_per_s: float | None = None
    body_bytes: int | None = None

    def __post_init__(self) -> None:
        faults = []
        if not _KEY_ID.fullmatch(self.key_id):
            faults.append("an id that is no 1 to 64 of a-z, 0-9, - and _")
        if self.role not in ROLES:
            faults.append("a role that is none")
        if not re.fullmatch(r"[0-9a-f]{64}", self.digest):
            faults.append("a digest that is no sha256")
        if self.rate_per_s is not None and not 0 < self.rate_per_s < 1e9:
            faults.append("a rate that is not above 0")
        if self.body_bytes is not None and self.body_bytes < 1:
            faults.append("a body limit that is not above 0")
        if faults:
            raise InputError(
                "API key",
                expected=f"a plain id, a role among {', '.join(ROLES)}, limits above 0",
                found="; ".join(faults),
                remedy="Correct the key's settings.",
            )


class KeyStore:
    """The keys in one file, mode 0600; a change by another process is seen at once.

    Args:
        path: The file; made by the first `add`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._records: Mapping[str, KeyRecord] = MappingProxyType({})

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> KeyStore:
        """Opens the file in TANDEM_HOME."""
        return cls((settings or load_settings()).home / "keys.json")

    def authenticate(self, key: str) -> KeyRecord:
        """Returns the record of a good key; the time taken does not depend on the secret.

        Raises:
            AuthenticationError: The key is malformed, unknown or revoked; all read alike.
            StoreError: The file of keys cannot be used.
        """
        written = _KEY.fullmatch(key)
        record = self._read().get(written[1]) if written else None
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        same = hmac.compare_digest(digest, record.digest if record else _NO_DIGEST)
        if record is None or not same or record.revoked is not None:
            raise AuthenticationError(
                "API key",
                expected="a key that is known and not revoked",
                found="another",
                remedy="Ask the server's administrator for a key (tandem keys add).",
            )
        return record

    def add(
        self,
        key_id: str,
        role: Role,
        *,
        rate_per_s: float | None = None,
        body_bytes: int | None = None,
    ) -> str:
        """Makes a key and returns it; it cannot be read again later.

        Args:
            key_id: Who or what it is for; new, 1 to 64 of a-z, 0-9, - and _.
            role: What it may do.
            rate_per_s: Requests a second; the server's default without it.
            body_bytes: Largest body; the server's default without it.

        Raises:
            InputError: The id is taken or none, or a limit is not above 0.
            StoreError: The file of keys cannot be used.
        """
        key = f"tandem.{key_id}.{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        record = KeyRecord(
            key_id, role, digest, _now(), rate_per_s=rate_per_s, body_bytes=body_bytes
        )
        with self._changing() as records:
            if key_id in records:
                raise InputError(
                    "API key",
                    expected="an id that no key had before",
                    found="one that is taken",
                    remedy="Choose another id: the audit log tells keys apart by it.",
                )
            records[key_id] = record
        return key

    def revoke(self, key_id: str) -> None:
        """Ends a key; servers refuse it from their next request on.

        Raises:
            UnknownNameError: No key has that id.
            StoreError: The file of keys cannot be used.
        """
        with self._changing() as records:
            if key_id not in records:
                raise UnknownNameError(
                    "API key",
                    expected="the id of a key",
                    found="an id that none has",
                    remedy="List them with: tandem keys list.",
                )
            records[key_id] = replace(records[key_id], revoked=records[key_id].revoked or _now())

    def list(self) -> tuple[KeyRecord, ...]:
        """Returns all keys, the revoked ones too, by id."""
        return tuple(record for _, record in sorted(self._read().items()))

    def __bool__(self) -> bool:
        """Whether any key is good."""
        return any(record.revoked is None for record in self._read().values())

    def _read(self) -> Mapping[str, KeyRecord]:
        stamp = _stamp_of(self._path)
        with self._lock:
            if stamp != self._stamp:
                self._records = MappingProxyType(_read_file(self._path) if stamp else {})
                self._stamp = stamp
            return self._records

    @contextmanager
    def _changing(self) -> Iterator[dict[str, KeyRecord]]:
        """Yields the records to change; one process at a time, written whole or not at all."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "a", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = dict(self._read())
            yield records
            written = {"format": _FORMAT, "keys": [asdict(one) for one in records.values()]}
            part = self._path.with_suffix(".part")
            with open(part, "w", encoding="utf-8", opener=_private) as file:
                json.dump(written, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read_file(path: Path) -> dict[str, KeyRecord]:
    found = ""
    if path.stat().st_mode & 0o077:
        found = "a file that others can read or write"
    else:
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] == _FORMAT:
                return {one["key_id"]: KeyRecord(**one) for one in stored["keys"]}
            found = "another format"
        except (ValueError, KeyError, TypeError) as error:
            found = f"a file that is none ({type(error).__name__})"
    raise StoreError(
        "file of API keys",
        expected=f"format {_FORMAT}, readable by its owner only",
        found=found,
        remedy="Set its mode to 0600, or restore it; without it no key is good.",
    )
