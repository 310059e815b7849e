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
│   └── TaskError                               a task has parts or fields that nothing accepts
├── RoutingError(LookupError)               no model stands ready for a part of a task
├── ModelError(RuntimeError)                a model was called and failed
├── BackboneError(OSError)                  a base model is absent or its digest is wrong
├── AdapterError(ValueError)                an adapter does not fit its base or is damaged
├── TuningError(RuntimeError)               a training run cannot start or go on
├── MissingExtraError(ImportError)          an optional package is not installed
└── SettingsError(ValueError)               a setting has a value that cannot be used

Messages say what was expected, what was found and what to do about it. They never
carry patient or client data: no names, identifiers, report text or file contents.
"""

from __future__ import annotations

__all__ = [
    "AdapterError",
    "BackboneError",
    "DocumentError",
    "GeometryError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "MissingInputError",
    "ModelError",
    "PixelDecodingError",
    "RoutingError",
    "SectionNotFoundError",
    "SettingsError",
    "StaleDataError",
    "TableError",
    "TandemError",
    "TaskError",
    "TuningError",
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
        return (_rebuild, (type(self), self.subject, self.expected, self.found, self.remedy))


def _rebuild(
    kind: type[TandemError], subject: str, expected: str, found: str, remedy: str
) -> TandemError:
    return kind(subject, expected=expected, found=found, remedy=remedy)


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


class RoutingError(TandemError, LookupError):
    """No model stands ready for a part of a task."""


class ModelError(TandemError, RuntimeError):
    """A model was called and failed."""


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
