"""Joint training of linked models: what one computes, another's loss reaches back into.

A text encoder and a forecaster's head, or two encoders and their fusion, are trained as
one network although each has its own process, parameters and optimizer. In a round,
activations go forward along the links and their gradients come back, which is the chain
rule cut at the links:

    h = f(x; p),  L = g(h, y; q):   dL/dq = dg/dq,   dL/dp = (dg/dh) (df/dp)

so that only h and dg/dh travel, never data or parameters. The result equals that of one
process that holds everything, up to the type on the wire (float32: to rounding).

A round takes effect on all sites or on none. The sites vote twice, before and after
stepping their optimizers; at a value that is no number, an error, or a process that is
gone, every site puts parameters and optimizer back as they were before the round and
raises `ExchangeError`, which names the site at fault. A process killed between another's
last vote and its own can leave the two one round apart; `rejoin` finds that and undoes
the round on the site that is ahead.

This module takes functions and tensors; who calls it, and with which data, is not its
concern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from common.errors import ExchangeError, InputError
from common.protocol.gradients.joint_round import JointRound, Stage, Votes, flat_of, pieces_of
from common.protocol.gradients.linkage import Linkage
from common.protocol.gradients.snapshot import Snapshot, take_snapshot
from common.protocol.gradients.wire import Fault, Wire

__all__ = ["JointTraining", "RoundRecord", "Stage"]

WireType = Literal["float32", "bfloat16"]

_FOUND = {
    "lost": "none: it is gone, or silent for too long",
    "not finite": "values that are no finite numbers",
    "raised": "that its own function failed",
    "out of step": "another round or another number of samples",
    "unlike": "parameters of other shapes than its replicas have",
}
_REMEDY = {
    "lost": "Start it again, form a new group, and call rejoin() on every site.",
    "not finite": "Look at that site's batch and learning rate; the round may be tried again.",
    "raised": "Mend what that site's own error names; the round may be tried again.",
    "out of step": "Give every site the same batches in the same order.",
    "unlike": "Start every replica of a stage with the same model and settings.",
}


@dataclass(frozen=True)
class RoundRecord:
    """A round that took effect on every site.

    Args:
        round: Its number, from 0.
        loss: Mean loss over the samples of all lanes, before the step.
        n_samples: How many samples.
    """

    round: int
    loss: float
    n_samples: int


class JointTraining:
    """This process's part in training linked models together.

    Args:
        linkage: The stages and where they stand, the same on every process.
        stages: The stages that this process computes, by name: all of them without a wire.
        wire: To the other processes (`common.protocol.gradients.wire`); none where there are none.
        dtype: Type of activations and their gradients between processes. bfloat16 halves
            the traffic and rounds to 8 bits. Averages over replicas travel in full.
        done: Rounds that these parameters have behind them (from a checkpoint).

    All processes must construct theirs at about the same time: they agree on the round,
    and replicas take the parameters of the first lane.

    Raises:
        InputError: The stages are not those that stand here, or the type is another.
        ExchangeError: A site is absent, at a round that cannot be undone, or unlike its
            replicas.
    """

    def __init__(
        self,
        linkage: Linkage,
        stages: Mapping[str, Stage],
        wire: Wire | None = None,
        *,
        dtype: WireType = "float32",
        done: int = 0,
    ) -> None:
        self._rank = 0 if wire is None else wire.rank
        _require_stages(linkage, stages, self._rank, wire)
        self._linkage, self._stages, self._wire = linkage, dict(stages), wire
        self._dtype = _type_named(dtype)
        self._done = done
        self._before: Snapshot | None = None
        self._broken = False
        self._join()

    @property
    def done(self) -> int:
        """Rounds that have taken effect."""
        return self._done

    def step(self, batches: Mapping[str, Any], *, n_samples: int) -> RoundRecord:
        """Trains all stages on one batch; every process calls this for every round.

        Args:
            batches: For each stage of this process what its function takes first.
            n_samples: Samples in this lane's part of the batch, the same on its processes.

        Raises:
            InputError: There are no samples.
            ExchangeError: The round was rolled back, here and on every site that can be
                reached; `__cause__` is this process's own error, if it is at fault. After
                a lost site only `rejoin` leads on.
        """
        if n_samples < 1:
            raise InputError(
                "batch", expected="1 or more samples", found=str(n_samples), remedy="Leave it out."
            )
        if self._broken:
            raise _rolled_back("group of sites", self._done, "lost")
        before = self._snapshot()
        current = self._round(n_samples)
        try:
            votes = self._run(current, batches)
            self._finish(current)
        except BaseException:  # an interrupt, say: the others will find this process gone
            before.restore()
            self._broken = self._wire is not None
            raise
        if votes.fault is not None:
            before.restore()
            self._refuse(votes.fault, current)
        self._before = before
        self._done += 1
        return _record(current.number, votes)

    def rejoin(self, wire: Wire) -> None:
        """Goes on with a new wire after a site was lost and started again.

        The sites agree on the last round that all of them have behind them; one that is
        a round ahead undoes it. A site that was started anew restores its own checkpoint
        first and says through `done` where that stands.

        Raises:
            ExchangeError: A site is absent, or stands at another round that it cannot undo.
        """
        self._wire, self._broken = wire, False
        self._join()

    def _run(self, current: JointRound, batches: Mapping[str, Any]) -> Votes:
        for stage in self._stages.values():
            stage.optimizer.zero_grad(set_to_none=True)
        current.forward(batches)
        current.backward()
        votes = current.vote(phase=0)
        if votes.fault is not None:
            return votes
        current.average(sum(n for _, n in votes.losses))
        current.step()
        return Votes(current.vote(phase=2).fault, votes.losses)

    def _join(self) -> None:
        if self._wire is None:
            return
        current = self._round(0, number=0)
        heard = current.exchange(torch.tensor([self._done], dtype=torch.float64), phase=0)
        rounds = [int(x.tensor[0]) for x in heard.values() if x.tensor is not None]
        agreed = min(rounds)
        if self._done == agreed + 1 and self._before is not None:
            self._before.restore()
            self._before, self._done = None, agreed
        elif self._done != agreed:
            current.fail(self._rank, "out of step")
        self._share_parameters(current)
        fault = current.vote(phase=2).fault
        self._finish(current)
        if fault is not None:
            self._refuse(fault, current)

    def _finish(self, current: JointRound) -> None:
        """Leaves no message of a round on its way."""
        current.close()
        if self._wire is not None:
            self._wire.flush(lost=current.lost)

    def _share_parameters(self, current: JointRound) -> None:
        """Gives the replicas of each stage the parameters of the first lane."""
        for name, stage in self._stages.items():
            if not stage.parameters:
                continue
            shared = current.spread(name, flat_of(stage.parameters))
            if shared is None or current.fault is not None:
                continue  # who is refused keeps what it has
            if shared.numel() != sum(p.numel() for p in stage.parameters):
                current.fail(self._rank, "unlike", stage=name)
                continue
            with torch.no_grad():
                pieces = pieces_of(shared, stage.parameters)
                for parameter, value in zip(stage.parameters, pieces, strict=True):
                    parameter.copy_(value)

    def _round(self, n_samples: int, *, number: int | None = None) -> JointRound:
        return JointRound(
            self._done if number is None else number,
            self._linkage,
            self._stages,
            self._rank,
            self._wire,
            self._dtype,
            n_samples,
        )

    def _snapshot(self) -> Snapshot:
        stages = self._stages.values()
        return take_snapshot(
            [stage.optimizer for stage in stages],
            [buffer for stage in stages for buffer in stage.buffers],
        )

    def _refuse(self, fault: Fault, current: JointRound) -> None:
        self._broken = bool(current.lost)
        site = f"site {self._linkage.site(fault.rank, fault.stage)}"
        error = _rolled_back(site, self._done, fault.reason)
        raise error from current.error


def _type_named(dtype: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise InputError(
            "type between processes",
            expected=" or ".join(known),
            found=repr(dtype),
            remedy="Name one of them; bfloat16 halves the traffic and rounds.",
        )
    return known[dtype]


def _require_stages(
    linkage: Linkage, stages: Mapping[str, Stage], rank: int, wire: Wire | None
) -> None:
    wanted = set(linkage.stages_of(rank)) if rank < linkage.world_size else set()
    if not wanted or set(stages) != wanted or (wire is None and linkage.world_size > 1):
        raise InputError(
            "joint training",
            expected=f"the stages of rank {rank} ({', '.join(sorted(wanted)) or 'none'}), and a "
            "wire if there are other processes",
            found=f"{', '.join(sorted(stages)) or 'none'}, {'no' if wire is None else 'a'} wire",
            remedy="Give every process the same linkage, and the stages that stand on it.",
        )


def _record(number: int, votes: Votes) -> RoundRecord:
    n_samples = sum(n for _, n in votes.losses)
    loss = math.fsum(loss * n for loss, n in votes.losses) / n_samples
    return RoundRecord(number, loss, n_samples)


def _rolled_back(subject: str, round_: int, reason: str) -> ExchangeError:
    return ExchangeError(
        subject,
        expected=f"finite values and an answer in round {round_}, which was rolled back",
        found=_FOUND[reason],
        remedy=_REMEDY[reason],
    )
