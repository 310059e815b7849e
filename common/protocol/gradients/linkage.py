"""Which linked models read whose output, and which processes compute them.

A linkage is a directed graph without cycles of *stages* (a text encoder, an image encoder,
a forecaster head); the one that nobody reads gives the loss. Every stage stands once in
each *lane*: replica i of a stage reads replica i of its inputs, and the lanes share a
batch between them. One process may hold several stages of a lane, or all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from common.errors import InputError
from common.protocol.messages.payloads import require_identifier

__all__ = ["Linkage"]


@dataclass(frozen=True)
class Linkage:
    """The stages of a joint training and where they stand; the same on every process.

    Args:
        inputs: For each stage the stages whose outputs it reads, in the order in which
            they are passed to it.
        ranks: For each stage the process of each of its replicas, one per lane; process 0
            for all of them without it.

    Raises:
        InputError: A name is none, an input is no stage, there is a cycle, not exactly one
            stage is read by nobody, or the ranks do not give each lane processes of its own.
    """

    inputs: Mapping[str, tuple[str, ...]]
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.inputs:
            require_identifier(name, "stage name")
        absent = {name for names in self.inputs.values() for name in names} - set(self.inputs)
        if absent:
            raise _unusable("inputs that are stages", f"no stage {', '.join(sorted(absent))}")
        try:
            last = [name for name in self.order if not self.consumers(name)]
        except CycleError as error:
            raise _unusable("stages in an order", "a cycle") from error
        if len(last) != 1:
            found = f"{len(last)}: {', '.join(last)}"
            raise _unusable("exactly one stage that nobody reads, which gives the loss", found)
        if not self.ranks:
            object.__setattr__(self, "ranks", dict.fromkeys(self.inputs, (0,)))
        self._require_lanes()

    def _require_lanes(self) -> None:
        if set(self.ranks) != set(self.inputs):
            raise _unusable(
                f"ranks for {', '.join(sorted(self.inputs))}",
                f"for {', '.join(sorted(self.ranks))}",
            )
        counts = {len(ranks) for ranks in self.ranks.values()}
        if len(counts) != 1 or counts == {0}:
            raise _unusable("equally many replicas of every stage", f"{sorted(counts)} of them")
        lanes: dict[int, set[int]] = {}
        for ranks in self.ranks.values():
            for lane, rank in enumerate(ranks):
                lanes.setdefault(rank, set()).add(lane)
        if set(lanes) != set(range(len(lanes))):
            raise _unusable("ranks from 0 without a gap", str(sorted(lanes)))
        shared = sorted(rank for rank, found in lanes.items() if len(found) > 1)
        if shared:
            raise _unusable("replicas on different processes", f"two of them on rank {shared[0]}")

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The stages, each after those that it reads."""
        return tuple(TopologicalSorter(self.inputs).static_order())

    @property
    def last(self) -> str:
        """The stage that gives the loss."""
        return self.order[-1]

    @property
    def n_lanes(self) -> int:
        """Replicas of each stage."""
        return len(self.ranks[self.last])

    @property
    def world_size(self) -> int:
        """Processes that take part."""
        return 1 + max(rank for ranks in self.ranks.values() for rank in ranks)

    def consumers(self, stage: str) -> tuple[str, ...]:
        """Returns the stages that read `stage`, in order."""
        return tuple(name for name in self.order if stage in self.inputs[name])

    def link(self, source: str, consumer: str, *, back: bool) -> int:
        """Returns the number of a link, from 1, one for each way along it."""
        links = [(x, name) for name in self.order for x in self.inputs[name]]
        return 1 + 2 * links.index((source, consumer)) + back

    def stages_of(self, rank: int) -> tuple[str, ...]:
        """Returns the stages that process `rank` computes, in order."""
        return tuple(name for name in self.order if rank in self.ranks[name])

    def lane_of(self, rank: int) -> int:
        """Returns the lane of process `rank`."""
        return next(ranks.index(rank) for ranks in self.ranks.values() if rank in ranks)

    def site(self, rank: int, stage: int | None = None) -> str:
        """Returns a process's name in messages: its stages, and its lane if there are several.

        Args:
            rank: The process.
            stage: The one of its stages that is meant, by its number in the order.
        """
        names = ":".join(self.stages_of(rank)) if stage is None else self.order[stage]
        return names if self.n_lanes == 1 else f"{names}.{self.lane_of(rank)}"

    def depth(self, stage: str) -> int:
        """Returns how many stages the longest chain that ends with `stage` has."""
        return 1 + max((self.depth(name) for name in self.inputs[stage]), default=0)


def _unusable(expected: str, found: str) -> InputError:
    return InputError(
        "linkage", expected=expected, found=found, remedy="Name each stage with what it reads."
    )
