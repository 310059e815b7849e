"""The sides of `speed.training`: networks of one shape, each with its own training step.

Peers are transformers + peft as their documentation has it: the model's own loss, AdamW.
Ours are what the Trainer runs: the adapted base and its head (`TunedNetwork`), brought
into a precision by `apply_precision`. All start from random weights; LoRA's B is drawn
too, because products of zeros run faster than a trained adapter's would.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.shapes import SHAPES, Shape, build_causal_lm, build_encoder, draw_tokens
from common.adapters.methods import Bottleneck, LoRA
from common.tuning.blocks import recompute_blocks, repeated_blocks
from common.tuning.objectives import TunedNetwork
from common.tuning.precision import PrecisionChoice, apply_precision

__all__ = [
    "Side",
    "Work",
    "full_side",
    "our_batch",
    "our_network",
    "our_side",
    "peer_side",
    "record_peak",
    "release",
    "work_of",
]

RANK, ALPHA = 16, 32
_B_STD = 0.01


@dataclass(frozen=True)
class Work:
    """What every side does: one step of `batch` x `length` random tokens.

    Args:
        shape: Of the decoder.
        batch: Rows.
        length: Tokens of a row.
        device: "cpu" or "cuda".
        changes: Changes to the shape, for a look.
    """

    shape: Shape
    batch: int
    length: int
    device: str
    changes: dict[str, Any]

    @property
    def n_tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.length

    @property
    def narrow(self) -> torch.dtype:
        """bfloat16 on a GPU, float32 on a CPU."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    def tokens(self, seed: int = 0) -> torch.Tensor:
        """Returns token ids `(batch, length)`."""
        drawn: torch.Tensor = draw_tokens(
            self.shape, batch=self.batch, length=self.length, device=self.device, seed=seed
        )
        return drawn


@dataclass
class Side:
    """A network that trains.

    Args:
        name: Its name in the results.
        step: Makes one step and returns its loss, on the device.
        peak_gib: GPU memory that the side alone took at most, in steps after the first.
        network: What it trains.
    """

    name: str
    step: Callable[..., torch.Tensor]
    peak_gib: float = 0.0
    network: Any = None


def work_of(entry: Mapping[str, Any], device: str, layers: int | None = None) -> Work:
    """Returns the work that an entry of the configuration describes, with fewer layers if set."""
    changes = {"num_hidden_layers": layers} if layers else {}
    return Work(SHAPES[entry["shape"]], entry["batch"], entry["length"], device, changes)


def peer_side(
    name: str,
    work: Work,
    *,
    compiled: bool = False,
    float8: bool = False,
    adapters: Literal["fp32", "bf16"] = "bf16",
    learning_rate: float = 1e-4,
) -> Side:
    """Returns LoRA on all linear layers through transformers + peft.

    Args:
        name: Its name in the results.
        work: What it does.
        compiled: Whether the decoder layers are compiled.
        float8: Whether torchao takes the base's products in FP8.
        adapters: Type of A and B; peft's default is fp32, bf16 is faster.
        learning_rate: AdamW's.
    """
    from peft import LoraConfig, get_peft_model

    model = build_causal_lm(work.shape, device=work.device, dtype=work.narrow, **work.changes)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    network = get_peft_model(model, config, autocast_adapter_dtype=adapters == "fp32").train()
    _draw_b(network)
    layers = model.model.layers
    if float8:
        from torchao.float8 import convert_to_float8_training

        convert_to_float8_training(
            layers, module_filter_fn=lambda _, path: path.endswith("base_layer")
        )
    if compiled:
        for layer in layers:
            layer.compile()
    step = _peer_step(network, work.tokens(), learning_rate, fused=compiled)
    return Side(name, step, network=network)


def full_side(
    name: str,
    work: Work,
    *,
    compiled: bool = False,
    float8: bool = False,
    checkpointed: bool = False,
    chunked: bool = False,
) -> Side:
    """Returns full tuning, weights and AdamW's state in bfloat16 as the peers' rows have it.

    Args:
        name: Its name in the results.
        work: What it does.
        compiled: Whether the decoder layers are compiled.
        float8: Whether torchao takes the layers' products in FP8.
        checkpointed: Whether every layer is recomputed in the backward pass.
        chunked: Whether the loss is ours, in chunks, or the model's own.
    """
    model = build_causal_lm(work.shape, device=work.device, dtype=work.narrow, **work.changes)
    model.train().requires_grad_(True)
    if checkpointed:
        recompute_blocks(model, keep_every=0)
    if float8:
        from common.tuning.float8 import train_in_float8

        train_in_float8(model)
    if compiled:
        for block in repeated_blocks(model):
            block.compile()
    if not chunked:
        return Side(name, _peer_step(model, work.tokens(), 1e-5, fused=True), network=model)
    from common.tuning.chunked_loss import chunked_cross_entropy

    tokens = work.tokens()
    targets = _next_tokens(tokens).flatten()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> torch.Tensor:
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        total = chunked_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, targets)
        return _update(total / (targets >= 0).sum(), optimizer)

    return Side(name, step, network=model)


def our_side(
    name: str,
    work: Work,
    choice: PrecisionChoice,
    *,
    method: LoRA | Bottleneck | None = None,
    checkpointed: bool = False,
    learning_rate: float = 1e-4,
    start: nn.Module | None = None,
) -> Side:
    """Returns a method through our route; adapters in float32, the rest as `choice` says.

    Args:
        name: Its name in the results.
        work: What it does.
        choice: Precision, and whether the blocks are compiled.
        method: What is trained; LoRA on all linear layers without it.
        checkpointed: Whether three blocks of four are recomputed in the backward pass.
        learning_rate: AdamW's.
        start: A peer's network whose weights it starts from.
    """
    network = our_network(work, method=method, dtype=work.narrow)
    if start is not None:
        _copy_weights(start, network)
    if checkpointed:
        recompute_blocks(network.model)
    apply_precision(network, choice)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, fused=True)
    first = work.tokens()

    def step(tokens: torch.Tensor | None = None) -> torch.Tensor:
        batch = our_batch(first if tokens is None else tokens)
        total, count = network(batch)
        return _update(total / count, optimizer)

    return Side(name, step, network=network)


def our_network(
    work: Work, *, method: LoRA | Bottleneck | None = None, dtype: torch.dtype
) -> TunedNetwork:
    """Returns the network that the Trainer would build: adapted base and frozen output layer."""
    from common.adapters.attach import attach_new
    from common.backbones import Backbone

    base = build_encoder(work.shape, device=work.device, dtype=dtype, **work.changes)
    size = int(base.config.hidden_size)
    backbone = Backbone(
        model=base.requires_grad_(False),
        tokenizer=None,
        name=work.shape.name,
        digest="",
        max_tokens=work.length,
        hidden_size=size,
    )
    adapter = attach_new(backbone, method or LoRA(rank=RANK, alpha=ALPHA, targets="all-linear"))
    generator = torch.Generator(work.device).manual_seed(1)
    words = torch.empty(int(base.config.vocab_size), size, device=work.device, dtype=dtype)
    words.normal_(std=0.02, generator=generator)
    network = TunedNetwork(adapter.backbone.model, "causal_lm", hidden_size=size, lm_head=words)
    _draw_b(network)
    network.train()
    return network


def our_batch(tokens: torch.Tensor) -> Any:
    """Returns the tokens as the Trainer's batch of whole rows."""
    from common.tuning.batches import Batch

    rows, length = tokens.shape
    return Batch(
        input_ids=tokens,
        attention_mask=None,
        position_ids=None,
        owners=torch.arange(rows, device=tokens.device),
        targets=_next_tokens(tokens),
        n_rows=rows,
        n_tokens=rows * length,
        count=rows * (length - 1),
    )


def record_peak(build: Callable[[], Side], *, warm_up: int = 2) -> Side:
    """Builds a side, makes its first steps, and notes what memory its steps take at most."""
    on_gpu = torch.cuda.is_available()
    gc.collect()
    resident = torch.cuda.memory_allocated() if on_gpu else 0
    side = build()
    for _ in range(warm_up):
        side.step()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        side.step()
        torch.cuda.synchronize()
        side.peak_gib = (torch.cuda.max_memory_allocated() - resident) / 2**30
    return side


def release(sides: Sequence[Side]) -> None:
    """Lets the sides' networks go."""
    for side in sides:
        side.step, side.network = _released, None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _released(*_: Any) -> torch.Tensor:
    raise RuntimeError("this side's network was let go")


def _peer_step(
    network: Any, first: torch.Tensor, learning_rate: float, *, fused: bool
) -> Callable[..., torch.Tensor]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, fused=fused or None)

    def step(tokens: torch.Tensor | None = None) -> torch.Tensor:
        tokens = first if tokens is None else tokens
        loss = network(input_ids=tokens, labels=tokens, use_cache=False).loss
        return _update(loss, optimizer)

    return step


def _update(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Gives our network the weights of a peer's, whose base lies inside a language model."""
    given = dict(source.named_parameters())
    own = dict(target.named_parameters())
    with torch.no_grad():
        own.pop("lm_head").copy_(source.get_output_embeddings().weight)  # type: ignore[operator]
        for name, parameter in own.items():
            path = name.replace("model.base_model.model.", "base_model.model.model.", 1)
            parameter.copy_(given[path])


def _next_tokens(tokens: torch.Tensor) -> torch.Tensor:
    last = torch.full_like(tokens[:, :1], -100)
    return torch.cat([tokens[:, 1:], last], dim=1)


def _draw_b(network: nn.Module) -> None:
    generator = None
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            generator = generator or torch.Generator(parameter.device).manual_seed(2)
            with torch.no_grad():
                parameter.normal_(std=_B_STD, generator=generator)
