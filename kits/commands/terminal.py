"""What commands show on a terminal: steps and bars on standard error, results on output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["as_json", "print_text", "shown_count", "shown_steps"]


@contextmanager
def shown_steps() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the present step and its time on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        running: list[Any] = []

        def report_step(step: str) -> None:
            if running:
                bars.update(running[-1], total=1, completed=1)
            running.append(bars.add_task(step, total=None))

        yield report_step
        if running:
            bars.update(running[-1], total=1, completed=1)


@contextmanager
def shown_count(words: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows how many of how many are done, and the time left.

    Args:
        words: What is counted.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(words, total=None)

        def report_count(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        yield report_count


def print_text(text: str) -> None:
    """Writes `text` and one line end to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def as_json(written: dict[str, Any]) -> str:
    """Returns `written` as indented JSON."""
    return json.dumps(written, indent=2, ensure_ascii=False)
