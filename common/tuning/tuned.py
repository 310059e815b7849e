"""A tuned model: base, adapter and head together, as `Trainer` leaves and saves them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.adapters.attach import Adapter, attach_adapter, save_adapter
from common.adapters.folder import BASE, read_json
from common.adapters.heads import Head, load_head
from common.backbones import Backbone, load_backbone
from common.errors import BackboneError, InputError
from common.request import check_wanted
from common.task import Array, Result
from common.tuning.batches import Encoded, collate, encode
from common.tuning.datasets import Examples
from common.tuning.objectives import TunedNetwork, lm_head_of, mean_states

__all__ = ["TunedModel", "load_tuned"]

_ROWS_PER_BATCH = 32


class TunedModel:
    """Predicts with a tuned model, on the CPU in float32.

    Args:
        adapter: The adapter, attached to its base, in evaluation mode.
        head: The head trained with it.
    """

    def __init__(self, adapter: Adapter, head: Head) -> None:
        self.adapter = adapter
        self.head = head
        self._network = TunedNetwork(
            adapter.backbone.model,
            head.task,
            hidden_size=adapter.backbone.hidden_size,
            n_outputs=max(len(head.weight), 1),
            lm_head=lm_head_of(adapter.backbone) if head.task == "causal_lm" else None,
        ).eval()

    def predict(self, texts: Sequence[str]) -> list[Result]:
        """Returns what the model makes of each text, in `values`.

        - classification: `label`, its `probability`, and `probabilities` of all labels.
        - multi_label: `labels` of 0.5 or more, and `probabilities` of all.
        - regression: `score`.
        - causal_lm: `loss`, the mean over its tokens, `perplexity` and `n_tokens`.

        Raises:
            InputError: A text is empty, or too long where the policy is to refuse.
        """
        if isinstance(texts, str):
            raise InputError(
                "texts",
                expected="a list of texts",
                found="one text",
                remedy="Put it into a list.",
            )
        given = list(texts)
        if not given:
            return []
        _require_words(given)
        task = self.head.task
        blank = None if task == "causal_lm" else () if task == "multi_label" else 0
        examples = Examples(tuple(given), (blank,) * len(given), task, self.head.labels)
        if task == "causal_lm":
            return [self._score(examples.take([row])) for row in range(len(given))]
        return self.head.results(self._states(self._encode(examples)))

    def save(self, folder: Path) -> None:
        """Writes adapter, head, tokenizer and the base's digest to `folder`."""
        save_adapter(self.adapter, folder, head=self.head)

    def _encode(self, examples: Examples) -> Encoded:
        return encode(
            examples,
            self.adapter.backbone.tokenizer,
            max_tokens=self.head.max_tokens,
            too_long=self.head.too_long,
        )

    def _states(self, encoded: Encoded) -> Array:
        """Returns the mean hidden state of each text, `(n_texts, hidden_size)`."""
        states = np.zeros((len(encoded), self.adapter.backbone.hidden_size))
        order = sorted(range(len(encoded)), key=encoded.n_tokens)
        with torch.inference_mode():
            for start in range(0, len(order), _ROWS_PER_BATCH):
                check_wanted()
                rows = order[start : start + _ROWS_PER_BATCH]
                batch = collate(encoded, rows)
                hidden = self._network.hidden_states(batch)
                mask = batch.attention_mask
                if mask is None:
                    mask = torch.ones_like(batch.input_ids)
                states[rows] = mean_states(hidden, mask, batch.owners, batch.n_rows).numpy()
        return states

    def _score(self, examples: Examples) -> Result:
        encoded = self._encode(examples)
        total = 0.0
        with torch.inference_mode():
            for row in range(len(encoded)):
                check_wanted()
                total += float(self._network(collate(encoded, [row]))[0])
        n_tokens = encoded.count(range(len(encoded)))
        loss = total / n_tokens
        perplexity = math.exp(min(loss, 700.0))
        return Result(values={"loss": loss, "perplexity": perplexity, "n_tokens": n_tokens})


def load_tuned(folder: str | Path, *, model: str | Path | Backbone | None = None) -> TunedModel:
    """Loads what a `Trainer` saved.

    Args:
        folder: Where it was saved (`out=`).
        model: The base it was trained on, for one that its name alone does not find (a
            folder's path is not recorded).

    Raises:
        BackboneError: The base cannot be found.
        AdapterError: A file is absent or damaged, or it was trained on another base.
    """
    place = Path(folder)
    backbone = model if isinstance(model, Backbone) else _base_of(place, model)
    adapter = attach_adapter(backbone, place)
    adapted = adapter.backbone
    head = load_head(place, hidden_size=adapted.hidden_size, max_tokens=adapted.max_tokens)
    return TunedModel(adapter, head)


def _base_of(folder: Path, model: str | Path | None) -> Backbone:
    if model is not None:
        return load_backbone(model)
    record: dict[str, Any] = read_json(folder / BASE)
    name = str(record.get("name"))
    try:
        return load_backbone(name, revision=record.get("revision"))
    except BackboneError as error:
        raise BackboneError(
            "base model",
            expected=f"the base that the adapter was trained on, named {name}",
            found=error.found,
            remedy="Pass model= its folder.",
        ) from error


def _require_words(texts: Sequence[str]) -> None:
    empty = [str(row) for row, text in enumerate(texts) if not text.strip()]
    if empty:
        raise InputError(
            "texts",
            expected="words in each",
            found=f"none in {', '.join(empty[:20])} (counted from 0)",
            remedy="Leave these texts out.",
        )
