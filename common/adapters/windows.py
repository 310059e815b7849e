"""Texts as windows of tokens: none is cut, a long one is refused or read in several windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.adapters.heads import TooLong
from common.errors import TaskError
from common.task import Array

__all__ = ["Window", "average_by_text", "batches_of_windows", "cut_windows", "pad_windows"]

_TOKENS_PER_BATCH = 8192  # padded; keeps the attention maps of a 12-head model under 1 GB


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of one text, special tokens included.

    Args:
        text_index: Which text they are of.
        token_ids: The tokens.
    """

    text_index: int
    token_ids: tuple[int, ...]


def cut_windows(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_tokens: Sequence[int],
    too_long: Sequence[TooLong],
) -> list[Window]:
    """Tokenises texts into windows, no token left out.

    Args:
        tokenizer: The base's tokenizer.
        texts: The texts.
        max_tokens: For each text the longest window, special tokens included.
        too_long: For each text what to do where it is longer.

    Raises:
        TaskError: A text is empty, or too long where the policy is to refuse.
    """
    for text in texts:
        if not text.strip():
            raise TaskError(
                "text", expected="words", found="an empty one", remedy="Send no row for it."
            )
    whole = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    windows: list[Window] = []
    for index, (token_ids, most) in enumerate(zip(whole, max_tokens, strict=True)):
        if len(token_ids) <= most:
            windows.append(Window(index, tuple(token_ids)))
            continue
        if too_long[index] == "refuse":
            raise TaskError(
                "text",
                expected=f"at most {most} tokens, special tokens included",
                found=str(len(token_ids)),
                remedy="Split the text into passages; nothing is cut silently.",
            )
        parts = tokenizer(
            texts[index], truncation=True, max_length=most, return_overflowing_tokens=True
        )["input_ids"]
        windows += [Window(index, tuple(part)) for part in parts]
    return windows


def batches_of_windows(
    windows: Sequence[Window], *, tokens_per_batch: int = _TOKENS_PER_BATCH
) -> Iterator[list[int]]:
    """Yields numbers of windows of similar length, `tokens_per_batch` padded tokens at most."""
    lengths = [len(window.token_ids) for window in windows]
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pad_windows(windows: Sequence[Window], *, pad_token_id: int) -> tuple[Any, Any]:
    """Returns token ids and attention mask, `(windows, longest)` int64, padded on the right."""
    import torch

    longest = max(len(window.token_ids) for window in windows)
    ids = torch.full((len(windows), longest), pad_token_id)
    mask = torch.zeros((len(windows), longest), dtype=torch.long)
    for row, window in enumerate(windows):
        ids[row, : len(window.token_ids)] = torch.tensor(window.token_ids)
        mask[row, : len(window.token_ids)] = 1
    return ids, mask


def average_by_text(windows: Sequence[Window], states: Array, n_texts: int) -> Array:
    """Averages states of windows by their token counts.

    Args:
        windows: The windows.
        states: Their states, `(n_windows, hidden_size)`.
        n_texts: How many texts they are of.

    Returns:
        `(n_texts, hidden_size)` float64.
    """
    totals = np.zeros((n_texts, states.shape[1]))
    tokens = np.zeros(n_texts)
    for window, state in zip(windows, states, strict=True):
        totals[window.text_index] += state * len(window.token_ids)
        tokens[window.text_index] += len(window.token_ids)
    return totals / tokens[:, None]
