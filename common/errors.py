"""Every error that Tandem raises on purpose, as one tree.

TandemError
├── InputError(ValueError)                  what the caller gave cannot be used
│   ├── MissingInputError(FileNotFoundError)    a file or folder is not there
│   ├── DocumentError                           a text or filing cannot be read as such
│   │   └── SectionNotFoundError(LookupError)       a section of it cannot be found whole
│   ├── TableError                              a table of rows (prices, labels) is faulty
│   │   └── StaleDataError                          it ends too long before the date asked for
│   ├── ImageError                              an image or its header is faulty
│   │   ├── GeometryError                           its slices do not form a regular volume
│   │   └── PixelDecodingError                      its pixels cannot be decoded
│   ├── TaskError                               a task has parts or fields that nothing accepts
│   ├── MessageError                            bytes on the wire or at rest are no message of ours
│   ├── TooLargeError                           a message is larger than is taken
│   └── UnknownNameError(LookupError)           no model, adapter, session or job has that name
├── AccessError(PermissionError)            the caller may not do this
│   ├── AuthenticationError                     the key is absent, unknown or revoked
│   └── RoleError                               the key's role does not allow it
├── RoutingError(LookupError)               no model stands ready for a part of a task
├── ModelError(RuntimeError)                a model was called and failed
├── OverloadError(RuntimeError)             there is no room now: a queue is full, a rate spent
├── DeadlineError(TimeoutError)             the answer is too late, or nobody waits for it
├── ConflictError(RuntimeError)             somebody else wrote since it was read
├── TransactionError(RuntimeError)          work across models failed and was compensated
├── ExchangeError(RuntimeError)             a round of gradients or updates was rolled back
├── StoreError(RuntimeError)                a file of ours at rest is damaged or not ours
├── BackboneError(OSError)                  a base model is absent or its digest is wrong
├── AdapterError(ValueError)                an adapter does not fit its base or is damaged
├── TuningError(RuntimeError)               a training run cannot start or go on
├── MissingExtraError(ImportError)          an optional package is not installed
└── SettingsError(ValueError)               a setting has a value that cannot be used

Messages say what was expected, what was found and what to do about it. They never
carry patient or client data: no names, identifiers, report text or file contents.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessError",
    "AdapterError",
    "AuthenticationError",
    "BackboneError",
    "ConflictError",
    "DeadlineError",
    "DocumentError",
    "ExchangeError",
    "GeometryError",
    "ImageError",
    "InputError",
    "MessageError",
    "MissingExtraError",
    "MissingInputError",
    "ModelError",
    "OverloadError",
    "PixelDecodingError",
    "RoleError",
    "RoutingError",
    "SectionNotFoundError",
    "SettingsError",
    "StaleDataError",
    "StoreError",
    "TableError",
    "TandemError",
    "TaskError",
    "TooLargeError",
    "TransactionError",
    "TuningError",
    "UnknownNameError",
]


class TandemError(Exception):
    """An error with a remedy.

    Args:
        subject: What was looked at, in the field's word ("price table", "CT series").
        expected: What would have been usable.
        found: What was there instead.
        remedy: What the reader can do about it, as a full sentence.
    """

    def __init__(self, subject: str, *, expected: str, found: str, remedy: str) -> None:
        self.subject = subject
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(f"{subject}: expected {expected}; found {found}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        facts = {name: value for name, value in vars(self).items() if not name.startswith("__")}
        return (_rebuild, (type(self), facts))


def _rebuild(kind: type[TandemError], facts: dict[str, Any]) -> TandemError:
    return kind(**facts)


class InputError(TandemError, ValueError):
    """What the caller gave cannot be used."""


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that the caller named is not there."""


class DocumentError(InputError):
    """A text, report or filing cannot be read as one."""


class SectionNotFoundError(DocumentError, LookupError):
    """A section of a document cannot be found whole; a short one is never returned."""


class TableError(InputError):
    """A table of rows (prices, labels) is faulty."""


class StaleDataError(TableError):
    """A table ends too long before the date asked for."""


class ImageError(InputError):
    """An image, a series of images or its header is faulty."""


class GeometryError(ImageError):
    """The slices of a series do not form a regular volume."""


class PixelDecodingError(ImageError):
    """The pixels of an image cannot be decoded."""


class TaskError(InputError):
    """A task has parts or fields that nothing here accepts."""


class MessageError(InputError):
    """Bytes on the wire or at rest are no message of ours: malformed, truncated, wrong type."""


class TooLargeError(InputError):
    """A message is larger than is taken."""


class UnknownNameError(InputError, LookupError):
    """No model, adapter, session or job has that name."""


class AccessError(TandemError, PermissionError):
    """The caller may not do this."""


class AuthenticationError(AccessError):
    """The key is absent, unknown or revoked."""


class RoleError(AccessError):
    """The key's role does not allow it."""


class RoutingError(TandemError, LookupError):
    """No model stands ready for a part of a task."""


class ModelError(TandemError, RuntimeError):
    """A model was called and failed."""


class OverloadError(TandemError, RuntimeError):
    """There is no room now: a queue is full, or the caller's rate is spent.

    Args:
        subject: What is full.
        expected: What would have been usable.
        found: What was there instead.
        remedy: What the caller can do about it.
        retry_after_s: Seconds after which it is worth trying again.
    """

    def __init__(
        self, subject: str, *, expected: str, found: str, remedy: str, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(subject, expected=expected, found=found, remedy=remedy)
        self.retry_after_s = retry_after_s


class DeadlineError(TandemError, TimeoutError):
    """The answer comes too late, or nobody waits for it any more."""


class ConflictError(TandemError, RuntimeError):
    """Somebody else wrote since it was read; nothing was changed."""


class TransactionError(TandemError, RuntimeError):
    """Work across models failed; what had been done was compensated."""


class ExchangeError(TandemError, RuntimeError):
    """A round of gradients or updates was rolled back: a site is absent or sent no numbers."""


class StoreError(TandemError, RuntimeError):
    """A file of ours at rest is damaged, was tampered with, or is of a later version."""


class BackboneError(TandemError, OSError):
    """A base model is absent, or its weights do not have the digest they should have."""


class AdapterError(TandemError, ValueError):
    """An adapter does not fit its base model, or its file is damaged."""


class TuningError(TandemError, RuntimeError):
    """A training run cannot start or go on: device, memory, processes or checkpoint."""


class MissingExtraError(TandemError, ImportError):
    """An optional package is needed and not installed."""


class SettingsError(TandemError, ValueError):
    """A setting has a value that cannot be used."""
