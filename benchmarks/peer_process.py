"""A peer that runs under an interpreter of its own and answers a line with a line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["PeerProcess"]

_ANSWER = "peer: "  # before each answer; what libraries print of themselves is passed over


class PeerProcess:
    """A script beside this file, in another environment; use as a context.

    Args:
        python: The interpreter of the environment.
        script: Name of the script, which reads its settings from the first line.
        settings: What it reads first.
    """

    def __init__(self, python: str, script: str, settings: Mapping[str, Any]) -> None:
        self._script = script
        self._process = subprocess.Popen(  # noqa: S603  # the caller's own interpreter
            [python, "-W", "ignore", str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ask(json.dumps(dict(settings)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, line: str) -> str:
        """Sends a line and returns the answer to it.

        Raises:
            RuntimeError: The process has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(f"{self._script} has no pipes")
        stdin.write(line + "\n")
        stdin.flush()
        for answer in stdout:
            if answer.startswith(_ANSWER):
                return answer.removeprefix(_ANSWER).strip()
        raise RuntimeError(f"{self._script} has ended")
