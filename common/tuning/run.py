"""One training run on one process: epochs of steps, with evaluations and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from common.errors import TuningError
from common.tuning.batches import BatchPlan, Encoded, cut_step
from common.tuning.checkpoints import (
    Checkpoint,
    CheckpointStore,
    EvaluationRecord,
    RunState,
    StepRecord,
    load_trained,
    optimizer_tensors,
    restore_optimizer,
    trained_tensors,
)
from common.tuning.loop import (
    LoopSettings,
    Ranks,
    build_optimizer,
    learning_rate_at,
    run_step,
    seed_step,
)
from common.tuning.metrics import Metric, evaluate
from common.tuning.objectives import TunedNetwork

__all__ = ["Cadence", "Display", "RunData", "run_training"]

_LOGGER = logging.getLogger(__name__)
_STEPS_PER_READING = 10  # a loss read at every step would make a GPU wait


class Display(Protocol):
    """What shows how far a run is; `progress.py` has one for terminals and one for logs."""

    def step(self, record: StepRecord, tokens_per_s: float) -> None:
        """Shows a step."""

    def evaluation(self, record: EvaluationRecord) -> None:
        """Shows an evaluation."""


@dataclass(frozen=True)
class RunData:
    """What a run reads.

    Args:
        train: Training rows.
        evaluation: Rows that metrics are computed on, if any.
    """

    train: Encoded
    evaluation: Encoded | None = None


@dataclass(frozen=True)
class Cadence:
    """When a run looks up from its steps.

    Args:
        metric: What decides which weights are best.
        patience: Evaluations without a gain after which it stops early; None for never.
        evaluate_every: Steps between evaluations; the end of each epoch without it.
        checkpoint_every: Steps between checkpoints; the end of each epoch without it.
        store: Where checkpoints go, on every rank; None for none.
    """

    metric: Metric
    patience: int | None = None
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    store: CheckpointStore | None = None


def run_training(
    network: TunedNetwork,
    data: RunData,
    settings: LoopSettings,
    *,
    cadence: Cadence,
    ranks: Ranks,
    start: Checkpoint | None = None,
    display: Display | None = None,
    began: RunState | None = None,
) -> RunState:
    """Trains `network` in place until its last step, or until it no longer improves.

    With evaluation rows the weights of the best evaluation are restored at the end.

    Args:
        network: On its device, in its precision.
        data: Training and evaluation rows, the same on every rank.
        settings: How to step.
        cadence: When to evaluate and to save.
        ranks: The processes that share the run.
        start: A checkpoint to go on from.
        display: Shows progress; rank 0 has one.
        began: How a run that starts anew computes, for its checkpoints.

    Raises:
        TuningError: The loss or the gradient is no longer finite.
    """
    run = _Run(
        network,
        data,
        settings=settings,
        cadence=cadence,
        ranks=ranks,
        display=display,
        start=start or Checkpoint(began or RunState(), {}, {}),
    )
    for epoch, rows in run.remaining():
        run.make_step(rows)
        at_end = run.state.step % run.plan.steps_per_epoch == 0
        run.evaluate_if_due(at_end=at_end)
        run.save_if_due(at_end=at_end)
        if run.state.stopped:
            if run.state.step < run.total_steps:
                _LOGGER.info("stopped early, in epoch %d of %d", epoch + 1, settings.epochs)
            break
    run.finish()
    return run.state


class _Run:
    """The changing part of a run: weights, optimiser and where it stands."""

    def __init__(
        self,
        network: TunedNetwork,
        data: RunData,
        *,
        settings: LoopSettings,
        cadence: Cadence,
        ranks: Ranks,
        display: Display | None,
        start: Checkpoint,
    ) -> None:
        self.network, self.data, self.settings = network.train(), data, settings
        self.cadence, self.ranks, self.display = cadence, ranks, display
        lengths = tuple(data.train.n_tokens(row) for row in range(len(data.train)))
        self.plan = BatchPlan(
            lengths, settings.batch_size, settings.seed, bucketed=not settings.packed
        )
        self.total_steps = settings.epochs * self.plan.steps_per_epoch
        self.state = start.state
        if start.weights:
            load_trained(network, start.weights)
        self.wrapped = ranks.wrap(network)
        self.optimizer = build_optimizer(network, settings)
        restore_optimizer(network, self.optimizer, start.optimizer)
        self._steps = list(start.state.steps)
        self._best: dict[str, Tensor] | None = None
        self._unread: list[tuple[StepRecord, Tensor, Tensor]] = []
        self._tokens_unread = 0
        self._clock = time.perf_counter()

    def remaining(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yields epoch and rows of every global batch that is still to come."""
        if self.state.stopped:
            return
        per_epoch = self.plan.steps_per_epoch
        for epoch in range(self.state.step // per_epoch, self.settings.epochs):
            done = self.state.step - epoch * per_epoch
            for rows in self.plan.epoch(epoch)[done:]:
                yield epoch, rows

    def make_step(self, rows: tuple[int, ...]) -> None:
        """Makes one update from a global batch."""
        settings, step, encoded = self.settings, self.state.step, self.data.train
        batches = cut_step(
            encoded,
            rows,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            micro_batch_size=settings.micro_batch_size,
            packed=settings.packed,
            pad_to=settings.pad_to,
        )
        seed_step(settings, step, self.ranks.rank)
        rate = learning_rate_at(step, self.total_steps, settings)
        part, norm = run_step(
            self.wrapped,
            self.optimizer,
            batches,
            count=encoded.count(rows),
            learning_rate=rate,
            clip_norm=settings.clip_norm,
            ranks=self.ranks,
        )
        self._unread.append((StepRecord(step + 1, math.nan, rate), part, norm))
        self._tokens_unread += sum(encoded.n_tokens(row) for row in rows)
        self.state = replace(self.state, step=step + 1)
        if self.ranks.device.type == "cpu" or len(self._unread) >= _STEPS_PER_READING:
            self._read_losses()

    def evaluate_if_due(self, *, at_end: bool) -> None:
        """Evaluates where the cadence says so; keeps the best weights; may stop the run."""
        every, encoded = self.cadence.evaluate_every, self.data.evaluation
        due = self.state.step % every == 0 if every else at_end
        if encoded is None or not (due or self.state.step == self.total_steps):
            return
        self._read_losses()
        metrics = evaluate(self.network, encoded, self.settings, ranks=self.ranks)
        record = EvaluationRecord(self.state.step, metrics)
        best = self.state.best
        better = self.cadence.metric.improves(metrics, best.metrics if best else None)
        self.state = replace(
            self.state,
            evaluations=(*self.state.evaluations, record),
            best=record if better else best,
            stale=0 if better else self.state.stale + 1,
        )
        if better:
            self._keep_best()
        patience = self.cadence.patience
        if patience is not None and self.state.stale >= patience:
            self.state = replace(self.state, stopped=True)
        if self.display:
            self.display.evaluation(record)
        self._clock = time.perf_counter()

    def save_if_due(self, *, at_end: bool) -> None:
        """Writes a checkpoint where the cadence says so, and when the run ends."""
        store, every = self.cadence.store, self.cadence.checkpoint_every
        due = self.state.step % every == 0 if every else at_end
        ended = self.state.stopped or self.state.step == self.total_steps
        if store is None or not (due or ended):
            return
        self._read_losses()
        self.state = replace(self.state, stopped=ended, steps=tuple(self._steps))
        if self.ranks.rank == 0:
            store.save(
                Checkpoint(
                    self.state,
                    trained_tensors(self.network),
                    optimizer_tensors(self.network, self.optimizer),
                )
            )
        self.ranks.wait()
        self._clock = time.perf_counter()

    def finish(self) -> None:
        """Reads what is outstanding and restores the best weights."""
        self._read_losses()
        self.state = replace(self.state, stopped=True, steps=tuple(self._steps))
        if self.state.best is None:
            return
        if self._best is None and self.cadence.store is not None:
            self._best = self.cadence.store.read_best(self.state.best.step)
        if self._best is not None:
            load_trained(self.network, self._best)

    def _keep_best(self) -> None:
        if self.cadence.store is None:
            self._best = trained_tensors(self.network)
            return
        if self.ranks.rank == 0:
            self.cadence.store.save_best(self.state.step, trained_tensors(self.network))
        self.ranks.wait()

    def _read_losses(self) -> None:
        """Fetches the losses of the steps since the last time, and checks them."""
        if not self._unread:
            return
        parts = torch.stack([part for _, part, _ in self._unread]).tolist()
        norms = torch.stack([norm for _, _, norm in self._unread]).tolist()
        losses = self.ranks.total(parts)
        records = tuple(
            replace(record, loss=loss)
            for (record, _, _), loss in zip(self._unread, losses, strict=True)
        )
        for record, norm in zip(records, norms, strict=True):
            if not (math.isfinite(record.loss) and math.isfinite(norm)):
                raise _diverged(record, norm)
        now = time.perf_counter()
        seconds, tokens = now - self._clock, self._tokens_unread
        self.state = replace(
            self.state,
            n_tokens=self.state.n_tokens + tokens,
            seconds=self.state.seconds + seconds,
        )
        self._steps += records
        if self.display:
            self.display.step(records[-1], tokens / seconds)
        self._unread, self._tokens_unread, self._clock = [], 0, now


def _diverged(record: StepRecord, norm: float) -> TuningError:
    return TuningError(
        "training",
        expected="a finite loss and gradient",
        found=f"loss {record.loss:g}, gradient norm {norm:g} at step {record.step} "
        f"(learning rate {record.learning_rate:.2g})",
        remedy='Lower learning_rate, raise warmup_share or take precision="bf16" or "fp32"; the '
        "checkpoints before this step are unharmed.",
    )
