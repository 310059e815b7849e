"""Decodes a file into text, strictly, and refuses what is no text by name."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import DocumentError, MissingInputError

__all__ = ["DecodedFile", "decode", "read_bytes", "read_decoded"]

_DECLARED = re.compile(
    rb"""<\?xml[^>]*encoding=["']([\w.-]+)|charset=["']?([\w.-]+)""", re.IGNORECASE
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = (
    (b"%PDF", "a PDF", "Give the HTML page or the instance document: a PDF has no tagged facts."),
    (b"\x1f\x8b", "a gzip archive", "Decompress it first (gunzip)."),
    (b"PK\x03\x04", "a ZIP archive or an Office file", "Unpack it, or save it as HTML or text."),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "Save it as HTML or plain text."),
    (b"{\\rtf", "a rich text file", "Save it as HTML or plain text."),
    (b"\x89PNG", "a PNG picture", "Give the filing itself, as HTML or plain text."),
    (b"\xff\xd8\xff", "a JPEG picture", "Give the filing itself, as HTML or plain text."),
    (b"GIF8", "a GIF picture", "Give the filing itself, as HTML or plain text."),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_MOST_CONTROL = 0.001  # share of control characters in a text, a stray one apart


@dataclass(frozen=True)
class DecodedFile:
    """A file's text, and the sha256 of its bytes (64 hex digits)."""

    text: str = field(repr=False)
    digest: str


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds.

    Raises:
        MissingInputError: There is no such file.
    """
    if not path.is_file():
        raise MissingInputError(
            "disclosure",
            expected="a file",
            found="a folder" if path.is_dir() else "nothing at the given path",
            remedy="Give the path of a filing or an earnings call as HTML, PDF or plain text.",
        )
    return path.read_bytes()


def read_decoded(path: Path) -> DecodedFile:
    """Reads a text file of any kind.

    Raises:
        MissingInputError: There is no such file.
        DocumentError: It is binary or undecodable.
    """
    content = read_bytes(path)
    return DecodedFile(decode(content), hashlib.sha256(content).hexdigest())


def decode(content: bytes) -> str:
    """Decodes bytes by their declared encoding, else as UTF-8, else as CP1252, each strictly.

    Raises:
        DocumentError: They are of a known binary kind, or none of these can decode them.
    """
    for magic, found, remedy in _FOREIGN:
        if content.startswith(magic):
            raise DocumentError("disclosure", expected="HTML or text", found=found, remedy=remedy)
    for encoding in _encodings(content):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" not in text and len(_CONTROL.findall(text)) <= _MOST_CONTROL * len(text):
            return text
    raise DocumentError(
        "disclosure",
        expected="text in its declared encoding, UTF-8 or CP1252",
        found="bytes that none of these can decode as text",
        remedy="Save the document as UTF-8, or check that it is not a binary file.",
    )


def _encodings(content: bytes) -> list[str]:
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return [encoding]
    declared = _DECLARED.search(content[:4096])
    name = (declared[1] or declared[2]).decode("ascii") if declared else ""
    # a declaration that was read as ASCII cannot be of a wider encoding
    wide = name.lower().startswith(("utf-16", "utf-32", "ucs", "utf-7"))
    # ASCII and Latin-1 labels mean CP1252 in practice (WHATWG Encoding Standard, 4.2)
    narrow = name.lower().replace("_", "-") in ("ascii", "us-ascii", "iso-8859-1", "latin1")
    return [*([name] if name and not (wide or narrow) else []), "utf-8", "cp1252"]
