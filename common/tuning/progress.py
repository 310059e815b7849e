"""How far a run is: a bar in a terminal, lines in a log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from common.tuning.checkpoints import EvaluationRecord, StepRecord

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "Lines", "Silence", "TrainingDisplay", "show_training"]

_LOGGER = logging.getLogger(__name__)
_SECONDS_PER_LINE = 10.0


class TrainingDisplay(Protocol):
    """A context in which steps and evaluations are shown."""

    def __enter__(self) -> Self:
        """Starts showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops showing."""

    def step(self, record: StepRecord, tokens_per_s: float) -> None:
        """Shows a step."""

    def evaluation(self, record: EvaluationRecord) -> None:
        """Shows an evaluation."""


def show_training(total_steps: int, *, rank: int = 0) -> TrainingDisplay:
    """Returns a bar where standard error is a terminal, and log lines elsewhere.

    Args:
        total_steps: Steps of the whole run.
        rank: Only the first process shows anything.
    """
    if rank != 0:
        return Silence()
    return Bar(total_steps) if sys.stderr.isatty() else Lines(total_steps)


class Silence:
    """Shows nothing: for every process but the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""

    def step(self, record: StepRecord, tokens_per_s: float) -> None:
        """Does nothing."""

    def evaluation(self, record: EvaluationRecord) -> None:
        """Does nothing."""


class Lines:
    """Logs a line every ten seconds, and one for each evaluation.

    Args:
        total_steps: Steps of the whole run.
    """

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing: a log needs no closing."""

    def step(self, record: StepRecord, tokens_per_s: float) -> None:
        """Logs the step if ten seconds have passed, or if it is the last."""
        now = time.monotonic()
        if now - self._last < _SECONDS_PER_LINE and record.step < self._total:
            return
        self._last = now
        _LOGGER.info(
            "step %d of %d, loss %.4f, %.0f tokens/s",
            record.step,
            self._total,
            record.loss,
            tokens_per_s,
        )

    def evaluation(self, record: EvaluationRecord) -> None:
        """Logs every metric."""
        _LOGGER.info("step %d of %d, %s", record.step, self._total, _metrics(record))


class Bar:
    """A bar on standard error with loss, tokens per second and the last evaluation.

    Args:
        total_steps: Steps of the whole run.
    """

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._loss, self._rate, self._metrics = "", "", ""
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            Remaining(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("training", total=self._total, figures="")
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the bar as it stands."""
        if self._progress is not None:
            self._progress.stop()

    def step(self, record: StepRecord, tokens_per_s: float) -> None:
        """Moves the bar."""
        self._loss, self._rate = f"loss {record.loss:.4f}", f"{tokens_per_s:,.0f} tokens/s"
        self._show(record.step)

    def evaluation(self, record: EvaluationRecord) -> None:
        """Shows every metric beside the bar."""
        self._metrics = _metrics(record)
        self._show(record.step)

    def _show(self, step: int) -> None:
        if self._progress is not None:
            figures = "  ".join(word for word in (self._loss, self._rate, self._metrics) if word)
            self._progress.update(self._task, completed=step, figures=figures)


def _metrics(record: EvaluationRecord) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
