"""A radiology report as plain text, read strictly.

An encoding is never guessed: a byte-order mark or valid UTF-8 decides, or the caller names it.
"""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

from common.errors import DocumentError, MissingInputError

__all__ = ["Report", "read_report"]

MAXIMUM_BYTES = 64 * 1024  # about 10,000 words; long reports hold 1,000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARABLE = ("cp1252", "iso8859-1", "utf-8", "utf-16")


@dataclass(frozen=True)
class Report:
    """The text of one report.

    Args:
        text: The decoded text, line ends as in the file; every offset counts characters of it.
        digest: sha256 of the file's bytes, as 64 hex digits.
        encoding: Python's name of the encoding that the bytes were read in.
    """

    text: str
    digest: str
    encoding: str


def read_report(path: Path, *, encoding: str | None = None) -> Report:
    """Returns the report in the text file `path`.

    Without `encoding` the file has to be UTF-8 (with or without a byte-order mark) or UTF-16
    with one. Checked: the file is there, is not larger than 64 KiB, decodes without a fault, holds
    no control characters (a sign of a binary file) and holds at least one letter.

    Args:
        path: A plain-text file.
        encoding: The encoding of a file of another kind: Latin-1 or CP1252.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: The file is empty, binary, too large or in an unknown encoding.
    """
    if not path.is_file():
        raise MissingInputError(
            "report",
            expected="a plain-text file",
            found="a folder" if path.is_dir() else "nothing at the path given",
            remedy="Check the path of the report.",
        )
    if path.stat().st_size > MAXIMUM_BYTES:
        raise DocumentError(
            "report",
            expected=f"at most {MAXIMUM_BYTES} bytes of text",
            found=f"{path.stat().st_size} bytes",
            remedy="Give the report of this one examination as plain text.",
        )
    data = path.read_bytes()
    text, used = _decode(data, encoding)
    _check_text(text)
    return Report(text, hashlib.sha256(data).hexdigest(), used)


def _decode(data: bytes, declared: str | None) -> tuple[str, str]:
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    name = marked or _codec_name(declared) or "utf-8"
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise _unknown_encoding("a UTF-32 byte-order mark")
    if marked is None and b"\x00" in data:
        raise DocumentError(
            "report",
            expected="plain text",
            found="zero bytes, as in a binary file or in UTF-16 without a byte-order mark",
            remedy="Save the report as plain text in UTF-8.",
        )
    try:
        return data.decode(name), name
    except UnicodeDecodeError as fault:
        raise _unknown_encoding(f"bytes that are not {name} at offset {fault.start}") from None


def _codec_name(declared: str | None) -> str | None:
    if declared is None:
        return None
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        name = ""
    if name not in _DECLARABLE:
        raise DocumentError(
            "report",
            expected=f"an encoding out of {', '.join(_DECLARABLE)}",
            found="another name",
            remedy="Name one of these, or save the report in UTF-8.",
        )
    return name


def _unknown_encoding(found: str) -> DocumentError:
    return DocumentError(
        "report",
        expected="UTF-8, or UTF-16 with a byte-order mark",
        found=found,
        remedy="Save the report in UTF-8, or name its encoding: latin-1 or cp1252.",
    )


def _check_text(text: str) -> None:
    controls = sum(1 for c in text if (ord(c) < 32 and c not in "\t\n\r\f") or 127 <= ord(c) < 160)
    if controls:
        raise DocumentError(
            "report",
            expected="plain text",
            found=f"{controls} control characters, as in a binary file or a wrong encoding",
            remedy="Export the report as plain text in UTF-8 (not RTF, PDF or Word).",
        )
    if not any(c.isalpha() for c in text):
        raise DocumentError(
            "report",
            expected="the text of a report",
            found="no words",
            remedy="Give a report that is not empty, or leave the report out.",
        )
