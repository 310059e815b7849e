"""Texts as batches of token ids: length-bucketed, or packed without padding.

A step works on one *global* batch of rows, the same on every process: `BatchPlan` fixes
their order from seed and epoch alone, and `cut_step` gives each rank its share. The
number of processes therefore changes neither which rows share a step nor by what the
loss is divided.

No text is cut. One longer than `max_tokens` is refused, or read in consecutive windows:
a labelled text keeps all its windows in one batch, where their states are averaged by
token counts as in `common.models.text`; for a language model the windows are blocks of
their own that overlap by one token, so that every token after the first is predicted
exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.adapters.heads import TooLong
from common.adapters.windows import cut_windows
from common.errors import TableError
from common.tuning.datasets import Examples, Target, TaskKind

__all__ = ["IGNORED", "Batch", "BatchPlan", "Encoded", "collate", "cut_step", "encode"]

IGNORED = -100  # a position without a target, as torch's cross_entropy ignores by default

_BATCHES_PER_BUCKET = 50  # rows of this many batches are sorted by length together
_PACKED_TOKENS = 1024  # a packed line is filled to this, or to its longest text
_ROWS_NAMED = 20

Window = tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples.

    Args:
        windows: Per row the token ids of its windows, special tokens included; one window
            unless the text is too long. For causal_lm a row is a block with one window.
        targets: Per row, as in `Examples`; None for causal_lm.
        task: What the targets are.
        n_labels: How many labels there are; 0 for regression and causal_lm.
        pad_id: Token id that fills up a batch.
    """

    windows: tuple[tuple[Window, ...], ...]
    targets: tuple[Target, ...]
    task: TaskKind
    n_labels: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.windows)

    def n_tokens(self, row: int) -> int:
        """Returns how many tokens a row has, over all its windows."""
        return sum(len(window) for window in self.windows[row])

    def count(self, rows: Sequence[int]) -> int:
        """Returns what the summed loss of `rows` is divided by: rows, or predicted tokens."""
        if self.task != "causal_lm":
            return len(rows)
        return sum(self.n_tokens(row) - 1 for row in rows)


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads.

    Args:
        input_ids: Token ids, `(n_windows, n_positions)`.
        attention_mask: 1 for tokens, 0 for padding, same shape; None where no token can
            see the padding after it (causal_lm).
        position_ids: Positions that start again at each packed text, same shape; None
            where no text follows another.
        owners: Row in this batch that each window belongs to, `(n_windows,)`.
        targets: `(n_rows,)` class indexes, `(n_rows, n_labels)` zeros and ones, `(n_rows,)`
            values, or for causal_lm the next token of each position, shape of `input_ids`,
            `IGNORED` where there is none.
        n_rows: How many rows the windows make up.
        n_tokens: How many tokens are not padding.
        count: What the summed loss is divided by: rows, or predicted tokens; 0 for a blank.
        blank: Whether the loss is to count nothing: a rank without rows of its own runs
            such a batch, so that all ranks make the same steps.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    owners: Tensor
    targets: Tensor
    n_rows: int
    n_tokens: int
    count: int
    blank: bool = False

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch with its tensors on `device`."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=None if self.attention_mask is None else self.attention_mask.to(device),
            position_ids=None if self.position_ids is None else self.position_ids.to(device),
            owners=self.owners.to(device),
            targets=self.targets.to(device),
        )


def encode(
    examples: Examples, tokenizer: Any, *, max_tokens: int, too_long: TooLong = "refuse"
) -> Encoded:
    """Tokenises examples into windows of at most `max_tokens` tokens, none left out.

    For causal_lm each text ends with the tokenizer's end-of-text token, if it has one.

    Args:
        examples: The texts and targets.
        tokenizer: The backbone's tokenizer.
        max_tokens: Longest window, special tokens included; a method that takes room
            (prefix) has it subtracted already.
        too_long: What to do with a longer text.

    Raises:
        TableError: A text is longer and the policy is to refuse, or, for causal_lm, has
            no token to predict. All such rows are named.
    """
    causal = examples.task == "causal_lm"
    whole = [list(ids) for ids in tokenizer(list(examples.texts), verbose=False)["input_ids"]]
    if causal:
        _end_with(whole, getattr(tokenizer, "eos_token_id", None))
    long_rows = [row for row, ids in enumerate(whole) if len(ids) > max_tokens]
    if long_rows and too_long == "refuse":
        raise _too_long(long_rows, max_tokens, max(map(len, whole)))
    if causal:
        _require_targets(whole)
        blocks = tuple((block,) for ids in whole for block in _blocks(ids, max_tokens))
        windows: tuple[tuple[Window, ...], ...] = blocks
        targets: tuple[Target, ...] = (None,) * len(blocks)
    else:
        parts = {row: _parts(tokenizer, examples.texts[row], max_tokens) for row in long_rows}
        windows = tuple(parts.get(row) or (tuple(ids),) for row, ids in enumerate(whole))
        targets = examples.targets
    pad_id = getattr(tokenizer, "pad_token_id", None)
    return Encoded(windows, targets, examples.task, len(examples.labels), int(pad_id or 0))


@dataclass(frozen=True)
class BatchPlan:
    """Which rows share a step, for every epoch, from the seed alone.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a global batch; the last one of an epoch's rows may be smaller.
        seed: Seed of the order.
        bucketed: Whether rows of similar length come together; packing needs no such order.
    """

    lengths: tuple[int, ...]
    batch_size: int
    seed: int
    bucketed: bool = True

    @property
    def steps_per_epoch(self) -> int:
        """How many global batches an epoch has."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> list[tuple[int, ...]]:
        """Returns the global batches of an epoch in their order, each row in exactly one."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths))
        if self.bucketed:
            size = self.batch_size * _BATCHES_PER_BUCKET
            buckets = [order[i : i + size] for i in range(0, len(order), size)]
            lengths = np.array(self.lengths)
            order = np.concatenate([b[np.argsort(lengths[b], kind="stable")] for b in buckets])
        n_steps = self.steps_per_epoch
        batches = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(n_steps)]
        return [tuple(int(row) for row in batches[i]) for i in random.permutation(n_steps)]


def cut_step(
    encoded: Encoded,
    rows: Sequence[int],
    *,
    rank: int = 0,
    world_size: int = 1,
    micro_batch_size: int | None = None,
    packed: bool = False,
    pad_to: int = 1,
) -> list[Batch]:
    """Returns the batches that one rank runs for the global batch `rows`.

    Rank r takes every `world_size`-th row from the r-th on. Every rank runs equally many
    batches: one whose share is smaller, or empty, runs blank ones that count nothing.

    Args:
        encoded: All rows.
        rows: Rows of the global batch.
        rank: Which share, from 0.
        world_size: How many shares.
        micro_batch_size: Most rows in one forward pass; the whole share without it.
        packed: Whether the texts of a causal_lm batch follow each other without padding.
        pad_to: Positions are padded to a multiple of this.
    """
    share = list(rows[rank::world_size])
    largest = -(-len(rows) // world_size)
    size = min(micro_batch_size or largest, largest)
    batches = []
    for start in range(0, largest, size):
        taken = share[start : start + size]
        batch = collate(encoded, taken or rows[:1], packed=packed, pad_to=pad_to)
        batches.append(batch if taken else replace(batch, blank=True, count=0, n_tokens=0))
    return batches


def collate(
    encoded: Encoded, rows: Sequence[int], *, packed: bool = False, pad_to: int = 1
) -> Batch:
    """Returns `rows` as one batch of tensors; `packed` and `pad_to` as in `cut_step`."""
    if encoded.task == "causal_lm":
        return _causal_batch(encoded, rows, packed=packed, pad_to=pad_to)
    windows = [window for row in rows for window in encoded.windows[row]]
    owners = [i for i, row in enumerate(rows) for _ in encoded.windows[row]]
    n_positions = _round_up(max(map(len, windows)), pad_to)
    mask = torch.zeros((len(windows), n_positions), dtype=torch.long)
    for i, window in enumerate(windows):
        mask[i, : len(window)] = 1
    return Batch(
        input_ids=_filled(windows, n_positions, encoded.pad_id),
        attention_mask=mask,
        position_ids=None,
        owners=torch.tensor(owners),
        targets=_targets(encoded, rows),
        n_rows=len(rows),
        n_tokens=sum(map(len, windows)),
        count=len(rows),
    )


def _causal_batch(encoded: Encoded, rows: Sequence[int], *, packed: bool, pad_to: int) -> Batch:
    texts = [encoded.windows[row][0] for row in rows]
    longest = max(map(len, texts))
    lines = _pack(texts, max(longest, _PACKED_TOKENS)) if packed else [[text] for text in texts]
    n_positions = _round_up(max(sum(map(len, line)) for line in lines), pad_to)
    follows = any(len(line) > 1 for line in lines)
    return Batch(
        input_ids=_filled([_joined(line) for line in lines], n_positions, encoded.pad_id),
        attention_mask=None,
        position_ids=_positions(lines, n_positions) if follows else None,
        owners=torch.arange(len(lines)),
        targets=_filled([_next_tokens(line) for line in lines], n_positions, IGNORED),
        n_rows=len(lines),
        n_tokens=sum(map(len, texts)),
        count=encoded.count(rows),
    )


def _pack(texts: Sequence[Window], capacity: int) -> list[list[Window]]:
    """Puts texts into as few lines as first-fit-decreasing finds."""
    lines: list[list[Window]] = []
    room: list[int] = []
    for text in sorted(texts, key=len, reverse=True):
        line = next((i for i, left in enumerate(room) if left >= len(text)), None)
        if line is None:
            lines.append([])
            room.append(capacity)
            line = len(lines) - 1
        lines[line].append(text)
        room[line] -= len(text)
    return lines


def _joined(line: Sequence[Window]) -> Window:
    return tuple(token for text in line for token in text)


def _next_tokens(line: Sequence[Window]) -> Window:
    return tuple(token for text in line for token in (*text[1:], IGNORED))


def _positions(lines: Sequence[Sequence[Window]], n_positions: int) -> Tensor:
    """Returns positions that start at 0 with every text, and with the padding after them."""
    positions = torch.zeros((len(lines), n_positions), dtype=torch.long)
    for i, line in enumerate(lines):
        ends = np.cumsum([0, *map(len, line), n_positions - sum(map(len, line))])
        for start, end in pairwise(ends.tolist()):
            positions[i, start:end] = torch.arange(end - start)
    return positions


def _filled(lines: Sequence[Window], n_positions: int, fill: int) -> Tensor:
    out = torch.full((len(lines), n_positions), fill, dtype=torch.long)
    for i, line in enumerate(lines):
        out[i, : len(line)] = torch.tensor(line)
    return out


def _targets(encoded: Encoded, rows: Sequence[int]) -> Tensor:
    targets = [encoded.targets[row] for row in rows]
    if encoded.task == "multi_label":
        ones = torch.zeros((len(rows), encoded.n_labels))
        for i, labels in enumerate(targets):
            ones[i, list(labels if isinstance(labels, tuple) else ())] = 1.0
        return ones
    if encoded.task == "regression":
        return torch.tensor(targets, dtype=torch.float32)
    return torch.tensor(targets, dtype=torch.long)


def _parts(tokenizer: Any, text: str, max_tokens: int) -> tuple[Window, ...]:
    parts = cut_windows(tokenizer, [text], max_tokens=[max_tokens], too_long=["chunk"])
    return tuple(part.token_ids for part in parts)


def _blocks(ids: Sequence[int], max_tokens: int) -> list[Window]:
    """Cuts into blocks that overlap by one token, which the next block starts from."""
    starts = range(0, max(len(ids) - 1, 1), max_tokens - 1)
    return [tuple(ids[start : start + max_tokens]) for start in starts]


def _end_with(whole: Sequence[list[int]], end: int | None) -> None:
    for ids in whole:
        if end is not None and (not ids or ids[-1] != end):
            ids.append(end)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _require_targets(whole: Sequence[Sequence[int]]) -> None:
    short = [row for row, ids in enumerate(whole) if len(ids) < 2]
    if short:
        raise TableError(
            "texts",
            expected="at least two tokens in every text",
            found=f"fewer in {_named(short)}",
            remedy="Drop these rows: there is no next token to predict.",
        )


def _too_long(rows: Sequence[int], max_tokens: int, longest: int) -> TableError:
    return TableError(
        "texts",
        expected=f"texts of at most {max_tokens} tokens, special tokens included",
        found=f"up to {longest} tokens in {_named(rows)}",
        remedy='Split these texts, or pass too_long="chunk" to read them in consecutive windows; '
        "nothing is cut silently.",
    )


def _named(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_ROWS_NAMED]))
    more = len(rows) - _ROWS_NAMED
    noun = "row" if len(rows) == 1 else "rows"
    return f"{noun} {shown}" + (f" and {more} more" if more > 0 else "") + ", counted from 0"
