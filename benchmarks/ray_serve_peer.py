"""A peer of `serving.load`: MiniLM behind Ray Serve, its dynamic batching on.

    python ray_serve_peer.py

It runs under an interpreter of its own and imports nothing of ours. TANDEM_PEER holds its
settings as JSON, the folder of the base model and the port among them. It ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from typing import Any

import ray
import torch
from ray import serve
from transformers import AutoModel, AutoTokenizer

__all__ = ["Encoder", "main"]

_SETTINGS: dict[str, Any] = json.loads(os.environ["TANDEM_PEER"])


@serve.deployment(
    num_replicas=_SETTINGS["replicas"],
    max_ongoing_requests=1024,
    ray_actor_options={"num_cpus": 0.5},
)
class Encoder:
    """Mean-pooled unit embeddings, as `common.models.text.TextEncoder` gives them."""

    def __init__(self) -> None:
        torch.set_num_threads(_SETTINGS["torch_threads"])
        self._tokenizer = AutoTokenizer.from_pretrained(_SETTINGS["folder"])
        self._model = AutoModel.from_pretrained(_SETTINGS["folder"]).eval()

    async def __call__(self, request: Any) -> list[list[float]]:
        """Answers {"texts": [TEXT]} with one embedding of 384 numbers."""
        if request.method == "GET":
            return []
        (text,) = (await request.json())["texts"]
        return [await self._embed(text)]

    @serve.batch(
        max_batch_size=_SETTINGS["max_batch_size"], batch_wait_timeout_s=_SETTINGS["batch_wait_s"]
    )
    async def _embed(self, texts: list[str]) -> list[list[float]]:
        # on a thread, so that requests are read meanwhile
        return await asyncio.to_thread(self._embed_now, texts)

    @torch.inference_mode()
    def _embed_now(self, texts: list[str]) -> list[list[float]]:
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        hidden = self._model(**tokens).last_hidden_state
        weights = tokens["attention_mask"].unsqueeze(-1).float()
        mean = (hidden * weights).sum(1) / weights.sum(1)
        rows: list[list[float]] = torch.nn.functional.normalize(mean, dim=1).tolist()
        return rows


def main() -> None:
    """Serves until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    # "local": a cluster of its own, whatever else runs on the machine
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": _SETTINGS["port"]})
    serve.run(Encoder.bind(), route_prefix="/embed")  # type: ignore[attr-defined]  # the decorator makes it
    ended.wait()
    serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's own
    ray.shutdown()


if __name__ == "__main__":
    main()
