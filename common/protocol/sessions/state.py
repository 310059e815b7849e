"""What a session is at one version, how it changed, and how large it may become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.protocol.stored_value import Value

__all__ = ["SessionChange", "SessionLimits", "SessionState"]


@dataclass(frozen=True)
class SessionLimits:
    """How large a session may become.

    Args:
        value_bytes: One value, as stored.
        session_bytes: All present values; superseded ones may take as much again.
        keys: Present values.
        versions: Versions that can be read or rolled back to, the present one included.
        history: Changes that are remembered.
    """

    value_bytes: int = 16 << 20
    session_bytes: int = 64 << 20
    keys: int = 1024
    versions: int = 64
    history: int = 1024


@dataclass(frozen=True)
class SessionState:
    """A session at one version.

    Args:
        session_id: 32 hexadecimal digits.
        version: 0 for a new session, one more with each change.
        values: Key to JSON value or Result.
    """

    session_id: str
    version: int
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionChange:
    """Who changed which keys; never to what.

    Args:
        version: That the change made.
        author: Name of the model or client.
        time: Unix time in seconds.
        changed: Keys with a new value.
        removed: Keys that went.
        restored: The version that was rolled back to; None for any other change.
    """

    version: int
    author: str
    time: float
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    restored: int | None = None
