"""The documents' code blocks run: python in order, console as a user would type it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
KNOWN = {"python", "console", "text", "json", "toml", "mermaid"}


def blocks(path: Path, language: str) -> list[str]:
    return [
        body for kind, body in BLOCK.findall(path.read_text(encoding="utf-8")) if kind == language
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_block_names_a_language_that_is_checked_or_plainly_text(path: Path) -> None:
    kinds = {kind for kind, _ in BLOCK.findall(path.read_text(encoding="utf-8"))}
    assert kinds <= KNOWN


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for body in blocks(path, "python"):
        exec(compile(body, str(path), "exec"), namespace)  # noqa: S102  # our own documents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_console_blocks_run(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TANDEM_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    for body in blocks(path, "console"):
        for line in body.splitlines():
            if not line.startswith("$ "):
                continue
            program, *arguments = shlex.split(line[2:])
            assert program == "tandem", "console blocks show the tandem command"
            done = subprocess.run(
                [sys.executable, "-m", "kits", *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
