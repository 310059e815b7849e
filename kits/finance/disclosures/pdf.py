"""Reads the text of a PDF with poppler's `pdftotext`, or else with pypdf.

A PDF has no characters to point into: offsets lead into the extracted text, in which a form
feed ends each page.
"""

from __future__ import annotations

import io
import shutil
import subprocess

from common.errors import DocumentError, MissingExtraError

__all__ = ["looks_like_pdf", "read_pdf"]

LONGEST_READING_S = 120
"""A filing of 300 pages takes about two seconds; one that takes this long is hostile."""


def looks_like_pdf(content: bytes) -> bool:
    """Whether the bytes claim to be a PDF (ISO 32000-1, 7.5.2; leading junk is tolerated)."""
    return b"%PDF-" in content[:1024]


def read_pdf(content: bytes) -> str:
    """Returns the text of a PDF, its pages ended by form feeds.

    Raises:
        DocumentError: It is damaged, encrypted, or holds pictures of text alone.
        MissingExtraError: Neither `pdftotext` nor pypdf is installed.
    """
    program = shutil.which("pdftotext")
    text = _by_poppler(program, content) if program else _by_pypdf(content)
    if not text.strip():
        raise _unreadable("pages without text, such as scanned pictures")
    return text


def _by_poppler(program: str, content: bytes) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # found on the path; the content goes in by a pipe
            [program, "-layout", "-enc", "UTF-8", "-", "-"],
            input=content,
            capture_output=True,
            timeout=LONGEST_READING_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreadable(f"one that takes longer than {LONGEST_READING_S} s to read") from error
    if done.returncode != 0:
        raise _unreadable("a damaged or encrypted one")
    return done.stdout.decode("utf-8", errors="strict")


def _by_pypdf(content: bytes) -> str:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "PDF",
            expected="pdftotext (Debian: poppler-utils) or the package pypdf",
            found="neither",
            remedy="Install one (pip install 'tandem-kits[finance]'), or give the filing as HTML.",
        ) from error
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted:
            raise _unreadable("an encrypted one")
        return "".join(f"{page.extract_text()}\n\f" for page in reader.pages)
    except (PyPdfError, ValueError, KeyError, RecursionError) as error:
        if isinstance(error, DocumentError):
            raise
        raise _unreadable("a damaged one") from error


def _unreadable(found: str) -> DocumentError:
    return DocumentError(
        "PDF",
        expected="a PDF with text that can be selected",
        found=found,
        remedy="Download it again, or give the filing as HTML or plain text.",
    )
