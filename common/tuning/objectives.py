"""What a tuned network computes: hidden states, outputs per row, and their summed loss.

The loss comes as a sum and what to divide it by, so that the same step may be spread
over several processes and passes: the loop divides by the count of the *global* batch.

- classification: cross entropy of softmax outputs, per row.
- multi_label: binary cross entropy of sigmoid outputs, averaged over labels, per row.
- regression: squared error of the standardised target, per row.
- causal_lm: cross entropy of the next token, per predicted token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.backbones import Backbone, load_lm_head
from common.tuning.batches import IGNORED, Batch
from common.tuning.datasets import Target, TaskKind

__all__ = ["TunedNetwork", "lm_head_of", "mean_states", "standardisation"]

_HEAD_STD = 0.02  # as BERT's initializer_range (Devlin et al. 2018, arXiv 1810.04805)


class TunedNetwork(nn.Module):
    """An adapted base with its head.

    Args:
        model: The base with its adapter; returns `last_hidden_state`.
        task: What the outputs are.
        hidden_size: Width of the last hidden state.
        n_outputs: Outputs of the head; ignored for causal_lm.
        lm_head: For causal_lm, the `(vocabulary, hidden)` weight of the base's head: the
            very parameter of the input embedding where the two are tied, a parameter
            that is to be trained, or a tensor that stays as it is.
        mean: Mean of the training targets, for regression.
        scale: Their standard deviation.
        seed: Seed of the head's initial weights.
    """

    def __init__(
        self,
        model: nn.Module,
        task: TaskKind,
        *,
        hidden_size: int,
        n_outputs: int = 0,
        lm_head: Tensor | None = None,
        mean: float = 0.0,
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.task: TaskKind = task
        self.mean, self.scale = mean, scale
        self.head: nn.Linear | None = None
        self.lm_head: nn.Parameter | None = None
        if lm_head is not None:
            if not isinstance(lm_head, nn.Parameter):
                lm_head = nn.Parameter(lm_head, requires_grad=False)
            self.lm_head = lm_head
        if task != "causal_lm":
            with torch.device("meta"):  # torch's own initial values draw from its generator
                head = nn.Linear(hidden_size, n_outputs)
            self.head = head.to_empty(device="cpu")
            drawn = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                self.head.weight.normal_(0.0, _HEAD_STD, generator=drawn)
                self.head.bias.zero_()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the summed loss, float32 `()`, and the count it stands for, `()`.

        A blank batch gives a loss of 0 that still reaches every parameter.
        """
        hidden = self.hidden_states(batch)
        if self.task == "causal_lm":
            loss = self._token_loss(hidden, batch.targets)
        else:
            loss = self.row_loss(self._row_outputs(hidden, batch), batch.targets)
        if batch.blank:
            loss = loss * 0.0
        # filled on the device: a copy from the host would wait for the whole forward pass
        return loss, torch.full((), batch.count, device=loss.device)

    def hidden_states(self, batch: Batch) -> Tensor:
        """Returns the last hidden states, `(n_windows, n_positions, hidden)`."""
        given: dict[str, Any] = {"input_ids": batch.input_ids}
        if batch.attention_mask is not None:
            given["attention_mask"] = batch.attention_mask
        if batch.position_ids is not None:
            given["position_ids"] = batch.position_ids
        if self.task == "causal_lm":
            given["use_cache"] = False  # a cache would switch packing's mask off
        hidden: Tensor = self.model(**given).last_hidden_state
        return hidden

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the head's outputs of each row, float32 `(n_rows, n_outputs)`."""
        return self._row_outputs(self.hidden_states(batch), batch)

    def _row_outputs(self, hidden: Tensor, batch: Batch) -> Tensor:
        if self.head is None or batch.attention_mask is None:
            raise TypeError("a language model has no outputs per row")
        states = mean_states(hidden, batch.attention_mask, batch.owners, batch.n_rows)
        outputs: Tensor = self.head(states.to(self.head.weight.dtype))
        return outputs.float()

    def row_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the summed loss of `outputs` `(n_rows, n_outputs)`, `()`."""
        if self.task == "classification":
            return functional.cross_entropy(outputs, targets, reduction="sum")
        if self.task == "multi_label":
            total = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
            return total / outputs.shape[1]
        standardised = (targets - self.mean) / self.scale
        return functional.mse_loss(outputs.squeeze(1), standardised, reduction="sum")

    def _token_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        from common.tuning.chunked_loss import chunked_cross_entropy

        if self.lm_head is None:
            raise TypeError("a language model needs the weight of its head")
        flat = hidden.reshape(-1, hidden.shape[-1])
        return chunked_cross_entropy(flat, self.lm_head, targets.reshape(-1), ignore_index=IGNORED)


def mean_states(hidden: Tensor, mask: Tensor, owners: Tensor, n_rows: int) -> Tensor:
    """Averages hidden states over the tokens of each row's windows, in float32.

    Args:
        hidden: `(n_windows, n_positions, hidden)`.
        mask: 1 for tokens, `(n_windows, n_positions)`.
        owners: Row of each window, `(n_windows,)`.
        n_rows: How many rows.

    Returns:
        `(n_rows, hidden)` float32.
    """
    weights = mask.unsqueeze(-1).float()
    sums = (hidden.float() * weights).sum(1)  # (n_windows, hidden)
    tokens = weights.sum(1)  # (n_windows, 1)
    if len(owners) == n_rows:
        return sums / tokens
    # index_add's order of additions may differ between runs on a GPU; a product's does not
    belongs = functional.one_hot(owners, n_rows).T.float()  # (n_rows, n_windows)
    return (belongs @ sums) / (belongs @ tokens)


def lm_head_of(adapted: Backbone) -> Tensor:
    """Returns the language-model head of an adapted base: its own embedding, or the base's.

    Where head and input embedding are tied, a fully tuned model has an embedding of its own.
    """
    tied = bool(getattr(adapted.model.config, "tie_word_embeddings", False))
    head: Tensor = load_lm_head(adapted)
    return adapted.model.get_input_embeddings().weight if tied else head


def standardisation(targets: Sequence[Target]) -> tuple[float, float]:
    """Returns mean and standard deviation of regression targets."""
    values = torch.tensor([float(t) for t in targets if isinstance(t, int | float)]).double()
    return float(values.mean()), float(values.std(correction=0))
