"""One round of a joint training as one process sees it: forward, backward, votes, averages.

Every process sends and takes the same messages in every round, whatever happens: one per
link forward, one per link backward, then votes. Where something goes wrong, what is left
of its messages says so instead of carrying a tensor, so that the others learn the cause at
once, wait for nobody, and no message is left over for the next round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from common.errors import ModelError
from common.protocol.gradients.linkage import Linkage
from common.protocol.gradients.snapshot import parameters_of
from common.protocol.gradients.wire import Fault, Message, Reason, Wire

__all__ = ["JointRound", "Stage", "Votes"]

_CLOSING = 1 << 20  # the link of the last message of a group that is at its end


@dataclass(frozen=True, eq=False)
class Stage:
    """One model among those that are linked.

    Args:
        compute: Takes the stage's own batch, then the outputs of the stages that it reads;
            returns one floating-point tensor, or the mean loss of the batch if it is the last.
        optimizer: Holds what the stage trains; it is stepped once a round.
        buffers: What else `compute` changes (a batch norm's means), to be restored with
            the parameters.
    """

    compute: Callable[..., Tensor]
    optimizer: Optimizer
    buffers: Sequence[Tensor] = ()

    @property
    def parameters(self) -> list[Tensor]:
        """What it trains, in the optimizer's order."""
        return parameters_of(self.optimizer)


@dataclass(frozen=True)
class Votes:
    """What all processes said at the end of a phase.

    Args:
        fault: The fault that the round ends with, the same for all that can be reached.
        losses: Of each lane, its mean loss and how many samples it is over.
    """

    fault: Fault | None
    losses: tuple[tuple[float, int], ...]


@dataclass(eq=False)
class JointRound:
    """A round under way.

    Args:
        number: Of the round, from 0.
        linkage: The stages and where they stand.
        stages: Those of this process.
        rank: This process.
        wire: To the others; None where there are none.
        dtype: Type of activations and gradients between processes.
        n_samples: Samples of this lane's part of the batch.
    """

    number: int
    linkage: Linkage
    stages: Mapping[str, Stage]
    rank: int
    wire: Wire | None
    dtype: torch.dtype
    n_samples: int
    fault: Fault | None = None
    lost: set[int] = field(default_factory=set)  # who is gone: nothing goes there any more
    error: Exception | None = None  # this process's own, where its function failed
    loss: float = math.nan
    _outputs: dict[str, Tensor] = field(default_factory=dict)
    _inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    _local: dict[int, Tensor] = field(default_factory=dict)
    _arrived: dict[tuple[int, int], Message] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)  # whose last message has come

    @property
    def peers(self) -> list[int]:
        """The other processes."""
        return [rank for rank in range(self.linkage.world_size) if rank != self.rank]

    def forward(self, batches: Mapping[str, Any]) -> None:
        """Computes this process's stages in order, taking and giving activations."""
        for name in self.linkage.order:
            if name not in self.stages:
                continue
            sources = self.linkage.inputs[name]
            taken = [self._take(x, name, back=False) for x in sources]
            inputs = [x.detach().requires_grad_() for x in taken if x is not None]
            output = self._try(self._compute, name, batches.get(name), inputs)
            for consumer in self.linkage.consumers(name):
                self._give(name, consumer, output, back=False)

    def backward(self) -> None:
        """Takes the gradients of the outputs, and gives those of the inputs."""
        for name in reversed(self.linkage.order):
            if name not in self.stages:
                continue
            taken = [self._take(name, x, back=True) for x in self.linkage.consumers(name)]
            arriving = [x for x in taken if x is not None]
            gradients = self._try(self._differentiate, name, arriving)
            for number, source in enumerate(self.linkage.inputs[name]):
                gradient = None if gradients is None else gradients[number]
                self._give(source, name, gradient, back=True)

    def vote(self, *, phase: int) -> Votes:
        """Tells all others this process's fault, if any, and hears theirs.

        Args:
            phase: Steps since the backward pass, for which others may have had to wait.
        """
        loss = torch.tensor([self.loss], dtype=torch.float64)
        heard = self.exchange(loss, phase=phase)
        faults = [fault for fault in (self.fault, *(m.fault for m in heard.values())) if fault]
        self.fault = min(faults, key=lambda x: (x.reason == "lost", x.rank), default=None)
        lanes = [heard[rank] for rank in self.linkage.ranks[self.linkage.last] if rank in heard]
        losses = tuple((_number(message.tensor), message.n_samples) for message in lanes)
        return Votes(self.fault, losses)

    def exchange(self, tensor: Tensor, *, phase: int) -> dict[int, Message]:
        """Tells all processes something and hears the same of them, by rank.

        Where one of them is lost, this ends at once: `close` tells the others.
        """
        mine = Message(self.number, tensor, fault=self.fault, n_samples=self.n_samples)
        if not self.lost:
            for peer in self.peers:
                self._send(peer, mine)
        heard = {self.rank: mine}
        for peer in self.peers:
            message = None if self.lost else self._receive(peer, self._patience(phase))
            if message is not None:
                heard[peer] = message
        return heard

    def close(self) -> None:
        """Ends the group where a process is lost: tells all others, and hears it of them.

        Whatever they were waiting for, this message comes next and says why, so that
        nobody is left waiting, and nobody is gone before the others know the cause.
        """
        if not self.lost:
            return
        for peer in self.peers:
            self._send(peer, Message(self.number, None, _CLOSING, self.fault))
        for peer in self.peers:
            if peer not in self.lost and peer not in self._closed:
                self._receive(peer, self._patience(3), link=_CLOSING)

    def average(self, n_total: int) -> None:
        """Averages gradients over the replicas of this process's stages, weighted by samples.

        Every replica adds up the same numbers in the same order, so that all of them end
        with the same bits. Messages rather than an all-reduce: they say who is missing.

        Args:
            n_total: Samples of the whole batch.
        """
        for name, stage in self.stages.items():
            if self.linkage.n_lanes == 1 or not stage.parameters:
                continue
            share = self.n_samples / n_total
            mine = flat_of([_gradient(p) * share for p in stage.parameters])
            total = self._summed(self.linkage.ranks[name], mine)
            if total is None:
                continue  # the fault is noted, and the other replicas wait for a word
            for parameter, gradient in zip(
                stage.parameters, pieces_of(total, stage.parameters), strict=True
            ):
                parameter.grad = gradient

    def spread(self, name: str, mine: Tensor) -> Tensor | None:
        """Returns what the first replica of a stage holds; None where that is this process.

        Args:
            name: The stage.
            mine: What this process holds, in a row.
        """
        first, *others = self.linkage.ranks[name]
        if self.rank == first:
            for rank in others:
                self._send(rank, Message(self.number, mine, fault=self.fault))
            return None
        message = self._receive(first, self._patience(1))
        return None if message is None or message.tensor is None else message.tensor

    def step(self) -> None:
        """Steps the optimizers; parameters that are no numbers any more are a fault."""
        for name, stage in self.stages.items():
            self._try(self._step, name, stage)

    def fail(self, rank: int, reason: Reason, *, stage: str | None = None) -> None:
        """Notes why the round cannot be completed; the first cause stays."""
        if self.fault is None:
            number = None if stage is None else self.linkage.order.index(stage)
            self.fault = Fault(rank, reason, number)

    def _step(self, name: str, stage: Stage) -> None:
        stage.optimizer.step()
        if not all_finite(stage.parameters):
            self.fail(self.rank, "not finite", stage=name)

    def _compute(self, name: str, batch: Any, inputs: list[Tensor]) -> Tensor:
        output = self.stages[name].compute(batch, *inputs)
        last = name == self.linkage.last
        if not output.is_floating_point() or (last and output.numel() != 1):
            kind = "one floating-point number, the mean loss" if last else "floating-point numbers"
            raise ModelError(
                f"stage {name}",
                expected=kind,
                found=f"{output.dtype} of shape {tuple(output.shape)}",
                remedy="Let its function return a tensor of that kind.",
            )
        if not all_finite([output]):
            self.fail(self.rank, "not finite", stage=name)
        self._inputs[name], self._outputs[name] = inputs, output
        if last:
            self.loss = float(output.detach())
        return output

    def _differentiate(self, name: str, arriving: list[Tensor]) -> list[Tensor]:
        """Runs autograd through a stage; returns the gradients of its inputs."""
        output, inputs = self._outputs[name], self._inputs[name]
        last = name == self.linkage.last
        if output.requires_grad:
            arrived = [x.to(output) for x in arriving]
            torch.autograd.backward(output, None if last else sum(arrived[1:], arrived[0]))
        gradients = [_gradient(x) for x in inputs]
        if not all_finite([*gradients, *(_gradient(p) for p in self.stages[name].parameters)]):
            self.fail(self.rank, "not finite", stage=name)
        return gradients

    def _try(self, run: Callable[..., Any], name: str, *arguments: Any) -> Any:
        """Returns what `run` says of a stage; None where the round has failed, or fails here."""
        if self.fault is not None:
            return None
        try:
            result = run(name, *arguments)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must hear of it
            self.error = error
            self.fail(self.rank, "raised", stage=name)
            return None
        return result if self.fault is None else None

    def _summed(self, ranks: Sequence[int], mine: Tensor) -> Tensor | None:
        others = [rank for rank in ranks if rank != self.rank]
        for rank in others:
            self._send(rank, Message(self.number, mine, fault=self.fault))
        total: Tensor | None = None
        for rank in ranks:
            taken: Tensor | None = mine
            if rank != self.rank:
                message = self._receive(rank, self._patience(1))
                taken = None if message is None or message.tensor is None else message.tensor
            if taken is None:
                return None
            total = taken.to(mine.device) if total is None else total + taken.to(mine.device)
        return total

    def _give(self, source: str, consumer: str, tensor: Tensor | None, *, back: bool) -> None:
        """Sends what goes along a link: an activation, or back its gradient."""
        link = self.linkage.link(source, consumer, back=back)
        rank = self._rank_of(source if back else consumer)
        if rank == self.rank:
            if tensor is not None:
                self._local[link] = tensor.detach()
            return
        carried = None if tensor is None or self.fault else tensor.detach().to(self.dtype)
        self._send(rank, Message(self.number, carried, link, self.fault, self.n_samples))

    def _take(self, source: str, consumer: str, *, back: bool) -> Tensor | None:
        """Returns what comes along a link; None where the round has failed."""
        link = self.linkage.link(source, consumer, back=back)
        here, there = (source, consumer) if back else (consumer, source)
        rank = self._rank_of(there)
        if rank == self.rank:
            return self._local.pop(link, None)
        depth, deepest = self.linkage.depth(there), self.linkage.depth(self.linkage.last)
        message = self._receive(rank, 2 * deepest + 1 - depth if back else depth, link=link)
        if message is None:
            return None
        if message.tensor is None or message.n_samples != self.n_samples:
            self.fail(rank, "out of step")
        if message.tensor is None:
            return None
        like = next(iter(self.stages[here].parameters), None)
        return message.tensor.float() if like is None else message.tensor.to(like)

    def _rank_of(self, stage: str) -> int:
        """Returns the process of a stage in this process's lane."""
        return self.linkage.ranks[stage][self.linkage.lane_of(self.rank)]

    def _patience(self, phase: int) -> int:
        """Returns how many timeouts others may have waited by then, all of them in turn."""
        return 2 * self.linkage.depth(self.linkage.last) + 2 + phase

    def _send(self, rank: int, message: Message) -> None:
        if self.wire is not None and rank not in self.lost:
            self.wire.send(rank, message)

    def _receive(self, rank: int, patience: int, *, link: int = 0) -> Message | None:
        """Returns the next message of a link, and notes the fault that it tells of."""
        message = self._next(rank, patience, link)
        if message is None:
            self.fail(rank, "lost")
            self.lost.add(rank)
            return None
        if message.fault is not None:
            self.fault = self.fault or message.fault
            if message.fault.reason == "lost":
                self.lost.add(message.fault.rank)
        if message.round != self.number:
            self.fail(rank, "out of step")
        return message

    def _next(self, rank: int, patience: int, link: int) -> Message | None:
        """Returns the next message of a link; others are kept until they are asked for."""
        while (rank, link) not in self._arrived:
            if self.wire is None or rank in self.lost:
                return None
            if rank in self._closed:
                return Message(self.number, fault=self.fault)
            message = self.wire.receive(rank, patience=patience)
            if message is None:
                return None
            if message.link == _CLOSING:
                self._closed.add(rank)
                return message
            self._arrived[rank, message.link] = message
        return self._arrived.pop((rank, link))


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Tells whether every number of `tensors` is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def flat_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns all numbers of `tensors` in one row, in the type of the widest."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def pieces_of(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Returns the tensors that `flat_of` laid in a row, in shape and type of `like`."""
    rows = torch.split(flat, [tensor.numel() for tensor in like])
    return [row.view_as(x).to(x) for row, x in zip(rows, like, strict=True)]


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _number(tensor: Tensor | None) -> float:
    return math.nan if tensor is None else float(tensor.reshape(-1)[0])
