"""How to tune: every setting of a Trainer, checked, and the defaults with their sources.

Learning rates: full tuning of an encoder 5e-5 (the upper end of Devlin et al. 2018, arXiv
1810.04805), of a language model 2e-5 (Touvron et al. 2023, arXiv 2307.09288). LoRA's best
rate is about ten times that of full tuning, whatever the rank (Schulman and Thinking
Machines Lab 2025, "LoRA Without Regret"). Bottleneck adapters: 3e-4, the middle of the
three that Houlsby et al. 2019 try (arXiv 1902.00751). Prefixes without reparametrisation:
5e-3, as P-tuning v2 (Liu et al. 2021, arXiv 2110.07602).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from common.adapters.heads import TooLong
from common.adapters.methods import Method
from common.errors import TuningError
from common.task import digest_of
from common.tuning.datasets import TaskKind

__all__ = ["PrecisionName", "Recipe", "Schedule", "default_learning_rate"]

PrecisionName = Literal["auto", "fp32", "bf16", "fp8"]
Schedule = Literal["linear", "cosine", "constant"]

_FULL_RATE = {"causal_lm": 2e-5}
_ENCODER_RATE = 5e-5
_LORA_FACTOR = 10.0
_RATES = {"bottleneck": 3e-4, "prefix": 5e-3}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a run. `Trainer` describes each of them."""

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

    def __post_init__(self) -> None:
        known = self.method == "auto" or isinstance(self.method, get_args(Method))
        _require("method", known, self.method)
        _require("precision", self.precision in get_args(PrecisionName), self.precision)
        _require(
            "distributed_strategy",
            self.distributed_strategy in {None, "ddp"},
            self.distributed_strategy,
        )
        _require("schedule", self.schedule in get_args(Schedule), self.schedule)
        _require("too_long", self.too_long in get_args(TooLong), self.too_long)
        _require("task", self.task is None or self.task in get_args(TaskKind), self.task)
        for name in ("batch_size", "keep_checkpoints"):
            _require(name, getattr(self, name) >= 1, getattr(self, name))
        _require("device", self.device in {None, "cpu", "cuda"}, self.device)
        for name in (
            "n_processes",
            "micro_batch_size",
            "patience",
            "evaluate_every",
            "checkpoint_every",
        ):
            given = getattr(self, name)
            _require(name, given is None or given >= 1, given)
        _require("max_tokens", self.max_tokens is None or self.max_tokens >= 3, self.max_tokens)
        _require("warmup_share", 0 <= self.warmup_share < 1, self.warmup_share)
        _require("weight_decay", self.weight_decay >= 0, self.weight_decay)
        _require("process_timeout_s", self.process_timeout_s > 0, self.process_timeout_s)
        _require("clip_norm", self.clip_norm > 0, self.clip_norm)
        rate = self.learning_rate
        _require("learning_rate", rate is None or rate > 0, rate)

    def fingerprint(self, method: Method, *, epochs: int, pieces: tuple[str, ...]) -> str:
        """Returns the sha256 of what decides the weights of a run.

        Device, number of processes, rows in a pass, gradient checkpointing and how often
        a checkpoint is written may change between two parts of one run.

        Args:
            method: The method in force, which "auto" may have chosen.
            epochs: Passes over the data.
            pieces: Digests of base and data.
        """
        free = {
            "distributed_strategy",
            "n_processes",
            "process_timeout_s",
            "device",
            "micro_batch_size",
            "checkpoint_every",
            "keep_checkpoints",
            "text",
            "label",
            "method",
            "gradient_checkpointing",
        }
        fixed = {name: value for name, value in vars(self).items() if name not in free}
        content = {**fixed, "method": [method.kind, asdict(method)], "epochs": epochs}
        words = json.dumps(content, sort_keys=True, default=str)
        return digest_of(words.encode(), *(piece.encode() for piece in pieces))


def default_learning_rate(method: Method, task: TaskKind) -> float:
    """Returns the peak learning rate for a method, from the sources above."""
    full = _FULL_RATE.get(task, _ENCODER_RATE)
    if method.kind == "full":
        return full
    return full * _LORA_FACTOR if method.kind == "lora" else _RATES[method.kind]


_ALLOWED = {
    "method": 'LoRA(), Prefix(), Bottleneck() or Full() of common.adapters.methods, or "auto"',
    "precision": ", ".join(get_args(PrecisionName)),
    "distributed_strategy": "None or ddp",
    "device": "cpu, cuda or None",
    "schedule": ", ".join(get_args(Schedule)),
    "too_long": " or ".join(get_args(TooLong)),
    "task": ", ".join(get_args(TaskKind)),
    "max_tokens": "3 or more, or None",
    "warmup_share": "0 or more, below 1",
    "weight_decay": "0 or more",
    "clip_norm": "more than 0",
    "process_timeout_s": "more than 0",
    "learning_rate": "more than 0, or None",
}


def _require(name: str, holds: bool, found: object) -> None:
    if not holds:
        raise TuningError(
            name,
            expected=_ALLOWED.get(name, "1 or more"),
            found=repr(found),
            remedy="Set it to such a value.",
        )
