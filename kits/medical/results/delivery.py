"""Puts a case's result files into their folder: all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from common.errors import InputError

__all__ = ["RESULT_NAMES", "deliver", "require_usable"]

RESULT_NAMES = ("seg.dcm", "sr.dcm", "report.fhir.json", "overlay.png", "reading.json")
"""Every file that a reading can have, in the order in which they are moved into place."""


def require_usable(out: Path) -> None:
    """Checks that `out` is a folder, or can become one, before any work is done.

    Raises:
        InputError: `out`, or what would hold it, is a file.
    """
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(
            "output folder",
            expected="a folder, or a path at which one can be made",
            found="a file in that place",
            remedy="Name another folder.",
        )


def deliver(files: Mapping[str, bytes], out: Path) -> None:
    """Writes `files` beside `out` and then moves them in, reading.json last.

    Results of an earlier reading that are not among `files` are removed, so that no old seg.dcm
    lies beside a new reading; every other file in `out` stays as it is.

    Args:
        files: Names out of RESULT_NAMES, and contents.
        out: The folder; made when absent.

    Raises:
        InputError: The folder cannot be written.
    """
    if any((out / name).is_dir() for name in RESULT_NAMES):
        raise InputError(
            "output folder",
            expected="files, or nothing, where the results go",
            found="a folder with the name of a result",
            remedy="Name another folder.",
        )
    try:
        with _sibling(out) as staged:
            for name, content in files.items():
                (staged / name).write_bytes(content)
            if not out.exists():
                staged.rename(out)
                return
            for name in RESULT_NAMES:
                if name in files:
                    (staged / name).replace(out / name)
                else:
                    (out / name).unlink(missing_ok=True)
    except OSError as fault:
        raise InputError(
            "output folder",
            expected="a folder that can be written",
            found=type(fault).__name__,
            remedy="Check permissions and free space, or name another folder.",
        ) from fault


@contextmanager
def _sibling(out: Path) -> Iterator[Path]:
    """Makes a folder beside `out`, on the same disk, and removes what is left of it."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    staged = out.absolute().parent / f".{out.absolute().name}.{uuid4().hex}.partial"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
