"""A task's texts as token ids, and the rows that a seed draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.reports import LabelledTexts, TextTask
from common.tuning.batches import Batch

__all__ = ["TokenRows", "TokenSplit", "batch_of", "drawn_rows", "encode"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenRows:
    """Token ids of texts, `(n_texts, max_tokens)` padded, their lengths and classes."""

    ids: Ints
    lengths: Ints
    labels: Ints


@dataclass(frozen=True)
class TokenSplit:
    """The rows of a split as token ids."""

    train: TokenRows
    dev: TokenRows
    test: TokenRows


def encode(task: TextTask, tokenizer: Any) -> tuple[TokenSplit, ...]:
    """Returns the first `task.max_tokens` tokens of every text of every split."""
    return tuple(
        TokenSplit(
            *(
                _encode(part, task.max_tokens, tokenizer)
                for part in (split.train, split.dev, split.test)
            )
        )
        for split in task.splits
    )


def drawn_rows(part: TokenRows, n: int, seed: int) -> Ints:
    """Returns `n` row numbers drawn with `seed`; a smaller draw is part of a larger one."""
    return np.random.default_rng(seed).permutation(len(part.labels))[:n]


def batch_of(part: TokenRows, rows: Ints | Sequence[int], device: str) -> Batch:
    """Returns some rows as one batch on `device`, padded to the longest of them."""
    import torch

    longest = int(part.lengths[rows].max())
    mask = (np.arange(longest)[None] < part.lengths[rows][:, None]).astype(np.int64)
    return Batch(
        input_ids=torch.from_numpy(part.ids[rows, :longest]),
        attention_mask=torch.from_numpy(mask),
        position_ids=None,
        owners=torch.arange(len(mask)),
        targets=torch.from_numpy(part.labels[rows]),
        n_rows=len(mask),
        n_tokens=int(mask.sum()),
        count=len(mask),
    ).to(device)


def _encode(part: LabelledTexts, max_tokens: int, tokenizer: Any) -> TokenRows:
    rows = tokenizer(list(part.texts), truncation=True, max_length=max_tokens)["input_ids"]
    ids = np.full((len(rows), max_tokens), int(tokenizer.pad_token_id or 0), dtype=np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return TokenRows(ids, np.array([len(tokens) for tokens in rows]), np.array(part.labels))
