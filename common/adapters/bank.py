"""Many named adapters on one frozen base; every row of a batch takes its own, or none.

    bank = AdapterBank(load_backbone("minilm"), folders={"risk": Path("risk-lora")})
    bank.predict(["we may default", "sales grew"], adapters=["risk", None])

The base is held once and never changed. Adapters lie on disk in peft's format; their
weights come into memory when they are first asked for and stay within a byte budget
(`common.adapters.bank_store`). A row's outcome equals that of the row run alone with its
adapter attached, whatever stands beside it in the batch.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.adapters.attach import sharing_copy
from common.adapters.bank_folder import FolderReader, StoredAdapter, read_weights
from common.adapters.bank_layers import Layout, PrefixLayout, RowGroup, adapted_rows, patch_linears
from common.adapters.bank_store import AdmissionCache, CacheCounts
from common.adapters.heads import TooLong
from common.adapters.prefix_attention import prefixed_rows, route_attention, shifted_positions
from common.adapters.windows import (
    Window,
    average_by_text,
    batches_of_windows,
    cut_windows,
    pad_windows,
)
from common.backbones import Backbone
from common.errors import AdapterError, InputError
from common.request import check_wanted
from common.task import Array, Result

__all__ = ["AdapterBank"]

_GIB = 1 << 30


class AdapterBank:
    """Serves LoRA, prefix and bottleneck adapters of one base, mixed in one batch.

    Any number of threads may call it at once, `load` and `unload` included: a request uses
    the adapters that had its names when it began.

    Args:
        backbone: The base, without an adapter; it is not changed.
        folders: Adapters to load at once, by name.
        cache_bytes: Most bytes of adapter weights kept in the base's memory between
            requests; those of a request under way come on top.
        too_long: What to do with a text that is longer than the base takes, for rows whose
            adapter brings no head with a policy of its own.
        device: Where to serve, "cpu" or "cuda"; where the base is without it.
        dtype: Type to serve in, float32 or bfloat16; the base's without it. A device or
            type other than the base's takes a copy of its weights.

    Raises:
        AdapterError: A folder cannot be loaded, or the backbone carries an adapter.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        folders: Mapping[str, Path] | None = None,
        cache_bytes: int = _GIB,
        too_long: TooLong = "chunk",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._backbone = backbone
        self._too_long: TooLong = too_long
        self._model = _serving_copy(backbone, device, dtype)
        self._no_prefix = _route_prefixes(self._model)
        self._reader = FolderReader(backbone, MappingProxyType(patch_linears(self._model)))
        self._lock = threading.Lock()
        self._stored: dict[str, StoredAdapter] = {}
        self._cache: AdmissionCache[StoredAdapter, Tensor] = AdmissionCache(
            self._read, size=lambda flat: flat.nbytes, budget_bytes=cache_bytes
        )
        self._readers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="adapter")
        for name, folder in (folders or {}).items():
            self.load(name, folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the loaded adapters, sorted."""
        with self._lock:
            return tuple(sorted(self._stored))

    def load(self, name: str, folder: Path, *, digest: str | None = None) -> str:
        """Loads the adapter in `folder`; one of the same name gives way to it.

        Write a new version to a folder of its own: requests under way may still read the
        old one.

        Args:
            name: The name that rows ask for.
            folder: A folder as `save_adapter` writes it: peft's files and `base.json`.
            digest: The digest that its files must have, where that is known.

        Returns:
            The digest of its files.

        Raises:
            AdapterError: A file is absent, damaged, or not the one that `digest` means; it
                was trained on another base; or it does not fit. The adapters loaded so far
                stay as they are.
        """
        stored = self._reader.read(name, Path(folder), digest=digest)
        if self._no_prefix is not None and stored.kind == "prefix":
            raise self._no_prefix
        with self._lock:
            replaced = self._stored.get(name)
            self._stored[name] = stored
        if replaced is not None:
            self._cache.forget(replaced)
        return stored.digest

    def unload(self, name: str) -> None:
        """Takes an adapter out; requests under way finish with it.

        Raises:
            AdapterError: None has that name.
        """
        with self._lock:
            stored = self._stored.pop(name, None)
        if stored is None:
            raise self._unknown([name])
        self._cache.forget(stored)

    def close(self) -> None:
        """Ends the bank's reading threads; requests under way finish."""
        self._readers.shutdown()

    def counts(self) -> CacheCounts:
        """Returns hits, misses and size of the cache of weights."""
        return self._cache.counts()

    def predict(self, rows: Sequence[str], adapters: Sequence[str | None]) -> list[Result]:
        """Answers texts, each with the adapter named beside it, as one batch.

        A batch of more than 8,192 padded tokens is run in several parts.

        Args:
            rows: The texts.
            adapters: For each text a loaded adapter's name, or None for the base.

        Returns:
            For each text what `Head.results` says where the adapter has such a head; else
            `embedding`, `(hidden_size,)` float32 of length 1: the mean of the last hidden
            states, as `TextEncoder` gives it.

        Raises:
            AdapterError: A name is unknown (before anything is run), or an adapter's file
                is no longer the one that was loaded.
            InputError: There is not one adapter, or None, for each row.
            TaskError: A text is empty, or too long where the policy is to refuse.
        """
        if isinstance(rows, str):
            raise InputError(
                "rows", expected="a list of texts", found="one text", remedy="Put it into a list."
            )
        stored = self._named(adapters, len(rows))
        windows = cut_windows(
            self._backbone.tokenizer,
            rows,
            max_tokens=[self._max_tokens(one) for one in stored],
            too_long=[one.head.too_long if one and one.head else self._too_long for one in stored],
        )
        states = average_by_text(windows, self._mean_states(windows, stored), len(rows))
        return [_result(one, state) for one, state in zip(stored, states, strict=True)]

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor, adapters: Sequence[str | None]
    ) -> Tensor:
        """Returns the last hidden states, `(batch, tokens, hidden_size)`.

        Args:
            input_ids: `(batch, tokens)`, padded on the right.
            attention_mask: `(batch, tokens)`, 1 for tokens and 0 for padding.
            adapters: For each row a loaded adapter's name, or None for the base.

        Raises:
            AdapterError: A name is unknown, a file is no longer the one that was loaded,
                or the rows are longer than an adapter takes.
            InputError: There is not one adapter, or None, for each row.
        """
        stored = self._named(adapters, len(input_ids))
        room = min(self._max_tokens(one) for one in stored)
        if input_ids.shape[1] > room:
            raise InputError(
                "token ids",
                expected=f"at most {room} tokens",
                found=str(input_ids.shape[1]),
                remedy="Split the rows; nothing is cut silently.",
            )
        return self._run(input_ids, attention_mask, stored)

    def _named(self, adapters: Sequence[str | None], n_rows: int) -> list[StoredAdapter | None]:
        """Returns what has these names now; a later load or unload does not change it."""
        if len(adapters) != n_rows or n_rows == 0:
            raise InputError(
                "adapters",
                expected="one or more rows, and a name or None for each",
                found=f"{n_rows} rows, {len(adapters)} names",
                remedy="Pass as many adapters as rows.",
            )
        with self._lock:
            unknown = {name for name in adapters if name is not None} - self._stored.keys()
            stored = [None if name is None else self._stored.get(name) for name in adapters]
        if unknown:
            raise self._unknown(sorted(unknown))
        return stored

    def _unknown(self, names: Sequence[str]) -> AdapterError:
        return AdapterError(
            "adapter",
            expected=f"one of the {len(self.names)} loaded names",
            found=", ".join(repr(name[:40]) for name in names[:3]),
            remedy="Load it first, or pass None for the base.",
        )

    def _max_tokens(self, stored: StoredAdapter | None) -> int:
        if stored is None:
            return self._backbone.max_tokens
        return min(stored.max_tokens, stored.head.max_tokens if stored.head else stored.max_tokens)

    def _read(self, stored: StoredAdapter) -> Tensor:
        own = next(self._model.parameters())
        return read_weights(stored, device=own.device, dtype=own.dtype)

    def _weights(self, wanted: set[StoredAdapter]) -> dict[StoredAdapter, Tensor]:
        """Returns weights from memory; those on disk are read and hashed side by side."""
        absent = [one for one in wanted if one not in self._cache]
        if len(absent) > 1:
            read = dict(zip(absent, self._readers.map(self._cache.get, absent), strict=True))
        else:
            read = {}
        return {one: read[one] if one in read else self._cache.get(one) for one in wanted}

    def _mean_states(
        self, windows: Sequence[Window], stored: Sequence[StoredAdapter | None]
    ) -> Array:
        """Returns the mean last hidden state of each window, `(n_windows, hidden_size)`."""
        states = np.zeros((len(windows), self._backbone.hidden_size))
        pad = int(self._backbone.tokenizer.pad_token_id or 0)
        for rows in batches_of_windows(windows):
            check_wanted()
            batch = [windows[row] for row in rows]
            ids, mask = pad_windows(batch, pad_token_id=pad)
            hidden = self._run(ids, mask, [stored[window.text_index] for window in batch])
            weights = mask.to(hidden.device).unsqueeze(-1).float()  # (B, T, 1)
            mean = (hidden.float() * weights).sum(1) / weights.sum(1)
            states[rows] = mean.double().cpu().numpy()
        return states

    @torch.inference_mode()
    def _run(
        self, input_ids: Tensor, attention_mask: Tensor, stored: Sequence[StoredAdapter | None]
    ) -> Tensor:
        order, groups = self._groups(stored)
        device = next(self._model.parameters()).device
        rows = torch.tensor(order, device=device)
        ids, mask = input_ids.to(device)[rows], attention_mask.to(device)[rows]
        inputs = {"input_ids": ids, "attention_mask": mask}
        shifts = [_shift(stored[row]) for row in order]
        if any(shifts):
            shift = torch.tensor(shifts, device=device)
            inputs["position_ids"] = shifted_positions(self._model.config, ids, shift)
        prefixes = [group.prefix_rows() for group in groups]
        with adapted_rows(groups), prefixed_rows([one for one in prefixes if one is not None]):
            hidden: Tensor = self._model(**inputs).last_hidden_state
        return hidden if order == sorted(order) else hidden[rows.argsort()]

    def _groups(self, stored: Sequence[StoredAdapter | None]) -> tuple[list[int], list[RowGroup]]:
        """Orders rows by layout and adapter; returns the order and the groups in it."""
        weights = self._weights({one for one in stored if one is not None})
        rank: dict[object, int] = {}
        for one in stored:
            rank.setdefault(_layout(one), len(rank))
            rank.setdefault(one, len(rank))
        order = sorted(
            range(len(stored)), key=lambda row: (rank[_layout(stored[row])], rank[stored[row]])
        )
        groups: list[RowGroup] = []
        for first, end in _stretches([stored[row] for row in order]):
            one = stored[order[first]]
            if one is None:
                continue
            if not groups or groups[-1].layout is not one.layout:
                groups.append(RowGroup(one.layout, []))
            groups[-1].runs.append((first, end, weights[one]))
        return order, groups


def _serving_copy(
    backbone: Backbone, device: str | torch.device | None, dtype: torch.dtype | None
) -> Any:
    """Returns a copy of the base's structure; it shares the tensors where it can."""
    own = next(backbone.model.parameters())
    wanted = (torch.device(device or own.device), dtype or own.dtype)
    if wanted == (own.device, own.dtype):
        model = sharing_copy(backbone.model)
    else:
        model = copy.deepcopy(backbone.model).to(device=wanted[0], dtype=wanted[1])
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # nothing is generated, so no keys need keeping
    return model.eval()


def _route_prefixes(model: Any) -> AdapterError | None:
    """Opens the attention to prefixes; returns why, if it cannot be."""
    own = model.config._attn_implementation  # transformers has no public reader
    try:
        route_attention(model)
    except AdapterError as error:
        model.config._attn_implementation = own  # as above
        return error
    return None


def _layout(stored: StoredAdapter | None) -> Layout | None:
    return None if stored is None else stored.layout


def _shift(stored: StoredAdapter | None) -> int:
    """Returns how far an adapter moves the positions of its row."""
    layout = _layout(stored)
    return layout.shift if isinstance(layout, PrefixLayout) else 0


def _stretches(items: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yields first and end of each stretch of one and the same item."""
    first = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or items[end] is not items[first]:
            yield first, end
            first = end


def _result(stored: StoredAdapter | None, state: Array) -> Result:
    if stored is not None and stored.head is not None and stored.head.task != "causal_lm":
        return stored.head.results(state[None])[0]
    unit = state / max(float(np.linalg.norm(state)), 1e-12)
    return Result(arrays={"embedding": unit.astype(np.float32)})
