"""Transformers text models behind the Model face: an encoder, and tuned models with a head.

No text is ever cut silently: one that is longer than the model takes is refused, or, by
policy, read in consecutive windows whose outcomes are averaged by their token counts.
Between batches of windows the models look whether the request is still wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.adapters.attach import Adapter, attach_adapter, sharing_copy
from common.adapters.frozen import quicken_frozen
from common.adapters.heads import Head, TooLong, load_head
from common.adapters.windows import average_by_text, batches_of_windows, cut_windows, pad_windows
from common.backbones import Backbone
from common.errors import AdapterError
from common.models.base import ModelProfile, only_part
from common.request import check_wanted
from common.task import Array, Result, Task, Text, digest_of

__all__ = ["TextEncoder", "TunedTextModel", "load_regressor", "load_tuned_text"]

# Card of all-MiniLM-L6-v2; what an adapter was trained on is not known from its files.
_LANGUAGES = {"minilm": ("en",)}


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
        self._backbone = _quickened(backbone)
        self._too_long: TooLong = too_long
        self.max_tokens = min(max_tokens or backbone.max_tokens, backbone.max_tokens)
        policy = f"mean-pooled unit {too_long} {self.max_tokens}"
        self.profile = ModelProfile(
            name=backbone.name,
            modality="text",
            digest=digest_of(backbone.digest.encode(), policy.encode()),
            max_length=self.max_tokens if too_long == "refuse" else None,
            languages=_LANGUAGES.get(backbone.name, ()),
            gives={"embedding": (backbone.hidden_size,)},
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens each text has, special tokens included."""
        return self._backbone.count_tokens(texts)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `embedding` `(hidden_size,)` float32 of length 1 for each text.

        Raises:
            TaskError: A task has not exactly one text, or it is empty, or too long where
                the policy is to refuse.
        """
        texts = [only_part(task, Text).text for task in tasks]
        vectors = _mean_states(self._backbone, texts, self.max_tokens, self._too_long)
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
        self._backbone = backbone = _quickened(adapter.backbone)
        self.head = head
        self.max_tokens = head.max_tokens
        policy = f"mean-pooled linear {head.too_long} {head.max_tokens}"
        self.profile = ModelProfile(
            name=backbone.name,
            modality="text",
            digest=digest_of(backbone.digest.encode(), policy.encode()),
            adapter=adapter.name,
            adapter_digest=adapter.digest,
            max_length=head.max_tokens if head.too_long == "refuse" else None,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens each text has, special tokens included."""
        return self._backbone.count_tokens(texts)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns for each text what `Head.results` describes.

        Raises:
            TaskError: A task has not exactly one text, or it is empty, or too long where
                the policy is to refuse.
        """
        texts = [only_part(task, Text).text for task in tasks]
        states = _mean_states(self._backbone, texts, self.max_tokens, self.head.too_long)
        return self.head.results(states)


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


def _quickened(backbone: Backbone) -> Backbone:
    """Returns the base with this processor's fastest passes; it shares the tensors."""
    model = sharing_copy(backbone.model)
    quicken_frozen(model)
    return replace(backbone, model=model)


def _mean_states(
    backbone: Backbone, texts: Sequence[str], max_tokens: int, too_long: TooLong
) -> Array:
    """Returns the mean last hidden state of each text, `(n_texts, hidden_size)` float64."""
    import torch

    windows = cut_windows(
        backbone.tokenizer,
        texts,
        max_tokens=[max_tokens] * len(texts),
        too_long=[too_long] * len(texts),
    )
    pad, device = int(backbone.tokenizer.pad_token_id or 0), _device(backbone.model)
    states = np.zeros((len(windows), backbone.hidden_size))
    with torch.inference_mode():
        for rows in batches_of_windows(windows):
            check_wanted()
            ids, mask = pad_windows([windows[row] for row in rows], pad_token_id=pad)
            ids, mask = ids.to(device), mask.to(device)
            hidden = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).float()  # (B, T, 1)
            mean = (hidden.float() * weights).sum(1) / weights.sum(1)
            states[rows] = mean.double().cpu().numpy()
    return average_by_text(windows, states, len(texts))


def _device(model: Any) -> Any:
    return next(model.parameters()).device
