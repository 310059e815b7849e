"""An adapter's folder as the bank reads it: checked once, its weights one flat tensor.

Nothing is ever unpickled. The sha256 of the weights is taken from the very bytes that are
used, every time that they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from common.adapters.bank_layers import Layout, PrefixLayout
from common.adapters.bank_layouts import Factors, Layouts
from common.adapters.folder import (
    CONFIG,
    WEIGHTS,
    Kind,
    adapter_digest,
    kind_of,
    read_json,
    require_base,
)
from common.adapters.heads import HEAD, Head, load_head
from common.adapters.methods import Prefix
from common.adapters.weights_file import read_bytes, read_header
from common.backbones import Backbone
from common.errors import AdapterError

__all__ = ["FolderReader", "StoredAdapter", "read_weights"]


@dataclass(frozen=True, eq=False)
class StoredAdapter:
    """An adapter on disk that has been checked against its base.

    Args:
        name: Its name in the bank.
        folder: Where it lies.
        kind: "lora", "prefix" or "bottleneck".
        digest: sha256 of its files, as `folder.adapter_digest` gives it.
        weights_sha256: sha256 of the weights file.
        layout: Where its tensors lie in the flat tensor; adapters with one layout share it.
        factors: Start, end and factor of the parts of the flat tensor to be scaled.
        data_start: First byte of the tensors in the weights file.
        dtype: Type of the tensors in the file.
        n_elements: Length of the flat tensor.
        max_tokens: Longest window that it takes, special tokens included.
        head: The head trained with it, if there is one.
    """

    name: str
    folder: Path
    kind: Kind
    digest: str
    weights_sha256: str
    layout: Layout
    factors: Factors
    data_start: int
    dtype: torch.dtype
    n_elements: int
    max_tokens: int
    head: Head | None


class FolderReader:
    """Reads adapters of one base.

    Args:
        backbone: The base.
        linears: Inputs and outputs of each of its linear layers, by name.
    """

    def __init__(self, backbone: Backbone, linears: Mapping[str, tuple[int, int]]) -> None:
        self._backbone = backbone
        self._layouts = Layouts(backbone.model.config, linears)

    def read(self, name: str, folder: Path, *, digest: str | None = None) -> StoredAdapter:
        """Checks the adapter in `folder` and returns what is known of it.

        Args:
            name: Its name in the bank.
            folder: A folder as peft or `save_adapter` writes it, with `base.json`.
            digest: The digest that it must have, where that is known.

        Raises:
            AdapterError: A file is absent, damaged or another than the digest says; it was
                trained on another base; its tensors do not fit; or its method or options
                are ones that cannot share a base.
        """
        kind = kind_of(folder)
        _require_shared_base(kind)
        require_base(folder, self._backbone)
        found = adapter_digest(folder)
        if digest is not None and found != digest:
            raise _altered(digest, found)
        data = read_bytes(folder / WEIGHTS)
        header = read_header(data)
        layout, factors = self._layouts.find(kind, read_json(folder / CONFIG), header)
        room = self._backbone.max_tokens
        if isinstance(layout, PrefixLayout):
            prefix = Prefix(layout.n_virtual_tokens, layout.gates is not None)
            room = prefix.max_tokens(self._layouts.anatomy, room)
        has_head = (folder / HEAD).is_file()
        width = self._backbone.hidden_size
        return StoredAdapter(
            name=name,
            folder=folder,
            kind=kind,
            digest=found,
            weights_sha256=sha256(data).hexdigest(),
            layout=layout,
            factors=factors,
            data_start=header.data_start,
            dtype=header.dtype,
            n_elements=header.n_elements,
            max_tokens=room,
            head=load_head(folder, hidden_size=width, max_tokens=room) if has_head else None,
        )


def read_weights(stored: StoredAdapter, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Reads an adapter's weights from disk: a flat tensor, its scales multiplied in.

    Raises:
        AdapterError: The file is not the one that was checked.
    """
    data = read_bytes(stored.folder / WEIGHTS)
    found = sha256(data).hexdigest()
    if found != stored.weights_sha256:
        raise _altered(stored.weights_sha256, found)
    flat = torch.frombuffer(
        data, dtype=stored.dtype, offset=stored.data_start, count=stored.n_elements
    )
    if stored.dtype not in (torch.float32, dtype):
        flat = flat.float()
    for first, end, factor in stored.factors:
        flat[first:end].mul_(factor)
    return flat.to(device=device, dtype=dtype)


@dataclass(frozen=True)
class _Header:
    """What a safetensors file holds: name, shape and first element of each tensor, in order."""

    tensors: tuple[tuple[str, tuple[int, ...], int], ...]
    dtype: torch.dtype
    data_start: int
    n_elements: int


def _altered(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "adapter",
        expected=f"files with digest {expected[:12]}...",
        found=f"{found[:12]}...",
        remedy="Restore the adapter's folder from where it came, and load it again.",
    )


def _require_shared_base(kind: Kind) -> None:
    if kind == "full":
        raise AdapterError(
            "adapter",
            expected="LoRA, prefix or bottleneck, which share their base",
            found="full tuning, which has weights of its own",
            remedy="Serve it as a base of its own.",
        )
