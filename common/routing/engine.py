"""Where the steps of a graph run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

__all__ = ["Engine", "LocalEngine"]


class Engine(Protocol):
    """Runs functions, several at a time."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Starts `function(*args)` and returns its future."""
        ...

    def wait_any(self, futures: Collection[Future[Any]]) -> Collection[Future[Any]]:
        """Blocks until at least one of `futures` is done; returns those that are."""
        ...


class LocalEngine:
    """Threads of this process. Models release the interpreter lock inside their kernels.

    Args:
        workers: How many steps run at a time.
    """

    def __init__(self, workers: int = 4) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tandem")

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Starts `function(*args)` on a thread."""
        return self._pool.submit(function, *args)

    def wait_any(self, futures: Collection[Future[Any]]) -> Collection[Future[Any]]:
        """Blocks until at least one of `futures` is done; returns those that are."""
        return wait(futures, return_when=FIRST_COMPLETED).done

    def close(self) -> None:
        """Ends the threads after their present step."""
        self._pool.shutdown()
