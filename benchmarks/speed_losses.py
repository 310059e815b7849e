"""The losses of `speed.training`: whether the fast route learns as the plain one does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.speed_sides import our_side, peer_side, release, work_of
from common.tuning.precision import PrecisionChoice

__all__ = ["compare_losses"]


def compare_losses(plan: Mapping[str, Any], device: str, *, seed: int) -> tuple[float, float]:
    """Trains a peer and ours from the same weights on the same batches.

    The text is a noisy chain that can be learned: the next of 512 words is 5 times the last
    plus 0 to 3. The peer's adapters are in float32 here, as ours are.

    Args:
        plan: Its entry in the benchmark's configuration.
        device: "cpu" or "cuda".
        seed: Of the batches.

    Returns:
        The mean losses of the last steps, the peer's and ours, in nats.
    """
    work = work_of(plan, device, plan["layers"])
    rate = plan["learning_rate"]
    peer = peer_side("peer lora", work, adapters="fp32", learning_rate=rate)
    words = plan["ours"].split()
    choice = PrecisionChoice(words[1], "compiled" in words, "as the row says")
    ours = our_side(plan["ours"], work, choice, learning_rate=rate, start=peer.network)
    generator = torch.Generator().manual_seed(seed)
    losses: dict[str, list[torch.Tensor]] = {peer.name: [], ours.name: []}
    for _ in range(plan["steps"]):
        tokens = _chain(work.batch, work.length, generator).to(device)
        for side in (peer, ours):
            losses[side.name].append(side.step(tokens).float())
    last = plan["last"]
    found = [float(torch.stack(losses[side.name][-last:]).mean()) for side in (peer, ours)]
    release([peer, ours])
    return found[0], found[1]


def _chain(batch: int, length: int, generator: torch.Generator) -> torch.Tensor:
    tokens = torch.randint(512, (batch, length), generator=generator)
    noise = torch.randint(4, (batch, length), generator=generator)
    for place in range(1, length):
        tokens[:, place] = (5 * tokens[:, place - 1] + noise[:, place]) % 512
    return tokens
