"""What `serving.router` is timed against: LiteLLM's `Router`, under another interpreter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["LiteLLM"]


class LiteLLM:
    """LiteLLM's `Router` on a mocked answer; use as a context.

    Args:
        python: The interpreter of an environment with `litellm`.
        settings: What `litellm_peer.py` reads first.
    """

    def __init__(self, python: str, settings: Mapping[str, Any]) -> None:
        script = Path(__file__).with_name("litellm_peer.py")
        self._process = subprocess.Popen(  # noqa: S603  # the caller's own interpreter
            [python, "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._ask(json.dumps(dict(settings)))

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

    def seconds(self, call: str, times: int) -> list[float]:
        """Has the peer run "completion" or "acompletion" on end; returns the time of each."""
        return [float(one) for one in json.loads(self._ask(f"{call} {times}"))]

    def _ask(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("LiteLLM's process has no pipes")
        stdin.write(line + "\n")
        stdin.flush()
        for answer in stdout:
            if answer.startswith("peer: "):
                return answer.removeprefix("peer: ").strip()
        raise RuntimeError("LiteLLM's process has ended")
