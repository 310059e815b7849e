"""Transformers text models behind the Model face: an encoder, and tuned models with a head.

No text is ever cut silently: one that is longer than the model takes is refused, or, by
policy, read in consecutive windows whose outcomes are averaged by their token counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.adapters.attach import Adapter, attach_adapter
from common.adapters.heads import Head, TooLong, load_head
from common.backbones import Backbone
from common.errors import AdapterError, TaskError
from common.models.base import ModelProfile, only_part
from common.task import Array, Result, Task, Text, digest_of

__all__ = ["TextEncoder", "TunedTextModel", "load_regressor", "load_tuned_text"]

_TOKENS_PER_BATCH = 8192  # padded; keeps the attention maps of a 12-head model under 1 GB


class TextEncoder:
    """Sentence embeddings: the mean of the last hidden states, scaled to length 1.

    As sentence-transformers' mean pooling and normalisation for all-MiniLM-L6-v2
    (Reimers and Gurevych 2019, arXiv 1908.10084).

    Args:
        backbone: The base model.
        too_long: What to do with a text of more than `max_tokens` tokens.
        max_tokens: Longest input read at once; the base's own limit without it.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        too_long: TooLong = "chunk",
        max_tokens: int | None = None,
    ) -> None:
        self._backbone = backbone
        self._too_long: TooLong = too_long
        self.max_tokens = min(max_tokens or backbone.max_tokens, backbone.max_tokens)
        policy = f"mean-pooled unit {too_long} {self.max_tokens}"
        self.profile = ModelProfile(
            name=backbone.name,
            modality="text",
            digest=digest_of(backbone.digest.encode(), policy.encode()),
        )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `embedding` `(hidden_size,)` float32 of length 1 for each text.

        Raises:
            TaskError: A task has not exactly one text, or it is empty, or too long where
                the policy is to refuse.
        """
        texts = [_only_text(task) for task in tasks]
        windows = _windows(self._backbone, texts, self.max_tokens, self._too_long)
        vectors = _by_text(windows, _mean_states(self._backbone, windows), len(texts))
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return [Result(arrays={"embedding": unit.astype(np.float32)}) for unit in units]


class TunedTextModel:
    """Labels, probabilities or values of a text: base, adapter and linear head.

    Args:
        adapter: The adapter, attached to its base.
        head: The head trained with it; its policy says what becomes of long texts.

    Raises:
        AdapterError: The head is one that continues texts, which this does not do.
    """

    def __init__(self, adapter: Adapter, head: Head) -> None:
        if head.task == "causal_lm":
            raise AdapterError(
                "head",
                expected="one of classification, multi_label or regression",
                found=head.task,
                remedy="Generate with transformers: adapter.backbone.model is the language model.",
            )
        self._adapter = adapter
        self.head = head
        self.max_tokens = head.max_tokens
        backbone = adapter.backbone
        policy = f"mean-pooled linear {head.too_long} {head.max_tokens}"
        self.profile = ModelProfile(
            name=backbone.name,
            modality="text",
            digest=digest_of(backbone.digest.encode(), policy.encode()),
            adapter=adapter.name,
            adapter_digest=adapter.digest,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens each text has, special tokens included."""
        return self._adapter.backbone.count_tokens(texts)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns for each text what `Head.results` describes.

        Raises:
            TaskError: A task has not exactly one text, or it is empty, or too long where
                the policy is to refuse.
        """
        texts = [_only_text(task) for task in tasks]
        backbone = self._adapter.backbone
        windows = _windows(backbone, texts, self.max_tokens, self.head.too_long)
        return self.head.results(_by_text(windows, _mean_states(backbone, windows), len(texts)))


def load_tuned_text(backbone: Backbone, folder: Path) -> TunedTextModel:
    """Loads adapter and head from `folder` onto the base that they were trained on.

    Raises:
        AdapterError: A file is absent or damaged, or they belong to another base.
    """
    adapter = attach_adapter(backbone, folder)
    room = adapter.backbone.max_tokens
    return TunedTextModel(
        adapter, load_head(folder, hidden_size=backbone.hidden_size, max_tokens=room)
    )


def load_regressor(backbone: Backbone, folder: Path) -> TunedTextModel:
    """Loads a model that gives one number for a text, its `score`.

    Raises:
        AdapterError: A file is absent or damaged, they belong to another base, or the head
            gives something else.
    """
    model = load_tuned_text(backbone, folder)
    if not model.head.gives_score:
        raise AdapterError(
            "head",
            expected="a regression with one output",
            found=f"{model.head.task} with {len(model.head.bias)}",
            remedy="Load it with load_tuned_text.",
        )
    return model


@dataclass(frozen=True)
class _Window:
    text_index: int
    token_ids: tuple[int, ...]


def _only_text(task: Task) -> str:
    text = only_part(task, Text).text
    if not text.strip():
        raise TaskError(
            "text",
            expected="words",
            found="an empty one",
            remedy="Send no task for it.",
        )
    return text


def _windows(
    backbone: Backbone, texts: Sequence[str], max_tokens: int, too_long: TooLong
) -> list[_Window]:
    """Tokenises texts into inputs of at most `max_tokens` tokens, none left out."""
    tokenizer = backbone.tokenizer
    whole = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    windows: list[_Window] = []
    for index, token_ids in enumerate(whole):
        if len(token_ids) <= max_tokens:
            windows.append(_Window(index, tuple(token_ids)))
            continue
        if too_long == "refuse":
            raise TaskError(
                "text",
                expected=f"at most {max_tokens} tokens, special tokens included",
                found=str(len(token_ids)),
                remedy="Split the text into passages; nothing is cut silently.",
            )
        parts = tokenizer(
            texts[index], truncation=True, max_length=max_tokens, return_overflowing_tokens=True
        )["input_ids"]
        windows += [_Window(index, tuple(part)) for part in parts]
    return windows


def _mean_states(backbone: Backbone, windows: Sequence[_Window]) -> Array:
    """Returns the mean last hidden state of each window, `(n_windows, hidden_size)` float64."""
    import torch

    pad = int(backbone.tokenizer.pad_token_id or 0)
    device = _device(backbone.model)
    states = np.zeros((len(windows), backbone.hidden_size))
    with torch.inference_mode():
        for rows in _batches([len(window.token_ids) for window in windows]):
            longest = max(len(windows[row].token_ids) for row in rows)
            ids = torch.full((len(rows), longest), pad)
            mask = torch.zeros((len(rows), longest), dtype=torch.long)
            for i, row in enumerate(rows):
                n = len(windows[row].token_ids)
                ids[i, :n] = torch.tensor(windows[row].token_ids)
                mask[i, :n] = 1
            ids, mask = ids.to(device), mask.to(device)
            hidden = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).float()  # (B, T, 1)
            mean = (hidden.float() * weights).sum(1) / weights.sum(1)
            states[rows] = mean.double().cpu().numpy()
    return states


def _device(model: Any) -> Any:
    return next(model.parameters()).device


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yields row numbers in batches of similar length, `_TOKENS_PER_BATCH` padded tokens each."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _by_text(windows: Sequence[_Window], states: Array, n_texts: int) -> Array:
    """Averages window states by token count, `(n_texts, hidden_size)` float64."""
    totals = np.zeros((n_texts, states.shape[1]))
    tokens = np.zeros(n_texts)
    for window, state in zip(windows, states, strict=True):
        totals[window.text_index] += state * len(window.token_ids)
        tokens[window.text_index] += len(window.token_ids)
    return totals / tokens[:, None]
