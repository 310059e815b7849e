"""An adapter's folder as the bank reads it: checked once, its weights one flat tensor.

The weights file is read whole into memory, never mapped (a file that shrinks under a map
kills the process) and never unpickled; its sha256 is taken from the very bytes that are
used. LoRA's scale is alpha / r (Hu et al. 2021, arXiv 2106.09685) or alpha / sqrt(r)
(rank-stabilised LoRA, Kalajdzievski 2023, arXiv 2312.03732).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.adapters.bank_layers import Layout, LoraLayout, Slot
from common.adapters.folder import (
    CONFIG,
    WEIGHTS,
    Kind,
    adapter_digest,
    kind_of,
    read_json,
    require_base,
    unfit,
)
from common.adapters.heads import HEAD, Head, load_head
from common.backbones import Backbone
from common.errors import AdapterError

__all__ = ["FolderReader", "StoredAdapter", "read_weights"]

Factors = tuple[tuple[int, int, float], ...]

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LORA = re.compile(r"base_model\.model\.(?P<site>.+)\.lora_(?P<side>[AB])\.weight")
_BLOCK = re.compile(r"(?:.*?\.)??\d+(?=\.)")

# peft's options that change what LoRA computes beyond W x + s B A x, and what each must be.
_LORA_NEEDS: Mapping[str, Sequence[object]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others move the base
    **dict.fromkeys(
        (
            "alora_invocation_tokens",
            "arrow_config",
            "fan_in_fan_out",
            "kasa_config",
            "layer_replication",
            "lora_bias",
            "modules_to_save",
            "monteclora_config",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "use_dora",
            "use_qalora",
        ),
        (None, False, [], {}),
    ),
}


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


@dataclass
class FolderReader:
    """Reads adapters of one base.

    Args:
        backbone: The base.
        linears: Inputs and outputs of each of its linear layers, by name.
    """

    backbone: Backbone
    linears: Mapping[str, tuple[int, int]]
    _layouts: dict[tuple[object, ...], Layout] = field(default_factory=dict)

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
        require_base(folder, self.backbone)
        found = adapter_digest(folder)
        if digest is not None and found != digest:
            raise _altered(digest, found)
        data = _read_bytes(folder / WEIGHTS)
        header = _read_header(data)
        layout, factors = self._layout(kind, read_json(folder / CONFIG), header)
        room = self.backbone.max_tokens
        has_head = (folder / HEAD).is_file()
        width = self.backbone.hidden_size
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

    def _layout(
        self, kind: Kind, settings: Mapping[str, Any], header: _Header
    ) -> tuple[Layout, Factors]:
        return self._lora_layout(settings, header)

    def _lora_layout(self, settings: Mapping[str, Any], header: _Header) -> tuple[Layout, Factors]:
        _require_plain_lora(settings)
        key = ("lora", *header.tensors)
        layout = self._layouts.get(key)
        if layout is None:
            layout = LoraLayout(*_lora_sites(header, self.linears))
            layout = self._layouts.setdefault(key, layout)
        assert isinstance(layout, LoraLayout)  # noqa: S101  # the key says so
        factors = []
        for site, (_, up) in layout.sites.items():
            first = layout.blocks[up.block][0]
            factors.append((first + up.start, first + up.end, _lora_scale(settings, site, up)))
        return layout, tuple(factor for factor in factors if factor[2] != 1.0)


def read_weights(stored: StoredAdapter, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Reads an adapter's weights from disk: a flat tensor, its scales multiplied in.

    Raises:
        AdapterError: The file is not the one that was checked.
    """
    data = _read_bytes(stored.folder / WEIGHTS)
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


def _read_bytes(path: Path) -> bytearray:
    try:
        with path.open("rb") as file:
            data = bytearray(path.stat().st_size)
            n_read = file.readinto(data)
    except OSError as error:
        raise unfit(f"a readable {path.name}", type(error).__name__) from error
    return data[:n_read] if n_read != len(data) else data


def _read_header(data: bytearray) -> _Header:
    """Reads a safetensors header: 8 bytes of length, JSON, then the tensors without gaps."""
    try:
        (n_header,) = struct.unpack_from("<Q", data)
        entries = json.loads(bytes(data[8 : 8 + n_header]))
        entries.pop("__metadata__", None)
        ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0])
        dtypes = {entry["dtype"] for _, entry in ordered}
        dtype = _DTYPES[dtypes.pop()]
        tensors, position = [], 0
        for name, entry in ordered:
            first, end = entry["data_offsets"]
            shape = tuple(int(size) for size in entry["shape"])
            if first != position or end - first != math.prod(shape) * dtype.itemsize:
                raise ValueError(name)
            tensors.append((name, shape, first // dtype.itemsize))
            position = end
        if dtypes or 8 + n_header + position != len(data):
            raise ValueError(position)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise unfit(
            f"whole safetensors in {WEIGHTS}, all of one of {', '.join(_DTYPES)}", "something else"
        ) from error
    return _Header(tuple(tensors), dtype, 8 + n_header, position // dtype.itemsize)


def _block_slots(header: _Header) -> tuple[dict[str, Slot], tuple[tuple[int, int], ...]]:
    """Returns each tensor's slot, and the blocks: neighbouring tensors of one layer."""
    slots: dict[str, Slot] = {}
    blocks: list[tuple[int, int]] = []
    current: str | None = None
    for name, shape, first in header.tensors:
        layer = match.group() if (match := _BLOCK.match(name)) else ""
        if layer != current:
            blocks.append((first, first))
            current = layer
        start = blocks[-1][0]
        blocks[-1] = (start, first + math.prod(shape))
        rows, columns = (shape[0], math.prod(shape[1:]))
        slots[name] = Slot(len(blocks) - 1, first - start, (rows, columns))
    return slots, tuple(blocks)


def _lora_sites(
    header: _Header, linears: Mapping[str, tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], dict[str, tuple[Slot, Slot]]]:
    slots, blocks = _block_slots(header)
    sides: dict[str, dict[str, Slot]] = {}
    for name, slot in slots.items():
        match = _LORA.fullmatch(name)
        if match is None or match["site"] not in linears:
            raise unfit("A and B of linear layers of the base", _place(name))
        sides.setdefault(match["site"], {})[match["side"]] = slot
    for site, pair in sides.items():
        n_in, n_out = linears[site]
        shapes = tuple(pair[side].shape for side in sorted(pair))
        if len(pair) != 2 or shapes != ((shapes[0][0], n_in), (n_out, shapes[0][0])):
            raise unfit(f"A (r, {n_in}) and B ({n_out}, r) for {site}", f"shapes {shapes}")
    return blocks, {site: (pair["A"], pair["B"]) for site, pair in sides.items()}


def _place(tensor_name: str) -> str:
    return f"a tensor for {tensor_name.removeprefix('base_model.model.')[:80]}"


def _require_shared_base(kind: Kind) -> None:
    if kind == "full":
        raise AdapterError(
            "adapter",
            expected="LoRA, prefix or bottleneck, which share their base",
            found="full tuning, which has weights of its own",
            remedy="Serve it as a base of its own.",
        )


def _require_plain_lora(settings: Mapping[str, Any]) -> None:
    for option, allowed in _LORA_NEEDS.items():
        value = settings.get(option, allowed[0])
        if value not in allowed:
            raise AdapterError(
                "adapter",
                expected=f"LoRA with {option} {allowed[0]!r}",
                found=f"{option} {str(value)[:40]!r}",
                remedy="Train it without that option, or serve it merged, as a base of its own; "
                "the bank's rows share the base's weights.",
            )


def _lora_scale(settings: Mapping[str, Any], site: str, up: Slot) -> float:
    """Returns alpha / r, or alpha / sqrt(r); alpha by layer where the settings say so."""
    try:
        patterns = settings.get("alpha_pattern") or {}
        own = [a for key, a in patterns.items() if re.match(rf"(.*\.)?({key})$", site)]
        alpha = float((own or [settings["lora_alpha"]])[0])
        rank = up.shape[1]
        return alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
    except (KeyError, TypeError, ValueError, re.error) as error:
        raise unfit(f"lora_alpha in {CONFIG}", type(error).__name__) from error


def _altered(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "adapter",
        expected=f"files with digest {expected[:12]}...",
        found=f"{found[:12]}...",
        remedy="Restore the adapter's folder from where it came, and load it again.",
    )
