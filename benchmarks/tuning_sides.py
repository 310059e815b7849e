"""The sides of `tuning.methods`: a network tuned by one method, ready to step and to answer.

Ours is what the Trainer runs: `attach_new`, `TunedNetwork`, `build_optimizer`, `run_step`,
LoRA fused and, on a CPU, the frozen layers quickened. A "peft" side is the same
configuration as peft gives it, with torch's AdamW as it comes. "full" is plain torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.shapes import Shape, build_causal_lm, build_encoder, draw_tokens
from benchmarks.suite import Role
from benchmarks.tuning_runs import method_from
from common.adapters.anatomy import anatomy_of
from common.adapters.methods import LoRA, Method
from common.backbones import Backbone

__all__ = [
    "SIDES",
    "Base",
    "Side",
    "SideSpec",
    "Workload",
    "build_base",
    "build_side",
    "compile_side",
    "count_share",
    "merged",
]

_RATE = 1e-4
_CLIP_NORM = 1.0
_N_CLASSES = 3


@dataclass(frozen=True)
class SideSpec:
    """What a side is.

    Args:
        name: Its name in results.
        role: Ours, a peer's, the control's (full tuning) or the floor's (the base).
        settings: The method's settings by name, as in `tuning_runs.method_from`; none for
            the base.
        plain: Whether peft's own layers and torch's AdamW as it comes are used.
    """

    name: str
    role: Role
    settings: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False

    @property
    def method(self) -> Method | None:
        """The method, or None for the base."""
        return method_from(self.settings) if self.settings else None


_QV = {"kind": "lora", "rank": 8, "alpha": 16}
_ALL = {"kind": "lora", "rank": 16, "alpha": 32, "targets": "all-linear"}
_PREFIX_16 = {"kind": "prefix", "n_virtual_tokens": 16}
_PREFIX_32 = {"kind": "prefix", "n_virtual_tokens": 32}

SIDES = (
    SideSpec("base forward", "floor"),
    SideSpec("full", "control", {"kind": "full"}),
    SideSpec("lora q,v r8", "ours", _QV),
    SideSpec("lora all-linear r16", "ours", _ALL),
    SideSpec("prefix 16", "ours", _PREFIX_16),
    SideSpec("prefix 32", "ours", _PREFIX_32),
    SideSpec("prefix 16 zero gate", "ours", {**_PREFIX_16, "zero_gate": True}),
    SideSpec("bottleneck pfeiffer 64", "ours", {"kind": "bottleneck", "variant": "pfeiffer"}),
    SideSpec("bottleneck houlsby 64", "ours", {"kind": "bottleneck", "variant": "houlsby"}),
    SideSpec("bottleneck parallel 64", "ours", {"kind": "bottleneck", "variant": "parallel"}),
    SideSpec("peft lora q,v r8", "peer", _QV, plain=True),
    SideSpec("peft lora all-linear r16", "peer", _ALL, plain=True),
    SideSpec("peft prefix 16", "peer", _PREFIX_16, plain=True),
    SideSpec("peft prefix 32", "peer", _PREFIX_32, plain=True),
)


@dataclass(frozen=True)
class Workload:
    """A batch of `batch` rows of `length` tokens for a network of `shape`.

    Args:
        shape: The network; an encoder gets a classification head, a decoder its own.
        batch: Rows.
        length: Tokens of each.
        device: "cpu" or "cuda".
        compiled: Whether the blocks are compiled, one by one.
    """

    shape: Shape
    batch: int
    length: int
    device: str = "cpu"
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in results, as "bert-base 16x64"."""
        return f"{self.shape.name} {self.batch}x{self.length}{' compiled' * self.compiled}"

    @property
    def is_decoder(self) -> bool:
        """Whether the network is a language model."""
        return self.shape.family == "llama"


@dataclass(frozen=True)
class Base:
    """A base with random weights, and for a language model the weight of its head."""

    backbone: Backbone
    lm_head: Any = None


@dataclass(frozen=True)
class Side:
    """A network ready to step.

    Args:
        spec: What it is.
        network: The `TunedNetwork`.
        batch: What it reads.
        optimiser: Over its trained parameters; None for the base.
        n_trained: How many those are, the head left out.
    """

    spec: SideSpec
    network: Any
    batch: Any
    optimiser: Any
    n_trained: int

    def step(self) -> None:
        """Makes one update; the base has none and answers instead."""
        from common.tuning.loop import OneProcess, run_step

        if self.optimiser is None:
            self.answer()
            return
        run_step(
            self.network,
            self.optimiser,
            [self.batch],
            count=self.batch.count,
            learning_rate=_RATE,
            clip_norm=_CLIP_NORM,
            ranks=OneProcess(self.batch.input_ids.device),
        )

    def answer(self) -> None:
        """Takes the batch through base and adapter, in evaluation mode, without a gradient."""
        import torch

        self.network.eval()
        with torch.inference_mode():
            self.network.hidden_states(self.batch)
        self.network.train(self.optimiser is not None)


def build_base(workload: Workload) -> Base:
    """Returns the base on the workload's device: float32 on a CPU, bfloat16 on a GPU."""
    import torch

    shape, device = workload.shape, workload.device
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    lm_head = None
    if workload.is_decoder:
        network = build_causal_lm(shape, device=device, dtype=dtype).requires_grad_(False)
        model, lm_head = network.model, network.lm_head.weight
    else:
        model = build_encoder(shape, device=device, dtype=dtype).requires_grad_(False)
    hidden_size = int(shape.settings["hidden_size"])
    positions = int(shape.settings["max_position_embeddings"])
    backbone = Backbone(model, None, shape.name, "", positions, hidden_size)
    return Base(backbone, lm_head)


def build_side(spec: SideSpec, base: Base, workload: Workload) -> Side:
    """Attaches the side's method to the base, which stays as it is."""
    import torch

    from common.adapters.attach import attach_new, count_trained
    from common.tuning.loop import LoopSettings, build_optimizer

    backbone, n_trained = base.backbone, 0
    if spec.method is not None:
        adapter = attach_new(backbone, spec.method)
        backbone, n_trained = adapter.backbone, count_trained(adapter.backbone.model)
    network = _network(backbone, base, workload)
    if spec.role == "ours":
        _quicken(network, workload)
    if workload.compiled:
        _compile(network)
    optimiser = None
    if spec.method is not None:
        trained = [p for p in network.parameters() if p.requires_grad]
        settings = LoopSettings(epochs=1, batch_size=workload.batch, learning_rate=_RATE)
        plain = spec.plain or spec.role == "control"
        optimiser = (
            torch.optim.AdamW(trained, lr=_RATE) if plain else build_optimizer(network, settings)
        )
    return Side(spec, network.train(), _batch(workload), optimiser, n_trained)


def merged(side: Side, base: Base, workload: Workload) -> Side:
    """Returns the side with its adapter merged into the weights; LoRA only."""
    from common.adapters.attach import Adapter, merge_adapter

    method = side.spec.method
    assert isinstance(method, LoRA)  # noqa: S101  # asked for LoRA alone
    adapted = replace(base.backbone, model=side.network.model)
    whole = merge_adapter(Adapter(adapted, side.spec.name, "", side.n_trained, method))
    network = _network(whole, base, workload)
    if workload.compiled:
        _compile(network)
    return Side(side.spec, network.eval(), side.batch, None, 0)


def count_share(spec: SideSpec, base: Base) -> tuple[int, float]:
    """Returns the trained parameters, counted from the shape alone, and their share."""
    anatomy = anatomy_of(base.backbone)
    n = spec.method.count_parameters(anatomy) if spec.method else 0
    return n, n / anatomy.n_parameters


def _network(backbone: Backbone, base: Base, workload: Workload) -> Any:
    from common.tuning.objectives import TunedNetwork

    model, hidden_size = backbone.model, backbone.hidden_size
    if not workload.is_decoder:
        network = TunedNetwork(
            model, "classification", hidden_size=hidden_size, n_outputs=_N_CLASSES
        )
        return network.to(workload.device)
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    lm_head = model.get_input_embeddings().weight if tied else base.lm_head
    return TunedNetwork(model, "causal_lm", hidden_size=hidden_size, lm_head=lm_head)


def _quicken(network: Any, workload: Workload) -> None:
    """Does what the Trainer does to a network with an adapter before it steps."""
    from common.tuning.precision import PrecisionChoice, apply_precision

    name: Any = "fp32" if workload.device == "cpu" else "bf16"
    apply_precision(network, PrecisionChoice(name, False, ""))


def compile_side(side: Side) -> None:
    """Compiles the blocks of a side's network, one by one, in place."""
    _compile(side.network)


def _compile(network: Any) -> None:
    import torch._dynamo.config as dynamo_config

    from common.tuning.blocks import repeated_blocks

    # blocks share their code, and every side has a compiled form of its own
    dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, 128)
    for block in repeated_blocks(network.model):
        block.compile()


def _batch(workload: Workload) -> Any:
    import torch

    from common.tuning.batches import Batch

    n, length = workload.batch, workload.length
    ids = draw_tokens(workload.shape, batch=n, length=length, device=workload.device)
    targets = torch.arange(n, device=workload.device) % _N_CLASSES
    mask: Any = torch.ones_like(ids)
    count = n
    if workload.is_decoder:
        targets = torch.roll(ids, -1, dims=1)
        targets[:, -1] = -100  # the last token has none after it
        mask, count = None, n * (length - 1)
    return Batch(
        input_ids=ids,
        attention_mask=mask,
        position_ids=None,
        owners=torch.arange(n, device=workload.device),
        targets=targets,
        n_rows=n,
        n_tokens=n * length,
        count=count,
    )
