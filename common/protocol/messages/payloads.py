"""What an envelope can carry beside a Task and a Result: frozen, checked once.

Sessions, transactions and gradients give these records their meaning; here is only what
every reader may rely on: identifiers are plain, mappings and arrays cannot be written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from common.content import read_only, require_unicode
from common.errors import MessageError, TaskError
from common.task import Array, Image, Provenance, Result, Series, Task, Tensor

__all__ = [
    "ARRAY_PARTS",
    "KINDS",
    "GradientFrame",
    "LinkedAnswer",
    "PartAnswer",
    "Payload",
    "SessionDelta",
    "TransactionRecord",
    "kind_of",
    "require_identifier",
]

# RFC 3986 section 2.3 "unreserved" and ":"; the first is no dot, so that none is a path.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~:-]{0,127}")


def require_identifier(value: object, subject: str) -> str:
    """Returns `value` where it can stand in a message, a log and a file's name.

    Args:
        value: What the caller gave.
        subject: What it identifies, for the message.

    Raises:
        MessageError: It is no text of 1 to 128 plain characters; the message never shows it.
    """
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        size = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise MessageError(
            subject,
            expected="1 to 128 letters, digits or any of . _ ~ : -, not a dot or dash first",
            found=f"{size} that are none",
            remedy="Use a UUID or a name of these characters.",
        )
    return value


@dataclass(frozen=True)
class SessionDelta:
    """What one writer changes in a session's shared state.

    Args:
        session_id: Which session.
        base_version: The version that the writer had read; 0 for a new session.
        changes: Key to its new value: a JSON value, or a model's Result.
        removed: Keys that go; none of them is in `changes`.
        author: Which model or client writes.
    """

    session_id: str
    base_version: int
    changes: Mapping[str, Any | Result] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    author: str = "client"

    def __post_init__(self) -> None:
        require_identifier(self.session_id, "session id")
        require_identifier(self.author, "author")
        _require_count(self.base_version, "base version")
        _require_texts([*self.changes, *self.removed], "session keys")
        if set(self.changes) & set(self.removed) or len(set(self.removed)) != len(self.removed):
            raise MessageError(
                "session delta",
                expected="each key once, changed or removed",
                found="a key that stands twice",
                remedy="Send one change for each key.",
            )
        object.__setattr__(self, "changes", MappingProxyType(dict(self.changes)))
        object.__setattr__(self, "removed", tuple(self.removed))


@dataclass(frozen=True)
class TransactionRecord:
    """One line of a transaction's journal.

    Args:
        transaction_id: Which transaction.
        step: Name of the step that it is about; empty for the transaction as a whole.
        state: What became of it, in the journal's words.
        idempotency_key: Equal for each attempt of the step.
        time: Unix time in seconds.
    """

    transaction_id: str
    step: str
    state: str
    idempotency_key: str
    time: float

    def __post_init__(self) -> None:
        require_identifier(self.transaction_id, "transaction id")
        require_identifier(self.state, "transaction state")
        _require_texts([self.step, self.idempotency_key], "transaction record")
        if not math.isfinite(self.time):
            raise MessageError(
                "transaction record",
                expected="a finite Unix time",
                found=str(self.time),
                remedy="Give seconds since 1970, as time.time() does.",
            )


@dataclass(frozen=True)
class GradientFrame:
    """What one site contributes to one round.

    Args:
        round: Number of the round, from 0.
        site: Which site.
        n_samples: How many samples its tensors come from; its weight in the mean.
        tensors: Parameter name to gradient or update; read-only. Numbers may be NaN: who
            aggregates decides what that means.
    """

    round: int
    site: str
    n_samples: int
    tensors: Mapping[str, Array]

    def __post_init__(self) -> None:
        _require_count(self.round, "round")
        require_identifier(self.site, "site")
        _require_count(self.n_samples, "number of samples")
        _require_texts(self.tensors, "tensor names")
        frozen = {name: read_only(tensor) for name, tensor in self.tensors.items()}
        object.__setattr__(self, "tensors", MappingProxyType(frozen))


@dataclass(frozen=True)
class PartAnswer:
    """What one model said to one part, and how it came to be asked.

    Args:
        result: The model's result.
        provenance: Model, adapter, input and software that it comes from.
        reason: Why this model answered.
        rejected: Why each other model did not.
        cached: Whether the result was stored earlier.
    """

    result: Result
    provenance: Provenance
    reason: str = ""
    rejected: tuple[str, ...] = ()
    cached: bool = False

    def __post_init__(self) -> None:
        _require_texts([self.reason, *self.rejected], "part's answer")
        object.__setattr__(self, "rejected", tuple(self.rejected))


@dataclass(frozen=True)
class LinkedAnswer:
    """The one answer to a task: what each part's model said.

    Args:
        input_digest: sha256 of the whole task.
        parts: Part name to answer.
    """

    input_digest: str
    parts: Mapping[str, PartAnswer]

    def __post_init__(self) -> None:
        _require_texts([self.input_digest, *self.parts], "answer")
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))


Payload = Task | Result | LinkedAnswer | SessionDelta | TransactionRecord | GradientFrame

# The protocol's word for each, which is also its field in link.proto.
KINDS: Mapping[str, type[Payload]] = MappingProxyType(
    {
        "task": Task,
        "result": Result,
        "answer": LinkedAnswer,
        "session_delta": SessionDelta,
        "transaction_record": TransactionRecord,
        "gradient_frame": GradientFrame,
    }
)

# Parts that are one array: the class and the field by modality.
ARRAY_PARTS: Mapping[str, tuple[type[Image] | type[Series] | type[Tensor], str]] = MappingProxyType(
    {"image": (Image, "pixels"), "series": (Series, "values"), "tensor": (Tensor, "values")}
)


def kind_of(payload: Payload) -> str:
    """Returns the protocol's word for a payload: a key of `KINDS`.

    Raises:
        MessageError: An envelope cannot carry it.
    """
    for kind, one in KINDS.items():
        if type(payload) is one:
            return kind
    raise MessageError(
        "payload",
        expected=f"one of {', '.join(one.__name__ for one in KINDS.values())}",
        found=type(payload).__name__,
        remedy="Put it into one of these.",
    )


def _require_count(value: object, subject: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise MessageError(
            subject,
            expected="a whole number from 0, below 2^63",
            found=type(value).__name__ if not isinstance(value, int) else "another number",
            remedy="Count from 0.",
        )


def _require_texts(values: Iterable[Any], subject: str) -> None:
    try:
        require_unicode(values, subject)
    except TaskError as error:
        raise MessageError(
            subject, expected=error.expected, found=error.found, remedy=error.remedy
        ) from None
