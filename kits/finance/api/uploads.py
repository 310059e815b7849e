"""What a request brings: a JSON text, or fields and files (multipart/form-data, RFC 7578).

A file's name says at most what kind of file it is; it never becomes a path. Files are kept
under names of our own.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from common.errors import InputError

__all__ = ["JSON", "MULTIPART", "Form", "Upload", "read_body"]

JSON, MULTIPART = "application/json", "multipart/form-data"
MOST_FILES = 5_000
MOST_FIELDS = 20
FIELD_BYTES = 1 << 20
LONGEST_NAME = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Upload:
    """One file of a request.

    Args:
        name: As the caller calls it: no path, nothing hidden.
        content: Its bytes, read once.

    Raises:
        InputError: The name is none of a plain file.
    """

    name: str
    content: BinaryIO = field(repr=False)

    def __post_init__(self) -> None:
        bad = (
            not 0 < len(self.name) <= LONGEST_NAME
            or self.name != self.name.strip()
            or self.name.startswith(".")
            or any(mark in self.name for mark in "/\\:")
            or _UNPRINTABLE.search(self.name)
        )
        if bad:
            raise InputError(
                "name of a file",
                expected=f"a plain file name of at most {LONGEST_NAME} characters",
                found="a path, a hidden name, or characters that no name has",
                remedy="Send the file under its bare name.",
            )

    @classmethod
    def of_text(cls, name: str, text: str) -> Upload:
        """Returns a file that came as a text, in UTF-8.

        Raises:
            InputError: The name is none of a plain file, or the text has lone surrogates.
        """
        try:
            return cls(name, io.BytesIO(text.encode()))
        except UnicodeEncodeError:
            raise InputError(
                "text of a file",
                expected="Unicode text",
                found="surrogates that stand alone",
                remedy="Send the file as multipart/form-data.",
            ) from None

    @property
    def suffix(self) -> str:
        """The name's ending, such as ".html"; "" where it has no usual one."""
        ending = PurePosixPath(self.name).suffix.lower()
        return ending if _SUFFIX.fullmatch(ending) else ""

    @property
    def n_bytes(self) -> int:
        """How large it is."""
        return self.content.seek(0, io.SEEK_END)

    def save(self, path: Path) -> Path:
        """Writes it to `path`, which must be free, and returns that."""
        self.content.seek(0)
        with path.open("xb") as written:
            shutil.copyfileobj(self.content, written)
        return path


@dataclass(frozen=True)
class Form:
    """The parts of a multipart body.

    Args:
        fields: Name to text, of parts without a file name.
        files: Name to files, in their order.
    """

    fields: Mapping[str, str]
    files: Mapping[str, Sequence[Upload]]


@asynccontextmanager
async def read_body(request: Request) -> AsyncIterator[bytes | Form]:
    """Yields the JSON text, or the parts of a multipart body; its files are closed behind it.

    Raises:
        HTTPException: 415, it has another media type; 400, it is no good multipart.
        InputError: A part comes twice, or a file has no plain name.
    """
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated not in {JSON, MULTIPART}:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, headers={"Accept": f"{JSON}, {MULTIPART}"}
        )
    if stated == JSON:
        yield await request.body()
        return
    async with request.form(
        max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES
    ) as parts:
        yield _form_of(parts)


def _form_of(parts: FormData) -> Form:
    fields: dict[str, str] = {}
    files: dict[str, list[Upload]] = {}
    for name, part in parts.multi_items():
        if isinstance(part, UploadFile):
            files.setdefault(name, []).append(Upload(part.filename or "", part.file))
        elif name in fields:
            raise InputError(
                "form",
                expected="each field once",
                found="one twice",
                remedy="Send it once.",
            )
        else:
            fields[name] = part
    return Form(fields, files)
