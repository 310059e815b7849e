"""fp32, bf16 or fp8, compiled or not: what a short trial on this device shows to be fastest.

A candidate must be possible (device, package, sizes that divide by 16) and must win: one
block of the network is copied, fed what a real batch feeds it, and its forward and
backward pass timed in each candidate. Lower precision is never taken for its name: what
is slower than the next wider precision is left, with the reason. The network itself,
the random state and the optimiser are not touched.

- fp32: everything in float32.
- bf16: frozen weights are kept in bfloat16, trained ones in float32; LoRA's products are
  taken in the type of their input, everything else that is trained under autocast.
- fp8: as bf16, with the frozen linear layers of the blocks kept in FP8
  (`common.adapters.float8`); where the layers are trained, their products in FP8 (torchao).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

from common.adapters.frozen import quicken_frozen
from common.adapters.joint import join_projections
from common.adapters.lora import FusedLoRALinear, fuse_lora
from common.tuning.blocks import repeated_blocks
from common.tuning.float8 import divisible_by_16, freeze_in_float8, train_in_float8
from common.tuning.trial import BlockCall, capture_block_call, time_block

__all__ = ["PrecisionChoice", "PrecisionName", "apply_precision", "choose_precision"]

PrecisionName = Literal["fp32", "bf16", "fp8"]
_LOGGER = logging.getLogger(__name__)
_WORTHWHILE = 0.98  # of the simpler candidate's time; a smaller gain is noise
_FP8_CAPABILITY = (8, 9)  # first NVIDIA architecture with FP8 matrix units


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision and why.

    Args:
        name: "fp32", "bf16" or "fp8".
        compiled: Whether the blocks are compiled.
        reason: One sentence.
        measured: Milliseconds of one block's forward and backward pass in each candidate
            that was timed, by name ("bf16", "bf16 compiled").
    """

    name: PrecisionName
    compiled: bool
    reason: str
    measured: dict[str, float] = field(default_factory=dict)


def choose_precision(
    requested: Literal["auto", "fp32", "bf16", "fp8"],
    *,
    network: nn.Module,
    batch: Any,
    device: torch.device | str,
    method: Any = None,  # noqa: ARG001  # the trained parameters say what the method does
) -> PrecisionChoice:
    """Chooses the fastest precision up to the one requested.

    Args:
        requested: The lowest precision allowed; "auto" allows all.
        network: The network on `device`, in float32, called with `batch`.
        batch: A real batch, on `device`.
        device: Where it trains.
        method: What is trained; not read.
    """
    device = torch.device(device)
    if requested == "fp32":
        return PrecisionChoice("fp32", False, "fp32 was asked for.")
    possible, refused = _possible(network, device)
    if requested == "bf16":
        possible = [name for name in possible if name != "fp8"]
    notes = [why for name, why in refused if requested in {"auto", name}]
    if possible == ["fp32"]:
        return _logged(PrecisionChoice("fp32", False, _sentence("fp32", notes)), requested)
    blocks = repeated_blocks(network)
    call = capture_block_call(network, batch, blocks[0]) if blocks else None
    if call is None:
        notes.append("no repeated blocks to time")
        return _logged(PrecisionChoice("fp32", False, _sentence("fp32", notes)), requested)
    measured = _trial(call, possible, device)
    return _logged(_fastest(measured, possible, notes), requested)


def apply_precision(
    network: nn.Module, choice: PrecisionChoice, *, activation_budget: float = 1.0
) -> nn.Module:
    """Brings `network` into the precision chosen, in place, and returns it.

    Frozen parameters are replaced, never written: a base that shares them keeps its own.

    Args:
        network: On its device, in float32.
        choice: What `choose_precision` returned.
        activation_budget: Share of the activations that compiled blocks may keep; less is
            recomputed in the backward pass. It holds for the whole process.
    """
    fuse_lora(network)
    if choice.name == "fp32":
        quicken_frozen(network)
    else:
        _narrow(network)
    if choice.name == "fp8":
        freeze_in_float8(network)
        for block in repeated_blocks(network):
            # a compiler refuses to recompute what hands outputs from one layer to the next
            if not getattr(block, "gradient_checkpointing", False):
                join_projections(block)
        if _trains_linear_layers(network):
            train_in_float8(network)
    if choice.compiled:
        import torch._dynamo.config as dynamo_config
        import torch._functorch.config as functorch_config
        import torch._inductor.config as inductor_config

        # A network of small layers waits for the host: the compiled code's checks of the
        # layout of each product are for those who write kernels.
        inductor_config.size_asserts = inductor_config.alignment_asserts = False
        functorch_config.activation_memory_budget = activation_budget
        blocks = repeated_blocks(network)
        # Blocks share their code, and each mode (training, evaluation, first block, ragged
        # lengths) has a compiled form of its own: the default of 8 is soon used up.
        dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, 32)
        for block in blocks:
            block.compile()
    return network


def _possible(
    network: nn.Module, device: torch.device
) -> tuple[list[PrecisionName], list[tuple[str, str]]]:
    """Returns the precisions that the device can take, and why it cannot take the others."""
    possible: list[PrecisionName] = ["fp32"]
    refused: list[tuple[str, str]] = []
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        bf16 = device.type == "cpu" and _cpu_has_bf16()
    if bf16:
        possible.append("bf16")
    else:
        refused.append(("bf16", f"this {device.type} device has no bfloat16 arithmetic"))
    why = _why_not_fp8(network, device)
    if why is None and bf16:
        possible.append("fp8")
    else:
        refused.append(("fp8", why or "it needs bfloat16 beside it"))
    return possible, refused


def _why_not_fp8(network: nn.Module, device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"a {device.type} device has no FP8 matrix units"
    if torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        return "FP8 needs a device of compute capability 8.9 or higher"
    layers = [
        module
        for block in repeated_blocks(network)
        for module in block.modules()
        if isinstance(module, nn.Linear)
    ]
    if not any(divisible_by_16(layer) for layer in layers):
        return "no linear layer's sizes divide by 16"
    if _trains_linear_layers(network) and find_spec("torchao") is None:
        return "full tuning in FP8 needs the package torchao"
    return None


def _cpu_has_bf16() -> bool:
    """Returns whether this processor multiplies bfloat16 natively (AVX-512 BF16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _trial(
    call: BlockCall, possible: Sequence[PrecisionName], device: torch.device
) -> dict[str, float]:
    """Times each candidate on a copy of the block; one that fails is left out."""
    candidates = [PrecisionChoice(name, False, "") for name in possible if name != "fp8"]
    if device.type == "cuda":
        candidates += [PrecisionChoice(name, True, "") for name in possible if name != "fp32"]
    measured: dict[str, float] = {}
    for candidate in candidates:
        block = nn.ModuleList([copy.deepcopy(call.block)])
        try:
            apply_precision(block, candidate)
            narrow = candidate.name != "fp32" and not _trains_linear_layers(block)
            dtype = torch.bfloat16 if narrow else torch.float32  # of the stream of states
            measured[_label(candidate)] = time_block(block[0], call, dtype)
        except RuntimeError as error:  # out of memory, a compiler that is absent
            _LOGGER.info("precision trial: %s failed (%s)", _label(candidate), type(error).__name__)
    return measured


def _fastest(
    measured: dict[str, float], possible: Sequence[PrecisionName], notes: Sequence[str]
) -> PrecisionChoice:
    """Returns the fastest; of two that are equally fast, the wider and simpler one."""
    order = [
        PrecisionChoice(name, compiled, "")
        for name in possible
        for compiled in (False, True)
        if _label(PrecisionChoice(name, compiled, "")) in measured
    ]
    if not order:
        return PrecisionChoice("fp32", False, _sentence("fp32", [*notes, "no trial succeeded"]))
    best = order[0]
    for candidate in order[1:]:
        if measured[_label(candidate)] < _WORTHWHILE * measured[_label(best)]:
            best = candidate
    times = ", ".join(f"{label} {value:.2f} ms" for label, value in measured.items())
    reason = _sentence(_label(best), [f"one block's step took {times}", *notes])
    return PrecisionChoice(best.name, best.compiled, reason, measured)


def _narrow(network: nn.Module) -> None:
    """Replaces frozen float32 parameters by bfloat16 ones and arranges autocast if needed."""
    narrowed: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad or parameter.dtype != torch.float32:
                continue
            if id(parameter) not in narrowed:
                narrow = parameter.detach().to(torch.bfloat16)
                narrowed[id(parameter)] = nn.Parameter(narrow, requires_grad=False)
            setattr(module, name, narrowed[id(parameter)])
    if _trains_beside_lora(network):
        inner = getattr(network, "model", network)
        for target in [inner] if not isinstance(inner, nn.ModuleList) else list(inner):
            device = next(target.parameters()).device.type
            target.forward = torch.autocast(device, torch.bfloat16)(target.forward)


def _trains_beside_lora(network: nn.Module) -> bool:
    """Returns whether parameters other than LoRA's are trained inside the adapted model."""
    inner = getattr(network, "model", network)
    lora = {
        id(parameter)
        for module in inner.modules()
        if isinstance(module, FusedLoRALinear)
        for parameter in module.parameters()
    }
    return any(p.requires_grad and id(p) not in lora for p in inner.parameters())


def _trains_linear_layers(network: nn.Module) -> bool:
    """Returns whether the blocks' own linear layers are trained, as in full tuning."""
    return any(
        isinstance(module, nn.Linear)
        and divisible_by_16(module)
        and module.weight.requires_grad
        and min(module.in_features, module.out_features) >= 256
        for block in repeated_blocks(network)
        for module in block.modules()
    )


def _label(choice: PrecisionChoice) -> str:
    return f"{choice.name} compiled" if choice.compiled else choice.name


def _sentence(name: str, notes: Sequence[str]) -> str:
    return f"{name}: {'; '.join(notes)}." if notes else f"{name}."


def _logged(choice: PrecisionChoice, requested: str) -> PrecisionChoice:
    level = logging.INFO if requested in {"auto", choice.name} else logging.WARNING
    _LOGGER.log(level, "precision %s: %s", requested, choice.reason)
    return choice
