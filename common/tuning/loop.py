"""The steps of a training run: forward, backward, clip, update, report, save, evaluate.

What a step draws at random (dropout) is seeded by run seed, step and rank, so that a run
that goes on from a checkpoint repeats an uninterrupted one without any stored generator
state. The learning rate is a function of the step for the same reason.

The update is AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) without decay of biases
and norms, after clipping the gradient's global norm (Pascanu et al. 2013, arXiv 1211.5063).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch
from torch import Tensor, nn

from common.tuning.batches import Batch
from common.tuning.recipe import Schedule

__all__ = [
    "LoopSettings",
    "OneProcess",
    "Ranks",
    "build_optimizer",
    "learning_rate_at",
    "run_step",
    "seed_step",
]


class Ranks(Protocol):
    """The processes that share a run: `OneProcess` here, several in `distributed.py`."""

    @property
    def rank(self) -> int:
        """This process, from 0."""

    @property
    def world_size(self) -> int:
        """How many there are."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """Returns `network` so that backward averages gradients over the processes."""

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """Keeps gradients local inside the context, for all but the last pass of a step."""

    def total(self, values: Sequence[float]) -> list[float]:
        """Returns each value summed over the processes, the same on all of them."""

    def agree(self, text: str) -> str:
        """Returns the first process's `text` on all of them."""

    def wait(self) -> None:
        """Returns when all processes have come here."""


@dataclass(frozen=True)
class OneProcess:
    """A run in this process alone.

    Args:
        device: Where it computes.
        rank: 0, the only one.
        world_size: 1.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    def wrap(self, network: nn.Module) -> nn.Module:
        """Returns `network` as it is."""
        return network

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[object]:  # noqa: ARG002
        """Does nothing: there is nobody to share gradients with."""
        return nullcontext()

    def total(self, values: Sequence[float]) -> list[float]:
        """Returns the values as they are."""
        return list(values)

    def agree(self, text: str) -> str:
        """Returns `text` as it is."""
        return text

    def wait(self) -> None:
        """Returns at once."""


@dataclass(frozen=True)
class LoopSettings:
    """How a run steps.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows of a global batch, over all processes and passes.
        micro_batch_size: Most rows in one forward pass of one process; all of its share
            without it.
        learning_rate: Peak of the schedule.
        schedule: Fall of the learning rate after warm-up, to 0 unless constant.
        warmup_share: Share of all steps over which it rises from 0.
        weight_decay: AdamW's decay of weights, none for biases and norms.
        clip_norm: Largest global norm of the gradient.
        seed: Seed of order and dropout.
        packed: Whether causal_lm texts are packed without padding.
        pad_to: Positions are padded to a multiple of this.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    micro_batch_size: int | None = None
    schedule: Schedule = "linear"
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    packed: bool = False
    pad_to: int = 1


def learning_rate_at(step: int, total_steps: int, settings: LoopSettings) -> float:
    """Returns the learning rate of a step, counted from 0."""
    peak, warmup = settings.learning_rate, math.ceil(settings.warmup_share * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.schedule == "constant":
        return peak
    left = 1.0 - (step - warmup) / max(total_steps - warmup, 1)
    return peak * (
        left if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
    )


def seed_step(settings: LoopSettings, step: int, rank: int) -> None:
    """Seeds torch's generators for what step and rank draw."""
    words = f"{settings.seed} {step} {rank}".encode()
    torch.manual_seed(int.from_bytes(sha256(words).digest()[:7], "big"))


def build_optimizer(network: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """Returns AdamW over the trained parameters; biases and norms (vectors) do not decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, fused=True
    )


def run_step(
    wrapped: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    count: int,
    learning_rate: float,
    clip_norm: float,
    ranks: Ranks,
) -> tuple[Tensor, Tensor]:
    """Makes one update from this rank's batches of a global batch.

    Args:
        wrapped: The network as `ranks.wrap` returned it.
        optimizer: Over its trained parameters.
        batches: What `cut_step` gave this rank.
        count: What the loss is divided by, over all ranks and passes.
        learning_rate: Of this step.
        clip_norm: Largest global norm of the gradient.
        ranks: The processes that share the step.

    Returns:
        This rank's part of the step's mean loss, and the gradient's norm before clipping,
        both detached, on the device.
    """
    part = torch.zeros((), device=ranks.device)
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        with nullcontext() if last else ranks.without_sync(wrapped):
            loss, _ = wrapped(batch.to(ranks.device))
            # averaging over ranks divides by world_size what is to be summed
            (loss * (ranks.world_size / count)).backward()
        part += loss.detach() / count
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return part, norm.detach()
