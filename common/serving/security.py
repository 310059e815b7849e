"""Who calls, what they may do, and how much of it: keys, roles, rates and body limits.

The order of refusals is the same for every request: 401 (key), 429 (rate), 413 (body),
403 (role), 404 (name). So an unknown caller learns nothing about what exists, and a caller
without the role does not learn whether a name exists.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.errors import AuthenticationError, OverloadError, RoleError, TooLargeError
from common.serving.keys import ROLES, KeyStore, Role

__all__ = ["AccessControl", "Caller", "RateLimiter", "key_in", "require_role"]

_LOCAL = "local"
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    Args:
        key_id: Id of the key; "local" where the server takes requests without keys.
        role: What the key may do.
        rate_per_s: Requests a second that it may send.
        body_bytes: Largest body that it may send.
    """

    key_id: str
    role: Role
    rate_per_s: float = 200.0
    body_bytes: int = 64 << 20


def require_role(caller: Caller, role: Role) -> None:
    """Returns where `caller` has `role` or one above it.

    Raises:
        RoleError: The caller's role is below it.
    """
    if ROLES.index(caller.role) < ROLES.index(role):
        raise RoleError(
            "request",
            expected=f"a key with the role {role}",
            found=f"one with the role {caller.role}",
            remedy="Use another key, or ask for this one to be replaced.",
        )


def key_in(headers: Mapping[str, str]) -> str:
    """Returns the key that a request's headers, or a gRPC call's metadata, carry.

    Keys are read from headers alone: addresses end up in logs and histories.

    Args:
        headers: `Authorization: Bearer KEY` or `X-API-Key: KEY`, by lower-case name.

    Raises:
        AuthenticationError: There is none, or there are two that differ.
    """
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    plain = headers.get("x-api-key", "").strip()
    if (bearer or plain) and (not bearer or not plain or bearer == plain):
        return bearer or plain
    raise AuthenticationError(
        "request",
        expected="one API key, as Authorization: Bearer or as X-API-Key",
        found="two different keys" if bearer else "none",
        remedy="Send the key in one of these headers.",
    )


def _require_local(headers: Mapping[str, str]) -> None:
    """Refuses what a web page in a browser of this machine may send without its user.

    A page of another origin names it, and one that had its name bound to this machine
    (DNS rebinding) still sends that name as the host.
    """
    host = headers.get("host", "localhost")
    origin = headers.get("origin", "http://localhost").partition("://")[2]
    if not all(_LOOPBACK.fullmatch(one) for one in (host, origin)):
        raise AuthenticationError(
            "request",
            expected="one to localhost, not from a web page of another origin",
            found="another host or origin",
            remedy="Use keys: without them only programs of this machine are served.",
        )


class RateLimiter:
    """A token bucket for each key: `rate_per_s` on average, twice that at once.

    Args:
        clock: Seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # key id -> tokens, as of when

    def spend(self, caller: Caller) -> None:
        """Takes one request from the caller's bucket.

        Raises:
            OverloadError: The bucket is empty; it says when the next request is taken.
        """
        room = max(1.0, 2 * caller.rate_per_s)
        with self._lock:
            now = self._clock()
            tokens, before = self._buckets.get(caller.key_id, (room, now))
            tokens = min(room, tokens + (now - before) * caller.rate_per_s)
            spent = tokens >= 1
            self._buckets[caller.key_id] = (tokens - 1 if spent else tokens, now)
        if not spent:
            raise OverloadError(
                "request rate",
                expected=f"at most {caller.rate_per_s:g} requests a second with this key",
                found="more",
                remedy="Send the request again after the time stated.",
                retry_after_s=(1 - tokens) / caller.rate_per_s,
            )


class AccessControl:
    """Turns headers into a caller; the same for HTTP and gRPC.

    Args:
        keys: The keys; None takes every request as the administrator's, without a key, for
            a server that only its own machine reaches.
        rate_per_s: Requests a second for keys that have no rate of their own.
        body_bytes: Largest body for keys that have no limit of their own.
        limiter: The buckets.
    """

    def __init__(
        self,
        keys: KeyStore | None,
        *,
        rate_per_s: float = 200.0,
        body_bytes: int = 64 << 20,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._keys = keys
        self._rate_per_s = rate_per_s
        self._body_bytes = body_bytes
        self._limiter = limiter or RateLimiter()

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Returns who sends these headers.

        Args:
            headers: Of an HTTP request, or a gRPC call's metadata, by lower-case name.

        Raises:
            AuthenticationError: There is no key, or it is unknown or revoked.
            StoreError: The file of keys cannot be used.
        """
        if self._keys is None:
            _require_local(headers)
            return Caller(_LOCAL, "admin", float("inf"), self._body_bytes)
        record = self._keys.authenticate(key_in(headers))
        return Caller(
            record.key_id,
            record.role,
            record.rate_per_s or self._rate_per_s,
            record.body_bytes or self._body_bytes,
        )

    def admit(self, headers: Mapping[str, str]) -> Caller:
        """Returns who sends these headers, one request of their rate spent.

        Raises:
            AuthenticationError: There is no key, or it is unknown or revoked.
            OverloadError: The key's rate is spent.
            StoreError: The file of keys cannot be used.
        """
        caller = self.authenticate(headers)
        if caller.rate_per_s != float("inf"):
            self._limiter.spend(caller)
        return caller

    @staticmethod
    def check_body(caller: Caller, n_bytes: int) -> None:
        """Returns where a body of `n_bytes` is not too large for `caller`.

        Raises:
            TooLargeError: It is.
        """
        if n_bytes > caller.body_bytes:
            raise TooLargeError(
                "request body",
                expected=f"at most {caller.body_bytes} bytes",
                found="more",
                remedy="Send less at once, or ask for a higher limit.",
            )
