"""One training run of a text model on what price models leave unexplained of a set's calls.

The network gives each passage a score for every target (two kinds of label, two price models,
four horizons); a call's signal is the mean of its passages' scores. Targets are residuals of
out-of-fold price forecasts, each around the mean of the train calls and in units of its spread.
The epoch is the one with the best mean correlation on the dev calls; test signals are computed
once, with it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapters.methods import Full, LoRA, Method
from common.backbones import Backbone

__all__ = ["TextCell", "TextPlan", "TextRun", "TrainingCalls", "few_passages", "run_text_cell"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_METHODS: dict[str, type[Any]] = {"lora": LoRA, "full": Full}
_CLIP_NORM = 1.0
_WARMUP_SHARE = 0.1
_CONTROL_SEED = 77


@dataclass(frozen=True)
class TextPlan:
    """How much is trained; the configuration holds one for each device.

    Args:
        methods: Settings of each method that runs.
        learning_rates: What each method tries with the first seed; dev chooses.
        seeds: Seeds of initial values and draws.
        epochs: Passes over the train calls.
        calls_per_step: Calls in a step.
        passages_per_call: Passages drawn of each call in a step.
        passages_read: Passages of a call, evenly spaced, that a signal is the mean of; None
            reads all.
        weight_decay: AdamW's.
        shuffled: Methods that also run on shuffled transcripts, with the first seed.
        workers: Processes at a time.
        datasets: The sets that it is done for.
    """

    methods: Mapping[str, Mapping[str, Any]]
    learning_rates: Mapping[str, Sequence[float]]
    seeds: Sequence[int]
    epochs: int
    calls_per_step: int
    passages_per_call: int
    passages_read: int | None
    weight_decay: float
    shuffled: Sequence[str]
    workers: int
    datasets: Sequence[str]

    def method(self, name: str) -> Method:
        """Returns the method of that name with its settings."""
        method: Method = _METHODS[name](**self.methods[name])
        return method


@dataclass(frozen=True)
class TextCell:
    """A set, a method, a seed and a learning rate; `shuffled` transcripts make it a control."""

    dataset: str
    method: str
    seed: int
    learning_rate: float
    shuffled: bool = False


@dataclass(frozen=True, eq=False)
class TrainingCalls:
    """A set's calls as token ids, with their targets.

    Args:
        tokens: Token ids of each passage of each call.
        targets: `(n_calls, n_targets)` residuals; NaN where a call has no such label.
        train: Rows to train on, each with a passage.
        dev: Rows to choose the epoch on.
        test: Rows to give signals for.
    """

    tokens: Sequence[Sequence[Sequence[int]]]
    targets: Floats
    train: Ints
    dev: Ints
    test: Ints


@dataclass(frozen=True, eq=False)
class TextRun:
    """What a cell gave.

    Args:
        cell: The cell.
        signals: `(n_calls, n_targets)` in the targets' units; NaN outside dev and test.
        dev_correlation: Mean correlation with the targets on dev, by epoch.
        seconds: Time of training, evaluation left out.
        n_trained: Trained parameters.
        n_steps: Optimiser steps.
    """

    cell: TextCell
    signals: Floats
    dev_correlation: tuple[float, ...]
    seconds: float
    n_trained: int
    n_steps: int


def few_passages(call: Sequence[Sequence[int]], n: int | None) -> Sequence[Sequence[int]]:
    """Returns `n` evenly spaced passages of a call, or all of fewer."""
    if n is None or len(call) <= n:
        return call
    return [call[i] for i in np.linspace(0, len(call) - 1, n).round().astype(int)]


def run_text_cell(
    cell: TextCell, calls: TrainingCalls, backbone: Backbone, plan: TextPlan, device: str
) -> TextRun:
    """Trains and returns the signals of the best epoch."""
    import torch

    from kits.finance.weights.scorer import PassageScorer

    torch.manual_seed(cell.seed)
    tokens = _shuffled(calls, cell.seed) if cell.shuffled else calls.tokens
    scale, wanted = _standardised(calls.targets, calls.train)
    scorer = PassageScorer(
        backbone,
        plan.method(cell.method),
        n_outputs=wanted.shape[1],
        seed=cell.seed,
        device=device,
        bfloat16=True,
    )
    stepper = _Stepper(scorer, plan, tokens=tokens, wanted=wanted, train=calls.train, cell=cell)
    read = [few_passages(call, plan.passages_read) for call in tokens]
    history: list[float] = []
    best: Any = None
    seconds = 0.0
    for _ in range(plan.epochs):
        start = time.perf_counter()
        stepper.epoch()
        seconds += time.perf_counter() - start
        dev = scorer.signals([read[row] for row in calls.dev], fast=True)
        history.append(_mean_correlation(dev, wanted[calls.dev]))
        if history[-1] == max(history):
            best = scorer.snapshot()
    scorer.restore(best)
    signals = np.full_like(calls.targets, np.nan)
    rows = np.concatenate([calls.dev, calls.test])
    signals[rows] = scorer.signals([read[row] for row in rows], fast=True) * scale
    n_trained = sum(parameter.numel() for parameter in scorer.trained)
    return TextRun(cell, signals, tuple(history), seconds, n_trained, stepper.n_steps)


class _Stepper:
    """Optimiser, schedule and draws of a run."""

    def __init__(
        self,
        scorer: Any,
        plan: TextPlan,
        *,
        tokens: Sequence[Any],
        wanted: Floats,
        train: Ints,
        cell: TextCell,
    ) -> None:
        import torch

        self.scorer, self.tokens, self.wanted, self.train = scorer, tokens, wanted, train
        self.plan, self.draws = plan, np.random.default_rng(cell.seed)
        self.n_steps = plan.epochs * -(-len(train) // plan.calls_per_step)
        self.optimiser = torch.optim.AdamW(
            scorer.trained, lr=cell.learning_rate, weight_decay=plan.weight_decay
        )
        rise = max(1, round(_WARMUP_SHARE * self.n_steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser,
            lambda t: min((t + 1) / rise, (self.n_steps - t) / max(1, self.n_steps - rise)),
        )

    def epoch(self) -> None:
        import torch

        self.scorer.network.train()
        order = self.draws.permutation(self.train)
        for start in range(0, len(order), self.plan.calls_per_step):
            rows = order[start : start + self.plan.calls_per_step]
            predicted = self.scorer.draw(self.tokens, rows, self.plan.passages_per_call, self.draws)
            target = torch.tensor(self.wanted[rows], dtype=torch.float32, device=predicted.device)
            there = torch.isfinite(target)
            apart = torch.where(there, predicted - torch.nan_to_num(target), 0.0)
            loss = (apart**2).sum() / there.sum()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(self.scorer.trained, _CLIP_NORM)
            self.optimiser.step()
            self.schedule.step()


def _standardised(targets: Floats, train: Ints) -> tuple[Floats, Floats]:
    mean, scale = np.nanmean(targets[train], axis=0), np.nanstd(targets[train], axis=0)
    return scale, (targets - mean) / scale


def _mean_correlation(signals: Floats, wanted: Floats) -> float:
    found = []
    for signal, target in zip(signals.T, wanted.T, strict=True):
        there = np.isfinite(target)
        spread = signal[there].std() * target[there].std()
        if spread > 0:
            found.append(float(np.corrcoef(signal[there], target[there])[0, 1]))
    return float(np.mean(found)) if found else 0.0


def _shuffled(calls: TrainingCalls, seed: int) -> list[Any]:
    """Returns the transcripts in another order, each split for itself."""
    random = np.random.default_rng([_CONTROL_SEED, seed])
    tokens = list(calls.tokens)
    for rows in (calls.train, calls.dev, calls.test):
        for to, source in zip(rows, random.permutation(rows), strict=True):
            tokens[to] = calls.tokens[source]
    return tokens
