"""Passages of the calls, and what the frozen base makes of them, kept outside the repository.

A passage's embedding is the mean of its last hidden states, computed in bfloat16 (about
three times as fast as float32 on a processor that has it) and kept as float16. Files lie in
the folder that TANDEM_LINKED_CACHE names, `tandem-linked` in the system's temporary folder
without it, under a digest of base, passage length and texts.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.backbones import Backbone
from common.task import digest_of
from kits.finance.weights.calls import read_passages

__all__ = ["CallEmbeddings", "embed_calls", "tokenise_calls"]

Floats = npt.NDArray[np.float64]
_TOKENS_PER_BATCH = 3072  # of padded tokens: small enough for one core's cache


@dataclass(frozen=True)
class CallEmbeddings:
    """Frozen embeddings of every passage of some calls.

    Args:
        passages: `(n_passages, hidden)` float16.
        starts: `(n_calls + 1,)`; the passages of call i are `starts[i]` to `starts[i + 1]`.
    """

    passages: npt.NDArray[np.float16]
    starts: npt.NDArray[np.int64]

    def means(self) -> Floats:
        """Returns each call's mean passage, `(n_calls, hidden)`, zero for one without any."""
        sums = np.zeros((len(self.starts) - 1, self.passages.shape[1]))
        owner = np.repeat(np.arange(len(sums)), np.diff(self.starts))
        np.add.at(sums, owner, self.passages.astype(np.float64))
        return np.asarray(sums / np.maximum(np.diff(self.starts), 1)[:, None])


def tokenise_calls(
    texts: Sequence[str], backbone: Backbone, max_tokens: int
) -> list[list[list[int]]]:
    """Returns the token ids of each passage of each call; a call without prose has none.

    Kept in the cache: cutting four million words takes a minute or two.
    """
    content = (text.encode() for text in texts)
    digest = digest_of(backbone.digest.encode(), str(max_tokens).encode(), *content)
    path = _cache() / f"tokens-{digest[:32]}.json"
    if path.is_file():
        kept: list[list[list[int]]] = json.loads(path.read_text(encoding="ascii"))
        return kept
    passages = [read_passages(text, backbone.count_tokens, max_tokens) for text in texts]
    flat = [passage for of_call in passages for passage in of_call]
    ids = iter(backbone.tokenizer(flat)["input_ids"]) if flat else iter(())
    tokens = [[next(ids) for _ in of_call] for of_call in passages]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
        json.dump(tokens, file)
    Path(file.name).replace(path)
    return tokens


def embed_calls(
    tokens: Sequence[Sequence[Sequence[int]]], backbone: Backbone, *, device: str
) -> CallEmbeddings:
    """Returns the frozen base's embeddings, from the cache where they are kept there.

    Args:
        tokens: Token ids of each passage of each call.
        backbone: The base; it is left as it is.
        device: "cpu" or "cuda".
    """
    flat = [ids for call in tokens for ids in call]
    starts = np.concatenate([[0], np.cumsum([len(call) for call in tokens])]).astype(np.int64)
    content = np.concatenate([np.array(ids, dtype=np.int32) for ids in flat]).tobytes()
    digest = digest_of(backbone.digest.encode(), content, starts.tobytes())
    path = _cache() / f"passages-{digest[:32]}.npy"
    if path.is_file():
        return CallEmbeddings(np.load(path), starts)
    states = _embed(flat, backbone, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
        np.save(file, states)
    Path(file.name).replace(path)
    return CallEmbeddings(states, starts)


def _cache() -> Path:
    named = os.environ.get("TANDEM_LINKED_CACHE")
    return Path(named) if named else Path(tempfile.gettempdir()) / "tandem-linked"


def _embed(
    flat: Sequence[Sequence[int]], backbone: Backbone, device: str
) -> npt.NDArray[np.float16]:
    import torch

    model = copy.deepcopy(backbone.model).to(device, torch.bfloat16).eval()
    states = np.empty((len(flat), backbone.hidden_size), dtype=np.float16)
    order = np.argsort([len(ids) for ids in flat], kind="stable")[::-1]
    done = 0
    with torch.inference_mode():
        while done < len(order):
            longest = len(flat[order[done]])
            rows = order[done : done + max(1, _TOKENS_PER_BATCH // longest)]
            ids, mask = _padded([flat[row] for row in rows], device)
            hidden = model(input_ids=ids, attention_mask=mask)[0].float()
            weights = mask.unsqueeze(-1).float()  # [batch, tokens, 1]
            mean = (hidden * weights).sum(1) / weights.sum(1)
            states[rows] = mean.cpu().numpy().astype(np.float16)
            done += len(rows)
            if done % 5000 < len(rows):
                sys.stderr.write(f"embedded {done} of {len(order)} passages\n")
    return states


def _padded(passages: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    import torch

    ids = torch.zeros((len(passages), max(map(len, passages))), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, passage in enumerate(passages):
        ids[row, : len(passage)] = torch.tensor(passage)
        mask[row, : len(passage)] = 1
    return ids.to(device), mask.to(device)
