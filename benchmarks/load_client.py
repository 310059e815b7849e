"""A bounded load on a server of this machine: clients that each wait for their answer.

    python -m benchmarks.load_client '{"port": 8080, "path": "/...", "clients": 200, ...}'

It speaks just enough HTTP/1.1 over kept-alive connections to cost little beside the server
it measures, and goes to 127.0.0.1 alone. Every second that has passed is one JSON line on
standard output: answers, other statuses, requests lost (a connection broken or silent), and
the latencies of that second in milliseconds. Each request asks about another text.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Load", "run_load"]

_HOST = "127.0.0.1"
_SILENT_S = 60.0
_WORDS = ("orders", "fell", "margins", "rose", "debt", "covenant", "region", "quarter", "growth")


@dataclass(frozen=True)
class Load:
    """What is sent, by how many, for how long.

    Args:
        port: On 127.0.0.1.
        path: Of the request.
        headers: Besides Host and Content-Length.
        body: JSON; the text {text} in it is replaced by each request's own.
        clients: Connections that are open at a time, 1,000 at most.
        seconds: Until no new request is sent, 600 at most.
        words: Of each text, besides a number.
        first: Number of the first text, so that no two loads send the same.
    """

    port: int
    path: str
    headers: Mapping[str, str]
    body: str
    clients: int
    seconds: float
    words: int = 6
    first: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.clients <= 1000 and 0 < self.seconds <= 600):
            raise ValueError("a load is bounded: 1 to 1,000 clients, 600 seconds")


@dataclass
class _Second:
    """What happened in one second."""

    answers: int = 0
    lost: int = 0
    others: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)


class _Clients:
    """All clients of one load."""

    def __init__(self, load: Load) -> None:
        self._load, self._next = load, load.first
        headers = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
        self._head = f"POST {load.path} HTTP/1.1\r\nHost: {_HOST}\r\n{headers}"
        self._second = _Second()
        self._end = 0.0

    async def run(self) -> None:
        self._end = time.perf_counter() + self._load.seconds
        clients = [asyncio.ensure_future(self._client()) for _ in range(self._load.clients)]
        while any(not client.done() for client in clients):
            await asyncio.wait(clients, timeout=1.0)
            said, self._second = self._second, _Second()
            _say(said)

    async def _client(self) -> None:
        while time.perf_counter() < self._end:
            try:
                reader, writer = await asyncio.open_connection(_HOST, self._load.port)
                try:
                    await self._ask_until_the_end(reader, writer)
                finally:
                    writer.close()
            except (OSError, EOFError, TimeoutError):
                self._second.lost += 1
                await asyncio.sleep(0.1)

    async def _ask_until_the_end(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while time.perf_counter() < self._end:
            body = self._load.body.replace("{text}", self._text()).encode()
            begun = time.perf_counter()
            writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            async with asyncio.timeout(_SILENT_S):
                status = await _read_answer(reader)
            self._second.milliseconds.append(1000 * (time.perf_counter() - begun))
            if status == 200:
                self._second.answers += 1
            else:
                self._second.others[status] += 1

    def _text(self) -> str:
        number, self._next = self._next, self._next + 1
        words = [_WORDS[(number // 7**place) % len(_WORDS)] for place in range(self._load.words)]
        return f"{' '.join(words)} {number}"


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Reads one answer with a stated length, or in chunks, and returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
        return status
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + 2)
        if size == 0:
            return status


def run_load(load: Load) -> None:
    """Runs a load and prints a line for each second."""
    asyncio.run(_Clients(load).run())


def _say(second: _Second) -> None:
    said: dict[str, Any] = {
        "answers": second.answers,
        "lost": second.lost,
        "others": {str(status): n for status, n in second.others.items()},
        "milliseconds": [round(one, 2) for one in second.milliseconds],
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run_load(Load(**json.loads(sys.argv[1])))
