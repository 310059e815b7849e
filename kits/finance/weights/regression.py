"""Trains base + LoRA + linear head to predict what prices leave unexplained.

A call's prediction is the mean of its passages' scores, in training over a random draw of
its passages, in evaluation over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.adapters.attach import Adapter, attach_new
from common.adapters.heads import Head
from common.adapters.methods import LoRA
from common.backbones import Backbone
from kits.finance.weights.evaluation import correlation

__all__ = ["FittedRegressor", "Recipe", "TokenisedCall", "fit_regressor"]

TokenisedCall = Sequence[Sequence[int]]  # one list of token ids per passage
FloatArray = npt.NDArray[np.float64]

_PASSAGES_PER_BATCH = 512  # in evaluation


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
    scorer = _Scorer(backbone, recipe, seed=seed, device=device)
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
            predicted = scorer.draw(calls, rows, draws)
            wanted = torch.tensor(target[rows] / scale, dtype=torch.float32, device=device)
            loss = nn.functional.mse_loss(predicted, wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(scorer.trained, 1.0)
            optimiser.step()
            schedule.step()
        signals = scorer.signals([calls[row] for row in selection])
        history.append(correlation(signals, target[selection]))
        if history[-1] == max(history):
            best = scorer.snapshot()
    scorer.restore(best)
    return FittedRegressor(
        adapter=scorer.adapter_on_cpu(),
        head=scorer.head_in_units(scale),
        epoch=1 + int(np.argmax(history)),
        selection_history=tuple(history),
        n_trained=sum(parameter.numel() for parameter in scorer.trained),
    )


class _Scorer:
    """Base, adapter and head on a device."""

    def __init__(self, backbone: Backbone, recipe: Recipe, *, seed: int, device: str) -> None:
        self.recipe, self.device = recipe, device
        method = LoRA(recipe.rank, recipe.alpha, recipe.dropout, recipe.target_modules)
        self.adapter = attach_new(backbone, method, seed=seed)
        self.head = nn.Linear(backbone.hidden_size, 1)
        nn.init.zeros_(self.head.weight)  # so that the first forecast is that of the prices
        nn.init.zeros_(self.head.bias)
        self.network = nn.ModuleList([self.adapter.backbone.model, self.head]).to(device)
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.pad = int(backbone.tokenizer.pad_token_id)

    def draw(
        self,
        calls: Sequence[TokenisedCall],
        rows: npt.NDArray[np.int64],
        draws: np.random.Generator,
    ) -> torch.Tensor:
        """Returns predictions `(len(rows),)` from a draw of each call's passages."""
        passages: list[Sequence[int]] = []
        owner: list[int] = []
        for position, row in enumerate(rows):
            n = len(calls[row])
            chosen = draws.choice(n, size=min(n, self.recipe.passages_per_call), replace=False)
            passages += [calls[row][i] for i in chosen]
            owner += [position] * len(chosen)
        scores = self._scores(passages)
        index = torch.tensor(owner, device=self.device)
        totals = torch.zeros(len(rows), device=self.device).index_add(0, index, scores)
        return totals / torch.bincount(index, minlength=len(rows))

    def signals(self, calls: Sequence[TokenisedCall]) -> FloatArray:
        """Returns the mean score of all passages of each call, `(len(calls),)`."""
        self.network.eval()
        owner = np.repeat(np.arange(len(calls)), [len(call) for call in calls])
        passages = [ids for call in calls for ids in call]
        order = np.argsort([len(ids) for ids in passages], kind="stable")
        scores = np.zeros(len(passages))
        with torch.inference_mode():
            for start in range(0, len(order), _PASSAGES_PER_BATCH):
                rows = order[start : start + _PASSAGES_PER_BATCH]
                scores[rows] = self._scores([passages[row] for row in rows]).double().cpu().numpy()
        return np.bincount(owner, weights=scores) / np.bincount(owner)

    def _scores(self, passages: Sequence[Sequence[int]]) -> torch.Tensor:
        longest = max(len(ids) for ids in passages)
        ids = torch.full((len(passages), longest), self.pad)
        mask = torch.zeros((len(passages), longest), dtype=torch.long)
        for i, passage in enumerate(passages):
            ids[i, : len(passage)] = torch.tensor(passage)
            mask[i, : len(passage)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        fast = self.device == "cuda" and self.network.training  # signals are float32 anywhere
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=fast):
            hidden = self.adapter.backbone.model(input_ids=ids, attention_mask=mask)[0]
        weights = mask.unsqueeze(-1).float()  # (B, T, 1)
        mean = (hidden.float() * weights).sum(1) / weights.sum(1)
        scores: torch.Tensor = self.head(mean).squeeze(-1)
        return scores

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Returns copies of the trained tensors."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self.network.named_parameters()
            if parameter.requires_grad
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Puts a snapshot back."""
        self.network.load_state_dict(tensors, strict=False)

    def adapter_on_cpu(self) -> Adapter:
        """Returns the adapter with its tensors on the CPU."""
        self.network.to("cpu")
        return self.adapter

    def head_in_units(self, scale: float) -> Head:
        """Returns the head with scores in the target's own units."""
        weight = self.head.weight.detach().cpu().numpy() * scale
        bias = self.head.bias.detach().cpu().numpy() * scale
        return Head(
            "regression",
            weight.astype(np.float32),
            bias.astype(np.float32),
            max_tokens=self.recipe.max_tokens,
        )


def _shuffled(
    rows: npt.NDArray[np.int64], size: int, draws: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    order = draws.permutation(rows)
    return [order[start : start + size] for start in range(0, len(order), size)]
