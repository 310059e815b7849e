"""What a training step changes, as it was before: to be put back when the step is undone.

Parameters, buffers (a batch norm's running means) and the optimizer's state and settings.
What is frozen is not copied.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Snapshot", "parameters_of", "take_snapshot"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A copy of trained tensors and optimizers.

    Args:
        tensors: Each parameter and buffer with its copy.
        optimizers: Each optimizer with a copy of its state by parameter, and of the
            settings of its groups.
    """

    tensors: tuple[tuple[Tensor, Tensor], ...]
    optimizers: tuple[tuple[Optimizer, dict[Tensor, Any], tuple[dict[str, Any], ...]], ...]

    def restore(self) -> None:
        """Puts everything back, bit for bit, and drops the gradients."""
        with torch.no_grad():
            for tensor, kept in self.tensors:
                tensor.copy_(kept)
                tensor.grad = None
        for optimizer, state, settings in self.optimizers:
            # not load_state_dict: it casts the state to the type of the parameters
            optimizer.state.clear()
            optimizer.state.update(_copied(state))
            for group, kept_settings in zip(optimizer.param_groups, settings, strict=True):
                group.update(copy.deepcopy(kept_settings))


def take_snapshot(optimizers: Sequence[Optimizer], buffers: Iterable[Tensor] = ()) -> Snapshot:
    """Copies what `optimizers` train, their state, and `buffers`."""
    live = [*(p for optimizer in optimizers for p in parameters_of(optimizer)), *buffers]
    return Snapshot(
        tuple((tensor, tensor.detach().clone()) for tensor in live),
        tuple(
            (optimizer, _copied(dict(optimizer.state)), _settings(optimizer))
            for optimizer in optimizers
        ),
    )


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the tensors that an optimizer trains, in its own order."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _copied(state: dict[Tensor, Any]) -> dict[Tensor, Any]:
    return {
        parameter: {
            slot: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
            for slot, value in slots.items()
        }
        for parameter, slots in state.items()
    }


def _settings(optimizer: Optimizer) -> tuple[dict[str, Any], ...]:
    return tuple(
        {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    )
