"""Linear layers of one shared base in which every row of a batch takes its own adapter.

A batch's rows are ordered so that rows of adapters with one layout (same tensors, shapes and
places) stand together. Their weights of one block are stacked, `(rows, ...)`, and one
batched product adds all their updates to the base's output in place, as Punica does with a
kernel of its own (Chen et al. 2023, arXiv 2310.18547); no kernel is needed here. Rows that
share an adapter take one plain product instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from common.adapters.frozen import FrozenLinear, frozen_product, takes_onednn
from common.adapters.prefix_attention import EMBEDDINGS, GATES, PrefixRows, PrefixWeights

__all__ = [
    "BankLinear",
    "BottleneckLayout",
    "Layout",
    "LoraLayout",
    "PrefixLayout",
    "RowGroup",
    "Slot",
    "adapted_rows",
    "patch_linears",
]


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in an adapter's flat tensor.

    Args:
        block: Which of the layout's blocks it belongs to.
        start: Its first element, counted from the block's first.
        shape: Its shape.
    """

    block: int
    start: int
    shape: tuple[int, int]

    @property
    def end(self) -> int:
        """One past its last element, counted from the block's first."""
        return self.start + self.shape[0] * self.shape[1]

    def of(self, blocks: Tensor) -> Tensor:
        """Returns the tensor of each row, `(rows, *shape)`, from `(rows, block size)`."""
        return blocks[:, self.start : self.end].view(len(blocks), *self.shape)


@dataclass(frozen=True, eq=False)
class Layout:
    """What adapters whose weights can be stacked have in common.

    Args:
        blocks: First element and end of each block in the flat tensor: a layer of the base.
    """

    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class LoraLayout(Layout):
    """Layout of LoRA adapters: A `(r, in)` and B `(out, r)` of each layer they adapt."""

    sites: Mapping[str, tuple[Slot, Slot]]


@dataclass(frozen=True, eq=False)
class BottleneckLayout(Layout):
    """Layout of bottleneck adapters.

    Args:
        sites: For each layer whose output changes: weight `(m, h)` and bias `(m, 1)` of the
            way down, weight `(h, m)` and bias `(h, 1)` of the way up.
        sources: For each such layer the one whose input the adapter reads; a layer without
            an entry reads its own output.
        activation: What stands between the two.
    """

    sites: Mapping[str, tuple[Slot, Slot, Slot, Slot]]
    sources: Mapping[str, str]
    activation: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PrefixLayout(Layout):
    """Layout of prefixes of one length.

    Args:
        embeddings: `(P, layers * 2 * kv_heads * head_dim)`, as peft lays them out.
        gates: `(layers, heads)`; None for a prefix that shares the text's softmax.
        n_kv_heads: Heads of key and value.
        head_dim: Width of a head.
    """

    embeddings: Slot
    gates: Slot | None
    n_kv_heads: int
    head_dim: int

    @property
    def n_virtual_tokens(self) -> int:
        """Length P."""
        return self.embeddings.shape[0]

    @property
    def shift(self) -> int:
        """How far the prefix moves the positions of its row."""
        return 0 if self.gates else self.n_virtual_tokens

    def weights(self, flat: Tensor) -> PrefixWeights:
        """Returns the prefix in an adapter's flat tensor, without a copy."""
        tensors = {EMBEDDINGS: self.embeddings.of(flat[None])[0]}
        if self.gates is not None:
            tensors[GATES] = self.gates.of(flat[None])[0]
        sizes = {"n_kv_heads": self.n_kv_heads, "head_dim": self.head_dim}
        return PrefixWeights.of(tensors, **sizes)


@dataclass
class RowGroup:
    """Consecutive rows of a batch whose adapters have one layout.

    Args:
        layout: Their layout.
        runs: First row, end and flat tensor of each stretch of rows with one adapter.
    """

    layout: Layout
    runs: list[tuple[int, int, Tensor]]
    _stacked: tuple[int, Tensor] | None = field(default=None, repr=False)
    _memory: Tensor | None = field(default=None, repr=False)
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def prefix_rows(self) -> PrefixRows | None:
        """Returns the rows' prefixes, if that is what their adapters are."""
        if not isinstance(self.layout, PrefixLayout):
            return None
        prefixes = [
            prefix
            for lo, hi, flat in self.runs
            for prefix in [self.layout.weights(flat)] * (hi - lo)
        ]
        return PrefixRows(self.runs[0][0], prefixes)

    def update(self, site: str, x: Tensor, y: Tensor) -> None:
        """Adds the rows' updates to the output `y` of the layer `site` with input `x`.

        Args:
            site: The layer's name in the base.
            x: `(batch, tokens, in)`.
            y: `(batch, tokens, out)`, changed in place.
        """
        if isinstance(self.layout, LoraLayout):
            if (lora := self.layout.sites.get(site)) is not None:
                self._update_lora(lora, x, y)
        elif isinstance(self.layout, BottleneckLayout):
            if site in self.layout.sources.values():
                self._kept[site] = x
            if (parts := self.layout.sites.get(site)) is not None:
                source = self.layout.sources.get(site)
                self._update_bottleneck(parts, y if source is None else self._kept.pop(source), y)

    def _update_lora(self, slots: tuple[Slot, Slot], x: Tensor, y: Tensor) -> None:
        """Adds B A x, B having the scale in it already."""
        for rows, weights in self._pieces():
            a, b = (weights(slot) for slot in slots)
            ax = torch.bmm(a, _tokens(x[rows]).transpose(1, 2))  # [rows, r, tokens]
            _tokens(y[rows]).baddbmm_(ax.transpose(1, 2), b.transpose(1, 2))

    def _update_bottleneck(self, slots: Sequence[Slot], x: Tensor, y: Tensor) -> None:
        """Adds up(activation(down(x))), up having the scale in it already."""
        assert isinstance(self.layout, BottleneckLayout)  # noqa: S101  # the caller's branch
        for rows, weights in self._pieces():
            down, down_bias, up, up_bias = (weights(slot) for slot in slots)
            xs, ys = _tokens(x[rows]), _tokens(y[rows])
            z = torch.baddbmm(down_bias.transpose(1, 2), xs, down.transpose(1, 2))
            z = self.layout.activation(z)  # [rows, tokens, m]
            ys.baddbmm_(z, up.transpose(1, 2)).add_(up_bias.transpose(1, 2))

    def _pieces(self) -> Iterator[tuple[slice, Callable[[Slot], Tensor]]]:
        """Yields rows and what gives their weights, `(rows, *shape)`.

        Long runs are taken one by one, their weights repeated without a copy; else the
        weights of all rows are stacked.
        """
        first, end = self.runs[0][0], self.runs[-1][1]
        if _LONG_RUN * len(self.runs) > end - first and len(self.runs) > 1:
            yield slice(first, end), self._stacked_rows
            return
        for lo, hi, flat in self.runs:
            yield slice(lo, hi), partial(self._repeated_rows, flat, hi - lo)

    def _repeated_rows(self, flat: Tensor, rows: int, slot: Slot) -> Tensor:
        first, end = self.layout.blocks[slot.block]
        return slot.of(flat[None, first:end]).expand(rows, *slot.shape)

    def _stacked_rows(self, slot: Slot) -> Tensor:
        """Returns a view of the block's stacked weights, valid until the next block is asked for.

        All blocks are stacked in the same memory: fresh memory costs more than the copy.
        """
        if self._stacked is None or self._stacked[0] != slot.block:
            first, end = self.layout.blocks[slot.block]
            rows = [flat[first:end] for lo, hi, flat in self.runs for _ in range(lo, hi)]
            if self._memory is None:
                widest = max(end - first for first, end in self.layout.blocks)
                self._memory = rows[0].new_empty(len(rows) * widest)
            stack = self._memory[: len(rows) * (end - first)].view(len(rows), -1)
            self._stacked = (slot.block, torch.stack(rows, out=stack))
        return slot.of(self._stacked[1])


class BankLinear(nn.Linear):
    """A linear layer of the base, weights shared, that adds the batch's updates.

    The base's product takes the faster of the CPU's libraries (`common.adapters.frozen`).

    Args:
        base: The layer; its tensors are shared and never written.
        site: Its name in the base.
    """

    def __init__(self, base: nn.Linear, site: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.site = site

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(batch, ..., out_features)` for `x` of `(batch, ..., in_features)`."""
        onednn = takes_onednn(x, self.weight)
        product = frozen_product if onednn else nn.functional.linear
        y = product(x, self.weight, self.bias)
        for group in _GROUPS.get():
            group.update(self.site, x, y)
        return y


@contextmanager
def adapted_rows(groups: Sequence[RowGroup]) -> Iterator[None]:
    """Lets the bank's layers apply `groups` in this thread, for as long as it is open."""
    token = _GROUPS.set(groups)
    try:
        yield
    finally:
        _GROUPS.reset(token)


def patch_linears(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Puts a `BankLinear` in the place of each plain linear layer of `model`.

    Args:
        model: A copy of the base's structure that shares its tensors; changed in place.

    Returns:
        Inputs and outputs of each layer by name.
    """
    plain = (nn.Linear, FrozenLinear)
    linears = {name: m for name, m in model.named_modules() if type(m) in plain}
    for name, linear in linears.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, BankLinear(linear, name))
    return {name: (m.in_features, m.out_features) for name, m in linears.items()}


_LONG_RUN = 4  # rows; from here on one adapter's rows are not worth copying its weights for

_GROUPS: ContextVar[Sequence[RowGroup]] = ContextVar("adapted_rows", default=())


def _tokens(rows: Tensor) -> Tensor:
    """Returns `(rows, tokens, width)` of `(rows, ..., width)` without a copy."""
    return rows.view(len(rows), -1, rows.shape[-1])
