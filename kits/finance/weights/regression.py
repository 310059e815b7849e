"""Trains base + LoRA + linear head to predict what prices leave unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.adapters.attach import Adapter
from common.adapters.heads import Head
from common.adapters.methods import LoRA
from common.backbones import Backbone
from kits.finance.weights.evaluation import correlation
from kits.finance.weights.scorer import PassageScorer, TokenisedCall

__all__ = ["FittedRegressor", "Recipe", "TokenisedCall", "fit_regressor"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How the adapter is trained.

    The learning rate is about ten times that of full tuning, as LoRA wants (Schulman et al.
    2025, "LoRA without regret").
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.1
    target_modules: tuple[str, ...] = ("query", "value")
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    calls_per_step: int = 16
    passages_per_call: int = 16
    epochs: int = 8
    max_tokens: int = 96


@dataclass(frozen=True)
class FittedRegressor:
    """The best epoch of one seed.

    Args:
        adapter: The trained adapter on its base, on the CPU.
        head: The trained head.
        epoch: The epoch chosen, from 1.
        selection_history: Correlation of signal and target on the selection calls, by epoch.
        n_trained: How many parameters were trained.
    """

    adapter: Adapter
    head: Head
    epoch: int
    selection_history: tuple[float, ...]
    n_trained: int


def fit_regressor(
    backbone: Backbone,
    calls: Sequence[TokenisedCall],
    target: FloatArray,
    *,
    train: npt.NDArray[np.int64],
    selection: npt.NDArray[np.int64],
    recipe: Recipe,
    seed: int,
    device: str,
) -> FittedRegressor:
    """Trains one seed and keeps the epoch with the best correlation on the selection calls.

    Args:
        backbone: The frozen base.
        calls: Token ids of each call's passages.
        target: `(n_calls,)` residual of the prices-only forecast; rows outside `train` and
            `selection` are not looked at.
        train: Rows to train on.
        selection: Rows to choose the epoch on.
        recipe: How to train.
        seed: Seed of initial values, draws and dropout.
        device: "cpu" or "cuda".
    """
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    scorer = PassageScorer(
        backbone,
        LoRA(recipe.rank, recipe.alpha, recipe.dropout, recipe.target_modules),
        n_outputs=1,
        seed=seed,
        device=device,
        bfloat16=device == "cuda",
    )
    scale = float(target[train].std())
    optimiser = torch.optim.AdamW(
        scorer.trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    n_steps = recipe.epochs * -(-len(train) // recipe.calls_per_step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=n_steps, pct_start=0.1
    )
    history: list[float] = []
    best: dict[str, torch.Tensor] = {}
    for _ in range(recipe.epochs):
        scorer.network.train()
        for rows in _shuffled(train, recipe.calls_per_step, draws):
            predicted = scorer.draw(calls, rows, recipe.passages_per_call, draws)[:, 0]
            wanted = torch.tensor(target[rows] / scale, dtype=torch.float32, device=device)
            loss = nn.functional.mse_loss(predicted, wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(scorer.trained, 1.0)
            optimiser.step()
            schedule.step()
        signals = scorer.signals([calls[row] for row in selection])[:, 0]
        history.append(correlation(signals, target[selection]))
        if history[-1] == max(history):
            best = scorer.snapshot()
    scorer.restore(best)
    return FittedRegressor(
        adapter=scorer.adapter_on_cpu(),
        head=_head_in_units(scorer, scale, recipe.max_tokens),
        epoch=1 + int(np.argmax(history)),
        selection_history=tuple(history),
        n_trained=sum(parameter.numel() for parameter in scorer.trained),
    )


def _head_in_units(scorer: PassageScorer, scale: float, max_tokens: int) -> Head:
    """Returns the head with scores in the target's own units."""
    weight = scorer.head.weight.detach().cpu().numpy() * scale
    bias = scorer.head.bias.detach().cpu().numpy() * scale
    return Head(
        "regression",
        weight.astype(np.float32),
        bias.astype(np.float32),
        max_tokens=max_tokens,
    )


def _shuffled(
    rows: npt.NDArray[np.int64], size: int, draws: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    order = draws.permutation(rows)
    return [order[start : start + size] for start in range(0, len(order), size)]
