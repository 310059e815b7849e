"""How the processes of a joint training reach each other: messages with at most one tensor.

`GroupWire` goes through torch.distributed's point-to-point calls over Gloo. `FrameWire`
goes through two functions of the caller's that carry `GradientFrame`s, whatever is behind
them. Either says of a process that is gone, or silent for too long, that nothing came; it
never hangs and never raises for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import ExchangeError, InputError, MessageError
from common.protocol.gradients.frames import array_of, tensor_of
from common.protocol.messages.payloads import GradientFrame

__all__ = ["Fault", "FrameWire", "GroupWire", "Message", "Reason", "Wire"]

Reason = Literal["lost", "not finite", "raised", "out of step", "unlike"]

_REASONS: tuple[Reason, ...] = get_args(Reason)
_DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
_MOST_DIMENSIONS = 8
_HEADER = 8 + _MOST_DIMENSIONS  # numbers; _header says which
_LEAST_TO_MEET_S = 30.0  # starting takes imports, however short the rounds are
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """Why a round cannot be completed.

    Args:
        rank: The process at fault.
        reason: "lost": it is gone or silent; "not finite": it made values that are no
            numbers; "raised": its own function failed; "out of step": it is at another
            round or batch; "unlike": it trains other parameters than its replicas.
        stage: Number of the stage at fault in the linkage's order, where that is known.
    """

    rank: int
    reason: Reason
    stage: int | None = None


@dataclass(frozen=True, eq=False)
class Message:
    """What one process tells another.

    Args:
        round: The round that it belongs to.
        tensor: What it carries, on the CPU; None where there is nothing, or a fault.
        link: Which link it goes along, and which way; 0 for votes and averages.
        fault: Why the sender could not do its part.
        n_samples: How many samples the sender's part of the batch has.
    """

    round: int
    tensor: Tensor | None = None
    link: int = 0
    fault: Fault | None = None
    n_samples: int = 0


class Wire(Protocol):
    """Carries messages between the processes of a linkage, in order, one thread each."""

    @property
    def rank(self) -> int:
        """This process in the linkage."""

    def send(self, rank: int, message: Message) -> None:
        """Sends without waiting; a process that is gone is no error."""

    def receive(self, rank: int, *, patience: int) -> Message | None:
        """Returns the next message from `rank`; None if it is gone or silent.

        Args:
            rank: From whom.
            patience: How many timeouts to wait, since the sender may itself have to wait.
        """

    def flush(self, *, lost: Collection[int]) -> None:
        """Returns when what was sent to all but `lost` has been taken, or its time is over."""


class GroupWire:
    """Messages through torch.distributed, between CPUs, whatever the default group uses.

    Each pair of processes has a Gloo group of its own: Gloo closes every connection of a
    group in which one process is late, and the late one alone is to be named.

    Args:
        timeout_s: Longest time that one process may take to compute its part and answer.

    All processes of the default group must construct theirs, within `timeout_s` or half a
    minute, whichever is longer.

    Raises:
        InputError: There is no default group.
        ExchangeError: Another process did not construct its own in time.
    """

    def __init__(self, *, timeout_s: float = 60.0) -> None:
        if not dist.is_initialized():
            raise InputError(
                "process group",
                expected="torch.distributed to be initialised",
                found="no group",
                remedy="Call torch.distributed.init_process_group() on every process first.",
            )
        self.rank = dist.get_rank()
        self._timeout_s = timeout_s
        self._groups: dict[int, Any] = {}
        for pair in combinations(range(dist.get_world_size()), 2):
            group = self._new_group(pair)  # every process must take part
            if self.rank in pair:
                self._groups[sum(pair) - self.rank] = group
        self._sent: list[tuple[int, Any, Tensor]] = []
        self._lost: set[int] = set()

    def _new_group(self, pair: tuple[int, int]) -> Any:
        seconds = max(self._timeout_s, _LEAST_TO_MEET_S)
        try:  # torch's own timeout is 30 minutes
            return dist.new_group(list(pair), timeout=timedelta(seconds=seconds), backend="gloo")
        except RuntimeError as error:
            raise ExchangeError(
                "group of sites",
                expected=f"every process to make its wire within {seconds:g} s",
                found=f"not all of them ({type(error).__name__})",
                remedy="Start the lost process again, and form a new default group.",
            ) from error

    def send(self, rank: int, message: Message) -> None:
        """Sends without waiting."""
        tensor = message.tensor
        self._post(rank, _header(message))
        if tensor is not None:
            self._post(rank, tensor.detach().to("cpu").contiguous())

    def receive(self, rank: int, *, patience: int) -> Message | None:
        """Returns the next message from `rank`; None if it is gone or silent."""
        header = torch.empty(_HEADER, dtype=torch.int64)
        if not self._take(rank, header, patience):
            return None
        message, dtype, shape = _read_header(header.tolist())
        if dtype is None:
            return message
        tensor = torch.empty(shape, dtype=dtype)
        if tensor.numel() and not self._take(rank, tensor, patience):
            return None
        return replace(message, tensor=tensor)

    def flush(self, *, lost: Collection[int]) -> None:
        """Returns when what was sent to all but `lost` has been taken, or its time is over."""
        for rank, work, _ in self._sent:
            if rank not in self._lost and rank not in lost:
                self._wait(rank, work, 1)
        self._sent.clear()

    def _post(self, rank: int, tensor: Tensor) -> None:
        if rank in self._lost or not tensor.numel():
            return
        try:
            # the tensor is kept until it is taken: its memory is what is sent
            self._sent.append((rank, dist.isend(tensor, rank, group=self._groups[rank]), tensor))
        except RuntimeError as error:
            self._lose(rank, error)

    def _take(self, rank: int, tensor: Tensor, patience: int) -> bool:
        if rank in self._lost:
            return False
        try:
            work = dist.irecv(tensor, rank, group=self._groups[rank])
        except RuntimeError as error:
            self._lose(rank, error)
            return False
        return self._wait(rank, work, patience)

    def _wait(self, rank: int, work: Any, patience: int) -> bool:
        try:
            work.wait(timedelta(seconds=self._timeout_s * patience))
        except RuntimeError as error:
            self._lose(rank, error)
            return False
        return True

    def _lose(self, rank: int, error: RuntimeError) -> None:
        self._lost.add(rank)
        _log.debug("rank %d does not answer: %s", rank, type(error).__name__)


class FrameWire:
    """Messages as `GradientFrame`s, where they leave torch.distributed.

    Args:
        rank: This process in the linkage.
        site: Its name in the frames that it sends.
        send: Takes a rank and a frame, and brings the frame there, once and in order.
        receive: Takes a rank and seconds; returns the next frame from there, or None if
            none came in that time. Either may raise OSError where the rank is gone.
        timeout_s: Longest time that one process may take to compute its part and answer.
    """

    def __init__(
        self,
        rank: int,
        *,
        site: str,
        send: Callable[[int, GradientFrame], None],
        receive: Callable[[int, float], GradientFrame | None],
        timeout_s: float = 60.0,
    ) -> None:
        self.rank = rank
        self._site, self._send, self._receive = site, send, receive
        self._timeout_s = timeout_s
        self._lost: set[int] = set()

    def send(self, rank: int, message: Message) -> None:
        """Sends through the caller's function."""
        tensors = {"header": _header(message).numpy()}
        if message.tensor is not None:
            tensors["payload"] = array_of(message.tensor)
        frame = GradientFrame(message.round, self._site, message.n_samples, tensors)
        if rank not in self._lost:
            try:
                self._send(rank, frame)
            except OSError as error:
                self._lose(rank, error)

    def receive(self, rank: int, *, patience: int) -> Message | None:
        """Returns the next message from `rank`; None if none came.

        Raises:
            MessageError: What came is no message of a joint training.
        """
        if rank in self._lost:
            return None
        try:
            frame = self._receive(rank, self._timeout_s * patience)
        except OSError as error:
            frame = None
            self._lose(rank, error)
        if frame is None:
            self._lost.add(rank)
            return None
        header = np.asarray(frame.tensors.get("header", ()))
        if header.dtype != np.int64 or header.shape != (_HEADER,):
            raise _malformed(f"no header of {_HEADER} numbers")
        message, dtype, shape = _read_header(header.tolist())
        if dtype is None:
            return message
        tensor = tensor_of(np.asarray(frame.tensors.get("payload", ())))
        if tensor.dtype is not dtype or tuple(tensor.shape) != shape:
            raise _malformed("a payload of another type or shape than its header says")
        return replace(message, tensor=tensor)

    def flush(self, *, lost: Collection[int]) -> None:
        """Nothing waits here: the caller's function has taken it."""

    def _lose(self, rank: int, error: OSError) -> None:
        self._lost.add(rank)
        _log.debug("rank %d does not answer: %s", rank, type(error).__name__)


def _header(message: Message) -> Tensor:
    """Returns round, samples, link, fault (rank, reason, stage), type and shape as numbers."""
    numbers = [0] * _HEADER
    numbers[:3] = message.round, message.n_samples, message.link
    if message.fault is not None:
        fault = message.fault
        stage = 0 if fault.stage is None else 1 + fault.stage
        numbers[3:6] = fault.rank, 1 + _REASONS.index(fault.reason), stage
    tensor = message.tensor
    if tensor is not None:
        if tensor.dtype not in _DTYPES or tensor.ndim > _MOST_DIMENSIONS:
            raise InputError(
                "tensor to exchange",
                expected=f"floating point numbers in at most {_MOST_DIMENSIONS} dimensions",
                found=f"{tensor.dtype} in {tensor.ndim}",
                remedy="Give whole numbers (token ids, masks) to each stage in its batch.",
            )
        numbers[6:8] = 1 + _DTYPES.index(tensor.dtype), tensor.ndim
        numbers[8 : 8 + tensor.ndim] = tensor.shape
    return torch.tensor(numbers, dtype=torch.int64)


def _read_header(
    numbers: list[int],
) -> tuple[Message, torch.dtype | None, tuple[int, ...]]:
    round_, n_samples, link, rank, reason, stage, code, n_dimensions = numbers[:8]
    known = 0 <= reason <= len(_REASONS) and 0 <= code <= len(_DTYPES)
    if not known or not 0 <= n_dimensions <= _MOST_DIMENSIONS or min(numbers) < 0:
        raise _malformed("a header of another kind")
    shape = tuple(numbers[8 : 8 + n_dimensions])
    where = stage - 1 if stage else None
    fault = Fault(rank, _REASONS[reason - 1], where) if reason else None
    message = Message(round_, link=link, fault=fault, n_samples=n_samples)
    return message, _DTYPES[code - 1] if code else None, shape


def _malformed(found: str) -> MessageError:
    return MessageError(
        "message of a joint training",
        expected="a header, and the tensor that it announces",
        found=found,
        remedy="Let all processes run the same version.",
    )
