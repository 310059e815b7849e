"""The peer of `serving.load`: MiniLM behind BentoML, its adaptive batching on.

It runs under an interpreter of its own, as `python -m bentoml serve`, and imports nothing of
ours. TANDEM_PEER holds its settings as JSON, the folder of the base model among them.
"""

from __future__ import annotations

import json
import os
from typing import Any

import bentoml  # type: ignore[import-not-found]  # of the peer's own environment
import torch
from transformers import AutoModel, AutoTokenizer

__all__ = ["Encoder"]

_SETTINGS: dict[str, Any] = json.loads(os.environ["TANDEM_PEER"])


@bentoml.service(
    workers=_SETTINGS["workers"],
    traffic={"timeout": 60, "max_concurrency": 1024},
    logging={"access": {"enabled": False}},
)
class Encoder:
    """Mean-pooled unit embeddings, as `common.models.text.TextEncoder` gives them."""

    def __init__(self) -> None:
        torch.set_num_threads(_SETTINGS["torch_threads"])
        self._tokenizer = AutoTokenizer.from_pretrained(_SETTINGS["folder"])
        self._model = AutoModel.from_pretrained(_SETTINGS["folder"]).eval()

    @bentoml.api(  # type: ignore[untyped-decorator]  # as above
        batchable=True,
        max_batch_size=_SETTINGS["max_batch_size"],
        max_latency_ms=_SETTINGS["max_latency_ms"],
    )
    @torch.inference_mode()
    def embed(self, texts: list[str]) -> list[list[float]]:
        """Returns one embedding of 384 numbers for each text."""
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        hidden = self._model(**tokens).last_hidden_state
        weights = tokens["attention_mask"].unsqueeze(-1).float()
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).tolist()
