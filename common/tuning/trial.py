"""One block of a network, run as a real batch runs it, and timed.

The block is a stand-in for the network: its blocks are alike and take nearly all of a
step. Only a copy of it computes; the network runs once, up to its first block, in
evaluation mode and without gradients, and is left as it was.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BlockCall", "capture_block_call", "time_block"]

_WARM_UPS, _ROUNDS, _STEPS = 3, 5, 3  # of the timing; a round is several steps
# A step passes the block so often in a row, as a network does: what one pass costs to start
# and to end would otherwise hide a faster precision behind the same launch time.
_PASSES = 4
_CACHES = ("past_key_values", "past_key_value", "use_cache")  # nothing is cached in training


@dataclass(frozen=True)
class BlockCall:
    """A block and the arguments that it was called with."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Captured(Exception):  # noqa: N818  # ends a forward pass that is no longer needed
    """The arguments are known."""


def capture_block_call(network: nn.Module, batch: Any, block: nn.Module) -> BlockCall | None:
    """Returns how `network` calls `block` for `batch`, or None if it does not.

    Weights, modes and random states are as before afterwards.

    Args:
        network: Called with `batch`, or with its items where that is a mapping.
        batch: A real batch, on the network's device.
        block: A module inside the network.
    """
    caught: list[BlockCall] = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept = {name: value for name, value in kwargs.items() if name not in _CACHES}
        caught.append(BlockCall(module, args, kept))
        raise _Captured

    modes = {module: module.training for module in network.modules()}
    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            network.eval()
            network(**batch) if isinstance(batch, Mapping) else network(batch)
    except _Captured:
        pass  # as intended: what follows the block need not run
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
    return caught[0] if caught else None


def time_block(block: nn.Module, call: BlockCall, dtype: torch.dtype) -> float:
    """Returns the median milliseconds of a forward and backward pass of `block`.

    Several passes are chained, each on the output of the one before.

    Args:
        block: A copy of the block, in the precision to time; its gradients are dropped.
        call: The arguments.
        dtype: Type that floating-point arguments are given, the first one with a gradient.
    """
    device = next(block.parameters()).device
    args, kwargs = _prepared(call.args, dtype), _prepared(call.kwargs, dtype)
    hidden = args[0] if args else kwargs["hidden_states"]
    hidden.requires_grad_()
    times = []
    with torch.random.fork_rng():
        block.train()
        weight = torch.randn(hidden.shape, device=device).to(dtype)
        for turn in range(_WARM_UPS + _ROUNDS):
            start = _now(device)
            for _ in range(1 if turn < _WARM_UPS else _STEPS):
                _step(block, args, kwargs, weight)
            times.append((_now(device) - start) / (_STEPS * _PASSES))
    return 1e3 * statistics.median(times[_WARM_UPS:])


def _step(block: nn.Module, args: Any, kwargs: Any, weight: Tensor) -> None:
    states = args[0] if args else kwargs["hidden_states"]
    named = {name: value for name, value in kwargs.items() if args or name != "hidden_states"}
    for _ in range(_PASSES):
        output = block(states, *args[1:], **named)
        states = output if isinstance(output, Tensor) else output[0]
    (states.to(weight.dtype) * weight).sum().backward()
    block.zero_grad(set_to_none=True)


def _prepared(value: Any, dtype: torch.dtype) -> Any:
    """Returns arguments with their floating-point tensors detached and in `dtype`."""
    if isinstance(value, Tensor):
        return value.detach().to(dtype, copy=True) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_prepared(item, dtype) for item in value)
    if isinstance(value, dict):
        return {name: _prepared(item, dtype) for name, item in value.items()}
    return value


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
