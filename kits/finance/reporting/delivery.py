"""Puts a report's files into their folder: all of them or none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from common.errors import InputError

__all__ = ["deliver", "require_folder"]


def require_folder(out: Path) -> None:
    """Checks that `out` is a folder or a free name, before any work is done.

    Raises:
        InputError: It is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(
            "output folder",
            expected="a folder, or a name that is free",
            found="a file",
            remedy="Name another folder.",
        )


def deliver(contents: Mapping[str, str], out: Path) -> None:
    """Writes all texts beside `out` first, so that it never holds half a result."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tandem-") as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        out.mkdir(exist_ok=True)
        for name in contents:
            (Path(folder) / name).replace(out / name)
