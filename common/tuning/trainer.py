"""The Trainer: tunes a text model on labelled examples with any method, in one call.

Order of a fit: read and check the rows, choose the method, then on every process encode,
build, choose the precision and train (`common.tuning.fitting`), and save.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from common.adapters.anatomy import anatomy_of
from common.adapters.heads import TooLong
from common.adapters.methods import Method
from common.backbones import Backbone, load_backbone
from common.errors import TuningError
from common.task import Result
from common.tuning.checkpoints import EvaluationRecord, StepRecord
from common.tuning.datasets import Examples, TaskKind, read_examples
from common.tuning.fitting import Job, Outcome, finish, fit_job
from common.tuning.loop import OneProcess
from common.tuning.metrics import choose_metric
from common.tuning.recipe import (
    PrecisionName,
    Recipe,
    Schedule,
    default_learning_rate,
)
from common.tuning.tuned import TunedModel

__all__ = ["Trainer", "TrainingReport"]

_LOGGER = logging.getLogger(__name__)
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainingReport:
    """What a run did.

    Args:
        task: What was learned.
        method: What was trained.
        method_reason: Who chose it, and why.
        history: Every step.
        evaluations: Every evaluation.
        metric: What decided which weights are best.
        best_value: Its best value; None without evaluation rows.
        best_step: Steps made when it was reached; the weights are those.
        steps: Steps made, over all parts of a resumed run.
        learning_rate: Peak of the schedule.
        seconds: Time spent in steps.
        tokens_per_s: Tokens read in a second of it, padding apart, over all processes.
        peak_memory_bytes: What torch allocated at most on the first process's GPU, or the
            largest resident memory of the whole process on a CPU.
        precision: In which it computed.
        precision_reason: Why in this one.
        n_trained: Parameters trained, head included.
        n_parameters: All parameters of base, adapter and head.
        n_processes: Processes that shared the run.
        folder: Where the tuned model was saved, if anywhere.
        notes: What else the reader should know, as sentences.
    """

    task: TaskKind
    method: Method
    method_reason: str
    history: tuple[StepRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    metric: str
    best_value: float | None
    best_step: int | None
    steps: int
    learning_rate: float
    seconds: float
    tokens_per_s: float
    peak_memory_bytes: int
    precision: str
    precision_reason: str
    n_trained: int
    n_parameters: int
    n_processes: int
    folder: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Trainer:
    """Tunes a text model: `Trainer("minilm", method=LoRA()).fit(rows)`.

    Args:
        model: Bundled name, folder or hub id of the base, or the base itself.
        method: `LoRA`, `Prefix`, `Bottleneck` or `Full` from `common.adapters.methods`, or
            "auto" to ask `common.adapters.advisor`.
        precision: "fp32", "bf16", "fp8", or "auto" for the fastest that the device has.
            One that the device cannot use, or that is slower here, is replaced and the
            reason logged and reported.
            The fastest is found by timing; for runs that repeat to the bit, name "fp32".
        gradient_checkpointing: Whether to recompute each block in the backward pass, which
            saves memory and costs about a third more time.
        distributed_strategy: "ddp" to share the work over processes: those of torchrun, or
            one spawned for each GPU.
        n_processes: How many to spawn; one per GPU, or one on a CPU, without it.
        process_timeout_s: Longest time that one process waits for another before all end.
        device: "cpu" or "cuda"; a GPU where there is one without it.
        seed: Seed of initial weights, order and dropout.
        task: What the labels are; inferred from them without it.
        learning_rate: Peak of the schedule; the method's default without it (`recipe.py`).
        batch_size: Rows of a step, over all processes.
        micro_batch_size: Most rows that a process runs at once; a step then takes several
            passes, with the same result.
        schedule: Fall of the learning rate: "linear" or "cosine" to 0, or "constant".
        warmup_share: Share of the steps over which the learning rate rises.
        weight_decay: AdamW's, of weights; biases and norms have none.
        clip_norm: Largest global norm of the gradient.
        max_tokens: Longest input read at once; the base's limit without it.
        too_long: Whether a longer text is refused or read in consecutive windows.
        packed: Whether language-model texts follow each other without padding; True
            without it, but for prefixes.
        metric: What decides which weights are best; the task's first without it.
        patience: Evaluations without a gain after which training stops; None for never.
        evaluate_every: Steps between evaluations; the end of each epoch without it.
        checkpoint_every: Steps between checkpoints; the end of each epoch without it.
        keep_checkpoints: How many of the latest are kept.
        text: Column of the texts.
        label: Column of the labels.

    Raises:
        TuningError: A setting has a value that cannot be used.
    """

    model: str | Path | Backbone
    _: KW_ONLY
    method: Method | Literal["auto"] = "auto"
    precision: PrecisionName = "auto"
    gradient_checkpointing: bool = False
    distributed_strategy: Literal["ddp"] | None = None
    n_processes: int | None = None
    process_timeout_s: float = 1800.0
    device: Literal["cpu", "cuda"] | None = None
    seed: int = 0
    task: TaskKind | None = None
    learning_rate: float | None = None
    batch_size: int = 16
    micro_batch_size: int | None = None
    schedule: Schedule = "linear"
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    max_tokens: int | None = None
    too_long: TooLong = "refuse"
    packed: bool | None = None
    metric: str | None = None
    patience: int | None = 3
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    text: str = "text"
    label: str = "label"
    _base: Backbone | None = field(default=None, init=False, repr=False)
    _tuned: TunedModel | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._recipe()

    def fit(
        self,
        dataset: Any,
        *,
        epochs: int = 3,
        eval_dataset: Any = None,
        resume: Literal["auto"] | str | Path | None = None,
        out: str | Path | None = None,
    ) -> TrainingReport:
        """Tunes the base and keeps the outcome for `predict`; the base itself never changes.

        A run with `out` writes checkpoints to `out/checkpoints` and the tuned model to
        `out`, for `load_tuned`. Killed at any moment and started again with
        `resume="auto"`, it goes on from the last checkpoint, and on a CPU with the same
        number of threads ends with the very weights of an uninterrupted run.

        Args:
            dataset: A list of dicts, a pandas DataFrame, a `datasets.Dataset` or a torch
                Dataset (`common.tuning.datasets`).
            epochs: Passes over it.
            eval_dataset: Rows for the metric; the best weights by it are kept.
            resume: "auto" for the latest checkpoint under `out`, if there is one, or the
                folder of one. A checkpoint of other data or settings is refused.
            out: Folder to save to; nothing is written without it.

        Raises:
            TableError: The rows are faulty: all faults in one message.
            BackboneError: The base cannot be loaded.
            AdapterError: The base cannot take the method.
            TuningError: Training cannot start or go on.
        """
        job, reason = self._plan(dataset, epochs, eval_dataset, resume, out)
        outcome = _launch(job)
        notes = _notes(job, outcome)
        for note in notes:
            _LOGGER.info("%s", note)
        self._tuned = finish(self._backbone(), job, outcome)
        folder = Path(out) if out is not None else None
        if folder is not None and outcome.rank == 0:
            self._tuned.save(folder)
        return _report(job, outcome, reason, folder, notes)

    def predict(self, texts: Sequence[str]) -> list[Result]:
        """Returns what the tuned model makes of each text; `fit` comes first."""
        if self._tuned is None:
            raise TuningError(
                "trainer",
                expected="a tuned model",
                found="none yet",
                remedy="Call fit first, or load a saved model with load_tuned.",
            )
        return self._tuned.predict(texts)

    def _recipe(self) -> Recipe:
        return Recipe(**{item.name: getattr(self, item.name) for item in fields(Recipe)})

    def _backbone(self) -> Backbone:
        if self._base is None:
            given = self.model
            self._base = given if isinstance(given, Backbone) else load_backbone(given)
        if self._base.tokenizer is None:
            raise TuningError(
                "base model",
                expected="one that reads text",
                found=f"{self._base.name}, which reads images",
                remedy="Attach adapters to it with common.adapters.attach and train it in a loop "
                "of your own.",
            )
        return self._base

    def _plan(
        self,
        dataset: Any,
        epochs: int,
        eval_dataset: Any,
        resume: Literal["auto"] | str | Path | None,
        out: str | Path | None,
    ) -> tuple[Job, str]:
        if epochs < 1:
            raise TuningError(
                "epochs", expected="1 or more", found=str(epochs), remedy="Ask for at least one."
            )
        if resume is not None and out is None:
            raise TuningError(
                "resume",
                expected="the folder that the run was saved to",
                found="no out=",
                remedy="Pass the out= of the run to go on with.",
            )
        recipe = self._recipe()
        examples = read_examples(dataset, text=self.text, label=self.label, task=self.task)
        evaluation = None
        if eval_dataset is not None:
            evaluation = read_examples(
                eval_dataset, text=self.text, label=self.label, like=examples
            )
        choose_metric(examples.task, self.metric)
        backbone = self._backbone()
        method, recipe, reason = _choose_method(recipe, backbone, examples)
        method.require(anatomy_of(backbone))
        job = Job(
            model=self.model if self.distributed_strategy == "ddp" else backbone,
            method=method,
            recipe=recipe,
            examples=examples,
            evaluation=evaluation,
            epochs=epochs,
            checkpoints=Path(out) / _CHECKPOINTS if out is not None else None,
            resume="auto" if resume == "auto" else Path(resume) if resume else None,
        )
        return job, reason


def _choose_method(
    recipe: Recipe, backbone: Backbone, examples: Examples
) -> tuple[Method, Recipe, str]:
    """Returns the method, the recipe with its learning rate, and why it is this method.

    "auto" asks the advisor, with the base and the number of rows; a learning rate that the
    caller gave stays.
    """
    if recipe.method != "auto":
        return recipe.method, recipe, "as asked for"
    from common.adapters.advisor import recommend

    causal_lm = examples.task == "causal_lm"
    anatomy = anatomy_of(backbone)
    advice = recommend(len(examples), anatomy=anatomy, causal_lm=causal_lm)
    rate = recipe.learning_rate or float(advice.settings["learning_rate"])
    reason = " ".join(advice.reasons)
    return advice.method, replace(recipe, learning_rate=rate), reason


def _launch(job: Job) -> Outcome:
    import torch

    kind: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    kind = job.recipe.device or kind
    if kind == "cuda" and not torch.cuda.is_available():
        raise TuningError(
            "device",
            expected="a GPU that torch can use",
            found="none",
            remedy='Leave device= out, or pass device="cpu".',
        )
    if job.recipe.distributed_strategy is None:
        _require_alone()
        return fit_job(job, OneProcess(torch.device(kind)))
    from common.tuning.distributed import run_distributed

    return run_distributed(
        partial(fit_job, job),
        n_processes=job.recipe.n_processes,
        device=kind,
        timeout_s=job.recipe.process_timeout_s,
    )


def _require_alone() -> None:
    """Refuses to let each rank of torchrun train the whole run and write the same folder."""
    n_ranks = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and n_ranks != "1":
        raise TuningError(
            "distributed_strategy",
            expected='"ddp" where torchrun starts several processes',
            found=f"none, in {n_ranks} processes",
            remedy='Pass distributed_strategy="ddp", or start the script without torchrun.',
        )


def _notes(job: Job, outcome: Outcome) -> tuple[str, ...]:
    notes = []
    if job.recipe.distributed_strategy == "ddp" and outcome.world_size == 1:
        notes.append("ddp was asked for; there is one device, so one process did all the work.")
    requested = job.recipe.precision
    if requested not in {"auto", outcome.precision.name}:
        reason = outcome.precision.reason.rstrip(".")
        notes.append(f"Precision {outcome.precision.name} instead of {requested}: {reason}.")
    return tuple(notes)


def _report(
    job: Job, outcome: Outcome, reason: str, folder: Path | None, notes: tuple[str, ...]
) -> TrainingReport:
    state, task, best = outcome.state, job.examples.task, outcome.state.best
    metric = choose_metric(task, job.recipe.metric).name
    return TrainingReport(
        task=task,
        method=job.method,
        method_reason=reason,
        history=state.steps,
        evaluations=state.evaluations,
        metric=metric,
        best_value=best.metrics[metric] if best else None,
        best_step=best.step if best else None,
        steps=state.step,
        learning_rate=job.recipe.learning_rate or default_learning_rate(job.method, task),
        seconds=state.seconds,
        tokens_per_s=state.n_tokens / state.seconds if state.seconds else 0.0,
        peak_memory_bytes=outcome.peak_memory_bytes,
        precision=outcome.precision.name,
        precision_reason=outcome.precision.reason,
        n_trained=outcome.n_trained,
        n_parameters=outcome.n_parameters,
        n_processes=outcome.world_size,
        folder=folder,
        notes=notes,
    )
