"""Transformers text models behind the Model face: an encoder and an adapted regressor.

No text is ever cut silently: one that is longer than the model takes is refused, or, by
policy, read in consecutive windows whose outcomes are averaged by their token counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from common.adapters.attach import Adapter, attach_adapter
from common.backbones import Backbone
from common.errors import AdapterError, TaskError
from common.models.base import ModelProfile, only_part
from common.task import Array, Result, Task, Text, digest_of

__all__ = [
    "RegressionHead",
    "TextEncoder",
    "TextRegressor",
    "TooLong",
    "load_regressor",
    "save_regression_head",
]

TooLong = Literal["refuse", "average"]

_TOKENS_PER_BATCH = 8192  # padded; keeps the attention maps of a 12-head model under 1 GB
_HEAD = "head.safetensors"
_SCORE_DIGITS = 6  # float32 sums differ beyond this between batch compositions


@dataclass(frozen=True)
class RegressionHead:
    """A linear map from the mean hidden state to one number.

    Args:
        weight: `(hidden_size,)` float32.
        bias: Added to the product.
        max_tokens: Longest input that it was trained on, special tokens included.
    """

    weight: Array
    bias: float
    max_tokens: int


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
        too_long: TooLong = "average",
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


class TextRegressor:
    """A number for a text: base, adapter and linear head on the mean hidden state.

    Args:
        adapter: The adapter, attached to its base.
        head: The linear head trained with it.
        too_long: What to do with a text of more than `head.max_tokens` tokens.
    """

    def __init__(
        self, adapter: Adapter, head: RegressionHead, *, too_long: TooLong = "refuse"
    ) -> None:
        self._adapter = adapter
        self._head = head
        self._too_long: TooLong = too_long
        self.max_tokens = head.max_tokens
        backbone = adapter.backbone
        policy = f"mean-pooled linear {too_long} {head.max_tokens}"
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
        """Returns `score` (float, rounded to 6 digits) for each text.

        Raises:
            TaskError: A task has not exactly one text, or it is empty, or too long where
                the policy is to refuse.
        """
        texts = [_only_text(task) for task in tasks]
        backbone = self._adapter.backbone
        windows = _windows(backbone, texts, self.max_tokens, self._too_long)
        states = _by_text(windows, _mean_states(backbone, windows), len(texts))
        scores = states @ self._head.weight.astype(np.float64) + self._head.bias
        return [Result(values={"score": round(float(score), _SCORE_DIGITS)}) for score in scores]


def load_regressor(backbone: Backbone, folder: Path) -> TextRegressor:
    """Loads adapter and head from `folder` onto the base that they were trained on.

    Raises:
        AdapterError: A file is absent or damaged, or they belong to another base.
    """
    from safetensors import SafetensorError, safe_open

    adapter = attach_adapter(backbone, folder)
    try:
        with safe_open(str(folder / _HEAD), framework="np") as file:
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            max_tokens = int(file.metadata()["max_tokens"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged_head("weight, bias and max_tokens", type(error).__name__) from error
    if weight.shape != (backbone.hidden_size,) or not 3 <= max_tokens <= backbone.max_tokens:
        raise _damaged_head(f"weight ({backbone.hidden_size},)", f"{weight.shape}, {max_tokens}")
    return TextRegressor(adapter, RegressionHead(weight, float(bias), max_tokens))


def save_regression_head(head: RegressionHead, folder: Path) -> None:
    """Writes `head` to `folder` as safetensors, beside its adapter."""
    from safetensors.numpy import save_file

    tensors = {
        "weight": head.weight.astype(np.float32),
        "bias": np.array(head.bias, dtype=np.float32),
    }
    save_file(tensors, str(folder / _HEAD), metadata={"max_tokens": str(head.max_tokens)})


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
            hidden = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            states[rows] = mean.double().numpy()
    return states


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


def _damaged_head(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "regression head",
        expected=f"{expected} in {_HEAD}",
        found=found,
        remedy="Restore the adapter's folder from where it came, or train it again.",
    )
