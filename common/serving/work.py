"""Threads on which blocking work of requests runs, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from common.errors import OverloadError
from common.request import current_request

__all__ = ["WorkThreads"]

T = TypeVar("T")
_PATIENCE_S = 0.1  # most answers are there by then, and nobody needs to watch the caller


class WorkThreads:
    """A bounded number of threads, and of requests that wait for one.

    Args:
        threads: Pieces of work that run at a time; most of them wait for the engine.
        waiting: Pieces of work that may wait for a thread.
    """

    def __init__(self, *, threads: int = 64, waiting: int = 192) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._room = threads + waiting
        self._taken = 0

    async def run(self, request: Request | None, work: Callable[[], T]) -> T:
        """Returns what `work()` returns; it sees the request through `current_request`.

        Where the caller goes away, the request is given up: the model that works for it
        ends at its next `check_wanted`.

        Args:
            request: Whose caller is watched; its body has been read. None where leaving
                cancels the task that awaits this, as in gRPC.
            work: A blocking function.

        Raises:
            OverloadError: As much waits as may; nothing was started.
        """
        if self._taken >= self._room:
            raise OverloadError(
                "server",
                expected=f"fewer than {self._room} requests at work",
                found="as many",
                remedy="Send the request again later.",
            )
        self._taken += 1
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._pool, context.run, work)
        running.add_done_callback(self._leave)
        try:
            await asyncio.wait({running}, timeout=None if request is None else _PATIENCE_S)
            if request is not None and not running.done():
                await self._watch(request, running)
        except asyncio.CancelledError:
            current_request().give_up()
            raise
        return await running

    def close(self) -> None:
        """Ends the threads after their present work."""
        self._pool.shutdown(cancel_futures=True)

    async def _watch(self, request: Request, running: asyncio.Future[T]) -> None:
        """Returns when the work is done; gives the request up where its caller goes first."""
        gone = asyncio.ensure_future(_disconnection(request))
        both: set[asyncio.Future[Any]] = {running, gone}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                current_request().give_up()
                await asyncio.wait({running})
        finally:
            gone.cancel()

    def _leave(self, done: asyncio.Future[T]) -> None:
        self._taken -= 1
        if not done.cancelled():
            done.exception()  # seen, also where the caller's task was cancelled


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
