"""What is erased by age: sessions, ended transactions, cached results. The audit log stays.

The audit log holds digests and no payload; that is why it may stay when a patient's data
have to go. Erasing runs when the server starts, every day after, and by `tandem purge`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from common.errors import TandemError

__all__ = ["Erasable", "Retention", "Rule"]

_DAY_S = 86_400.0
_log = logging.getLogger(__name__)


class Erasable(Protocol):
    """A store that can erase what is old."""

    def purge(self, older_than_s: float) -> int:
        """Erases what is older than so many seconds, and returns how much."""
        ...


@dataclass(frozen=True)
class Rule:
    """How long one store keeps what it holds.

    Args:
        store: The store.
        days: What is older is erased.
    """

    store: Erasable
    days: float


class Retention:
    """Applies rules when it starts and every day; close it to end its thread.

    Args:
        rules: By what the store holds ("sessions"), as shown in logs and by `tandem purge`.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = dict(rules)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._daily, name="retention", daemon=True)

    def start(self) -> None:
        """Begins; the first erasing runs at once, beside the caller."""
        self._thread.start()

    def apply(self) -> dict[str, int]:
        """Erases what is too old and returns how much, by what the store holds.

        Raises:
            TandemError: A store cannot be used, or is too busy to erase what it deleted;
                the other stores have been purged.
        """
        erased, failure = {}, None
        for name, rule in self._rules.items():
            try:
                erased[name] = rule.store.purge(rule.days * _DAY_S)
            except TandemError as error:
                failure = error
        if failure is not None:
            raise failure
        return erased

    def close(self) -> None:
        """Ends the thread; an erasing under way finishes."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _daily(self) -> None:
        while True:
            try:
                erased = self.apply()
                counts = ", ".join(f"{n} {name}" for name, n in erased.items())
                _log.info("erased by age: %s", counts)
            except TandemError as error:
                _log.warning("erasing by age failed and comes again tomorrow: %s", error)
            if self._ended.wait(_DAY_S):
                return
