"""One computation for many waiting threads of a process.

The first thread that wants a key flies for it; the others follow, and take what it brings,
its failure included. A flight that was given up tells its followers to try for themselves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Flight", "Flights"]

T = TypeVar("T")

_LOOK_S = 0.05  # how often a follower looks whether its own request is still wanted


class Flight(Generic[T]):
    """A computation under way."""

    def __init__(self) -> None:
        self._landed = threading.Event()
        self._value: T | None = None
        self._error: Exception | None = None

    def bring(self, value: T) -> None:
        """Ends it with what was wanted."""
        self._value = value
        self._landed.set()

    def fail(self, error: Exception) -> None:
        """Ends it with a failure that every follower shares."""
        self._error = error
        self._landed.set()

    def give_up(self) -> None:
        """Ends it with nothing, unless it has ended."""
        self._landed.set()

    def follow(self, check: Callable[[], None]) -> T | None:
        """Waits for the end; None says that it was given up.

        Args:
            check: Called while it waits; ends the waiting by raising.

        Raises:
            Exception: What the computation failed with, or what `check` raises.
        """
        while not self._landed.wait(_LOOK_S):
            check()
        if self._error is not None:
            raise self._error
        return self._value


class Flights(Generic[T]):
    """The computations under way in this process, by key."""

    def __init__(self) -> None:
        self._begin()

    def join(self, keys: Iterable[str]) -> tuple[dict[str, Flight[T]], dict[str, Flight[T]]]:
        """Returns the flights that the caller now flies, and those that it may follow."""
        if self._process_id != os.getpid():
            self._begin()  # the threads that flew stayed behind the fork
        flown, followed = {}, {}
        with self._lock:
            for key in keys:
                if key in self._under_way:
                    followed[key] = self._under_way[key]
                else:
                    flown[key] = self._under_way[key] = Flight()
        return flown, followed

    def leave(self, flown: dict[str, Flight[T]]) -> None:
        """Ends flights of the caller; those that brought nothing are given up."""
        with self._lock:
            for key, flight in flown.items():
                if self._under_way.get(key) is flight:
                    del self._under_way[key]
        for flight in flown.values():
            flight.give_up()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Flight[T]] = {}
        self._process_id = os.getpid()
