"""Base, adapter and linear head: scores of passages, and their means over a call.

A call's scores are the mean of its passages' scores, in training over a random draw of its
passages, in evaluation over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.adapters.attach import Adapter, attach_new
from common.adapters.methods import Method
from common.backbones import Backbone

__all__ = ["PassageScorer", "TokenisedCall"]

TokenisedCall = Sequence[Sequence[int]]  # one list of token ids per passage
FloatArray = npt.NDArray[np.float64]

_TOKENS_PER_BATCH = 48_000  # padded, in evaluation; memory bounds it


class PassageScorer:
    """A network that gives each passage `n_outputs` scores; the head starts at zero.

    So the first forecast is that of the prices.

    Args:
        backbone: The base, left as it is.
        method: How it is tuned.
        n_outputs: Scores of a passage.
        seed: Seed of initial values.
        device: "cpu" or "cuda".
        bfloat16: Whether training computes in bfloat16; scores are float32 in any case.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        *,
        n_outputs: int,
        seed: int,
        device: str,
        bfloat16: bool,
    ) -> None:
        self.device, self.bfloat16 = device, bfloat16
        self.adapter = attach_new(backbone, method, seed=seed)
        self.head = nn.Linear(backbone.hidden_size, n_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.network = nn.ModuleList([self.adapter.backbone.model, self.head]).to(device)
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.pad = int(backbone.tokenizer.pad_token_id)

    def draw(
        self,
        calls: Sequence[TokenisedCall],
        rows: npt.NDArray[np.int64],
        passages_per_call: int,
        draws: np.random.Generator,
    ) -> torch.Tensor:
        """Returns scores `(len(rows), n_outputs)` from a draw of each call's passages."""
        passages: list[Sequence[int]] = []
        owner: list[int] = []
        for position, row in enumerate(rows):
            n = len(calls[row])
            chosen = draws.choice(n, size=min(n, passages_per_call), replace=False)
            passages += [calls[row][i] for i in chosen]
            owner += [position] * len(chosen)
        scores = self._scores(passages, fast=self.bfloat16)
        index = torch.tensor(owner, device=self.device)
        totals = torch.zeros(len(rows), scores.shape[1], device=self.device)
        totals = totals.index_add(0, index, scores)
        return totals / torch.bincount(index, minlength=len(rows))[:, None]

    def signals(self, calls: Sequence[TokenisedCall], *, fast: bool = False) -> FloatArray:
        """Returns the mean scores of all passages of each call, `(len(calls), n_outputs)`.

        Args:
            calls: Each with one passage at least.
            fast: Whether to compute in bfloat16.
        """
        self.network.eval()
        owner = np.repeat(np.arange(len(calls)), [len(call) for call in calls])
        passages = [ids for call in calls for ids in call]
        order = np.argsort([len(ids) for ids in passages], kind="stable")
        scores = np.zeros((len(passages), self.head.out_features))
        start = 0
        with torch.inference_mode():
            while start < len(order):
                length = len(passages[order[min(start + 255, len(order) - 1)]])
                rows = order[start : start + max(1, min(256, _TOKENS_PER_BATCH // length))]
                found = self._scores([passages[row] for row in rows], fast=fast)
                scores[rows] = found.double().cpu().numpy()
                start += len(rows)
        sums = np.zeros((len(calls), scores.shape[1]))
        np.add.at(sums, owner, scores)
        return sums / np.bincount(owner)[:, None]

    def _scores(self, passages: Sequence[Sequence[int]], *, fast: bool) -> torch.Tensor:
        longest = max(len(ids) for ids in passages)
        ids = torch.full((len(passages), longest), self.pad)
        mask = torch.zeros((len(passages), longest), dtype=torch.long)
        for i, passage in enumerate(passages):
            ids[i, : len(passage)] = torch.tensor(passage)
            mask[i, : len(passage)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=fast):
            hidden = self.adapter.backbone.model(input_ids=ids, attention_mask=mask)[0]
        weights = mask.unsqueeze(-1).float()  # [passages, tokens, 1]
        mean = (hidden.float() * weights).sum(1) / weights.sum(1)
        scores: torch.Tensor = self.head(mean)
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
