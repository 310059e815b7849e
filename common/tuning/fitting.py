"""The work of one process of a run: build the network, choose its precision, train it."""

from __future__ import annotations

import json
import logging
import resource
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.adapters.attach import Adapter, attach_new
from common.adapters.heads import Head
from common.adapters.methods import Method
from common.backbones import Backbone, load_backbone
from common.errors import TuningError
from common.tuning.assembly import (
    build_network,
    checkpoint_blocks,
    longest_input,
    place_network,
)
from common.tuning.batches import Encoded, collate, encode
from common.tuning.checkpoints import (
    Checkpoint,
    CheckpointStore,
    RunState,
    load_trained,
    trained_tensors,
)
from common.tuning.datasets import Examples
from common.tuning.loop import LoopSettings, Ranks
from common.tuning.metrics import choose_metric
from common.tuning.objectives import TunedNetwork
from common.tuning.precision import PrecisionChoice, apply_precision, choose_precision
from common.tuning.progress import show_training
from common.tuning.recipe import Recipe, default_learning_rate
from common.tuning.run import Cadence, RunData, run_training
from common.tuning.tuned import TunedModel

__all__ = ["Job", "Outcome", "finish", "fit_job"]

_LOGGER = logging.getLogger(__name__)
_GPU_MULTIPLE = 16  # matrix units want every dimension divisible by 16 (FP8) or 8 (bf16)


@dataclass(frozen=True)
class Job:
    """Everything a process needs to do its part; it can be pickled.

    Args:
        model: Name, folder or hub id of the base, or the base itself.
        method: What to train.
        recipe: All settings.
        examples: Training rows.
        evaluation: Evaluation rows, if any.
        epochs: Passes over the training rows.
        checkpoints: Folder of the checkpoints, if any are to be written.
        resume: "auto" for the latest checkpoint if there is one, or the folder of one.
    """

    model: str | Path | Backbone
    method: Method
    recipe: Recipe
    examples: Examples
    evaluation: Examples | None
    epochs: int
    checkpoints: Path | None = None
    resume: Literal["auto"] | Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a process brings back; it can be pickled.

    Args:
        state: Where the run ended.
        weights: The trained tensors by parameter name, on the CPU.
        precision: The precision and why.
        peak_memory_bytes: Largest memory of this process's device: what torch allocated on
            a GPU, resident memory of the whole process on a CPU.
        n_trained: Parameters trained, head included.
        n_parameters: All parameters of base, adapter and head.
        world_size: How many processes shared the run.
        rank: Which of them this is.
    """

    state: RunState
    weights: dict[str, Tensor]
    precision: PrecisionChoice
    peak_memory_bytes: int
    n_trained: int
    n_parameters: int
    world_size: int
    rank: int


def fit_job(job: Job, ranks: Ranks) -> Outcome:
    """Trains on this process, as one of `ranks`.

    Torch's random generators are left as they were.

    Raises:
        TuningError: The device has no memory left, the loss is no longer finite, or a
            checkpoint cannot be used.
        AdapterError: The base cannot take the method.
        TableError: A text is too long and the policy is to refuse.
    """
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            return _fit(job, ranks)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(job, ranks) from error


def finish(backbone: Backbone, job: Job, outcome: Outcome) -> TunedModel:
    """Returns the tuned model: the trained tensors on the caller's own base, on the CPU.

    A regression's mean and scale go into its head, which then gives values in their unit.
    """
    adapter = attach_new(backbone, job.method, seed=job.recipe.seed)
    network = build_network(adapter, job.examples, seed=job.recipe.seed)
    load_trained(network, outcome.weights)
    network.eval().requires_grad_(False)
    weight = torch.zeros((0, backbone.hidden_size))
    bias = torch.zeros(0)
    if network.head is not None:
        weight = network.head.weight * network.scale
        bias = network.head.bias * network.scale + network.mean
    head = Head(
        task=job.examples.task,
        weight=weight.numpy(),
        bias=bias.numpy(),
        labels=job.examples.labels,
        max_tokens=longest_input(adapter, job.recipe.max_tokens),
        too_long=job.recipe.too_long,
    )
    return TunedModel(replace(adapter, name="tuned"), head)


def _fit(job: Job, ranks: Ranks) -> Outcome:
    recipe = job.recipe
    backbone = job.model if isinstance(job.model, Backbone) else load_backbone(job.model)
    settings = _loop_settings(job, ranks)
    adapter = attach_new(backbone, job.method, seed=recipe.seed)
    data = _encode(job, adapter)
    store = _store(job, backbone)
    start = _start(job, store)
    _require_same_start(start, ranks)
    network = build_network(adapter, job.examples, seed=recipe.seed)
    n_trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    n_parameters = sum(p.numel() for p in network.parameters())
    place_network(network, backbone, ranks.device)
    if recipe.gradient_checkpointing:
        checkpoint_blocks(network)
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ranks.device)
    choice = _precision(job, network, data.train, settings, ranks=ranks, start=start)
    apply_precision(network, choice)
    total_steps = job.epochs * -(-len(data.train) // recipe.batch_size)
    with show_training(total_steps, rank=ranks.rank) as display:
        state = run_training(
            network,
            data,
            settings,
            cadence=Cadence(
                metric=choose_metric(job.examples.task, recipe.metric),
                patience=recipe.patience,
                evaluate_every=recipe.evaluate_every,
                checkpoint_every=recipe.checkpoint_every,
                store=store,
            ),
            ranks=ranks,
            start=start,
            display=display,
            began=RunState(
                precision=choice.name, compiled=choice.compiled, device=ranks.device.type
            ),
        )
    return Outcome(
        state=state,
        weights=trained_tensors(network),
        precision=choice,
        peak_memory_bytes=_peak_memory_bytes(ranks.device),
        n_trained=n_trained,
        n_parameters=n_parameters,
        world_size=ranks.world_size,
        rank=ranks.rank,
    )


def _loop_settings(job: Job, ranks: Ranks) -> LoopSettings:
    recipe, task = job.recipe, job.examples.task
    packed = recipe.packed
    if packed is None:
        packed = task == "causal_lm" and job.method.kind != "prefix"
    if packed and (task != "causal_lm" or job.method.kind == "prefix"):
        raise TuningError(
            "packing",
            expected="a language model, tuned by a method without a prefix",
            found=f"{task} with {job.method.kind}",
            remedy="Leave packed= out: batches are then padded to texts of similar length.",
        )
    return LoopSettings(
        epochs=job.epochs,
        batch_size=recipe.batch_size,
        micro_batch_size=recipe.micro_batch_size,
        learning_rate=recipe.learning_rate or default_learning_rate(job.method, task),
        schedule=recipe.schedule,
        warmup_share=recipe.warmup_share,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        seed=recipe.seed,
        packed=packed,
        pad_to=_GPU_MULTIPLE if ranks.device.type == "cuda" else 1,
    )


def _encode(job: Job, adapter: Adapter) -> RunData:
    def encoded(examples: Examples) -> Encoded:
        return encode(
            examples,
            adapter.backbone.tokenizer,
            max_tokens=longest_input(adapter, job.recipe.max_tokens),
            too_long=job.recipe.too_long,
        )

    evaluation = job.evaluation
    return RunData(encoded(job.examples), None if evaluation is None else encoded(evaluation))


def _store(job: Job, backbone: Backbone) -> CheckpointStore | None:
    if job.checkpoints is None:
        return None
    data = [examples for examples in (job.examples, job.evaluation) if examples is not None]
    pieces = (backbone.digest, *(examples.fingerprint for examples in data))
    fingerprint = job.recipe.fingerprint(job.method, epochs=job.epochs, pieces=pieces)
    return CheckpointStore(job.checkpoints, fingerprint, job.recipe.keep_checkpoints)


def _start(job: Job, store: CheckpointStore | None) -> Checkpoint | None:
    """Returns the checkpoint to go on from."""
    if job.resume is None or store is None:
        if store is not None and store.list():
            raise TuningError(
                "training",
                expected="a folder without checkpoints, or resume=",
                found=f"{len(store.list())} checkpoints of an earlier run",
                remedy='Pass resume="auto" to go on from the latest, or another out=.',
            )
        return None
    start = store.latest() if job.resume == "auto" else store.read(job.resume)
    if start is None:
        _LOGGER.info("no checkpoint to resume from: starting anew")
    else:
        _LOGGER.info("going on from the checkpoint after step %d", start.state.step)
    return start


def _require_same_start(start: Checkpoint | None, ranks: Ranks) -> None:
    """Refuses ranks that go on from different steps, as machines without a shared folder do."""
    step = str(start.state.step) if start else "none"
    if ranks.total([float(ranks.agree(step) != step)])[0]:
        raise TuningError(
            "checkpoint",
            expected="the same one on every process",
            found=f"step {step} on rank {ranks.rank}, another elsewhere",
            remedy="Put out= on a file system that all machines share, or copy its checkpoints.",
        )


def _precision(
    job: Job,
    network: TunedNetwork,
    encoded: Encoded,
    settings: LoopSettings,
    *,
    ranks: Ranks,
    start: Checkpoint | None,
) -> PrecisionChoice:
    """Chooses on the first process, for all; a resumed run goes on as it began."""
    if start is not None and start.state.device == ranks.device.type:
        return PrecisionChoice(
            name=start.state.precision,
            compiled=start.state.compiled,
            reason=f"{start.state.precision}: the run began in it.",
        )
    text = ""
    if ranks.rank == 0:
        share = -(-settings.batch_size // ranks.world_size)
        n_rows = min(settings.micro_batch_size or share, share, len(encoded))
        longest = sorted(range(len(encoded)), key=encoded.n_tokens)[-n_rows:]
        batch = collate(encoded, longest, packed=settings.packed, pad_to=settings.pad_to)
        choice = choose_precision(
            job.recipe.precision,
            network=network,
            batch=batch.to(ranks.device),
            device=ranks.device,
            method=job.method,
        )
        text = json.dumps(asdict(choice))
    return PrecisionChoice(**json.loads(ranks.agree(text)))


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _out_of_memory(job: Job, ranks: Ranks) -> TuningError:
    recipe = job.recipe
    figures = "the CPU's memory"
    if ranks.device.type == "cuda":
        total = torch.cuda.get_device_properties(ranks.device).total_memory
        peak = torch.cuda.max_memory_allocated(ranks.device)
        figures = f"{peak / 2**30:.1f} of {total / 2**30:.1f} GiB in use"
    rows = recipe.micro_batch_size or -(-recipe.batch_size // ranks.world_size)
    ways = [f"micro_batch_size={max(rows // 2, 1)} (the same result, in more passes)"]
    if not recipe.gradient_checkpointing:
        ways.append("gradient_checkpointing=True")
    if recipe.precision == "fp32":
        ways.append('precision="bf16"')
    if job.method.kind == "full":
        ways.append("method=LoRA()")
    return TuningError(
        "memory",
        expected="room for a step on the device",
        found=f"{figures} with {rows} rows in a pass, method {job.method.kind}, precision "
        f"{recipe.precision}, gradient_checkpointing={recipe.gradient_checkpointing}",
        remedy=f"Pass {' or '.join(ways)}; shorter texts (max_tokens=) help too.",
    )
