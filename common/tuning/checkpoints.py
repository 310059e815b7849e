"""Checkpoints of a run: written whole or not at all, and refused for another run.

A checkpoint is a folder `step-<n>` with `weights.safetensors` (what is trained),
`optimizer.safetensors` (AdamW's moments) and `state.json` (where the run stands). It is
written beside its place, flushed to the disk and renamed; older ones are removed only
afterwards. A process killed at any moment therefore leaves the last whole checkpoint in
place. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import TuningError

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "EvaluationRecord",
    "RunState",
    "StepRecord",
    "load_trained",
    "optimizer_tensors",
    "restore_optimizer",
    "trained_tensors",
]

_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_WRITING = ".writing-"  # a name that no reader looks at
_FORMAT = 1


@dataclass(frozen=True)
class StepRecord:
    """One update.

    Args:
        step: Its number, from 1.
        loss: Mean loss of its global batch.
        learning_rate: With which it was made.
    """

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation.

    Args:
        step: How many updates had been made.
        metrics: Every metric of the task, by name.
    """

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunState:
    """Where a run stands, apart from its tensors.

    Args:
        step: Updates made.
        steps: All of them.
        evaluations: All of them.
        best: The best of them; None before the first.
        stale: Evaluations since then.
        stopped: Whether the run has ended, early or at its last step.
        n_tokens: Tokens read, padding apart.
        seconds: Time spent in steps, over all parts of the run.
        precision: In which it computes, so that it goes on in the same.
        compiled: Whether its blocks are compiled, likewise.
        device: Kind of device that this was chosen for.
    """

    step: int = 0
    steps: tuple[StepRecord, ...] = ()
    evaluations: tuple[EvaluationRecord, ...] = ()
    best: EvaluationRecord | None = None
    stale: int = 0
    stopped: bool = False
    n_tokens: int = 0
    seconds: float = 0.0
    precision: Literal["fp32", "bf16", "fp8"] = "fp32"
    compiled: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds.

    Args:
        state: Where the run stood.
        weights: Trained tensors by parameter name.
        optimizer: The optimiser's tensors, by parameter name and slot.
    """

    state: RunState
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run in one folder.

    Args:
        folder: Where they lie; made when the first is written.
        fingerprint: Of data, base and settings; a checkpoint with another is refused.
        keep: How many of the latest are kept, at least 1.
    """

    folder: Path
    fingerprint: str
    keep: int = 2

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint, then removes those that are no longer kept."""
        from safetensors.torch import save_file

        place = self.folder / f"step-{checkpoint.state.step:09d}"
        writing = self.folder / f"{_WRITING}{place.name}"
        _remove(writing)
        writing.mkdir(parents=True)
        save_file(checkpoint.weights, str(writing / _WEIGHTS))
        save_file(checkpoint.optimizer, str(writing / _OPTIMIZER))
        content = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "state": asdict(checkpoint.state),
        }
        (writing / _STATE).write_text(json.dumps(content) + "\n", encoding="utf-8")
        for name in (_WEIGHTS, _OPTIMIZER, _STATE):
            _flush(writing / name)
        _flush(writing)
        if place.exists():  # a run that went back to an earlier checkpoint comes by again
            _remove(self.folder / f"{_WRITING}old")
            place.rename(self.folder / f"{_WRITING}old")
        writing.rename(place)
        _flush(self.folder)
        self._prune()
        return place

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Writes the weights of the best evaluation so far, in one atomic rename."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        writing = self.folder / f"{_WRITING}best"
        save_file(dict(weights), str(writing))
        _flush(writing)
        writing.replace(self.folder / f"best-{step:09d}.safetensors")
        _flush(self.folder)

    def read_best(self, step: int) -> dict[str, Tensor]:
        """Reads what `save_best` wrote at that step."""
        return _read_tensors(self.folder / f"best-{step:09d}.safetensors")

    def list(self) -> list[Path]:
        """Returns the whole checkpoints, the latest last."""
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir())

    def latest(self) -> Checkpoint | None:
        """Reads the latest checkpoint; None where there is none.

        Raises:
            TuningError: It is damaged, or belongs to another run.
        """
        found = self.list()
        return self.read(found[-1]) if found else None

    def read(self, folder: Path) -> Checkpoint:
        """Reads the checkpoint in `folder`.

        Raises:
            TuningError: It is absent or damaged, or belongs to another run.
        """
        try:
            content = json.loads((folder / _STATE).read_bytes())
            fingerprint, state = content["fingerprint"], _read_state(content["state"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, type(error).__name__) from error
        if fingerprint != self.fingerprint:
            raise TuningError(
                "checkpoint",
                expected=f"one of this run (fingerprint {self.fingerprint[:12]}...)",
                found=f"one of other data, base or settings ({str(fingerprint)[:12]}...)",
                remedy="Resume with the data and settings that it was made with, or start anew "
                "in another folder.",
            )
        return Checkpoint(
            state, _read_tensors(folder / _WEIGHTS), _read_tensors(folder / _OPTIMIZER)
        )

    def _prune(self) -> None:
        for left in self.folder.glob(f"{_WRITING}*"):
            _remove(left)
        checkpoints = self.list()
        for folder in checkpoints[: -max(self.keep, 1)]:
            leaving = folder.rename(self.folder / f"{_WRITING}{folder.name}")
            _remove(leaving)  # killed here, what is left of it is no checkpoint any more
        named = {_best_step(folder) for folder in checkpoints[-max(self.keep, 1) :]}
        for best in self.folder.glob("best-*.safetensors"):
            if int(best.stem.removeprefix("best-")) not in named:
                best.unlink()


def trained_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the trained parameters, on the CPU, by name."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def load_trained(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Writes `weights` into the trained parameters of those names.

    Raises:
        TuningError: Names or shapes differ.
    """
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    shapes = {name: tuple(parameter.shape) for name, parameter in trained.items()}
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != shapes:
        raise TuningError(
            "checkpoint",
            expected=f"the {len(shapes)} tensors that this method trains",
            found=f"{len(weights)}, of other names or shapes",
            remedy="Resume with the settings that it was made with, or start anew.",
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])


def optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns copies of the optimiser's tensors, on the CPU, as `<parameter>|<slot>`."""
    return {
        f"{name}|{slot}": tensor.detach().to("cpu", copy=True).contiguous()
        for name, parameter in network.named_parameters()
        for slot, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Gives the optimiser back the tensors that `optimizer_tensors` returned."""
    parameters = dict(network.named_parameters())
    for key, tensor in tensors.items():
        name, slot = key.rsplit("|", 1)
        parameter = parameters[name]
        optimizer.state[parameter][slot] = tensor.to(parameter.device)


def _read_state(content: Mapping[str, Any]) -> RunState:
    return RunState(
        **{
            **content,
            "steps": tuple(StepRecord(**record) for record in content["steps"]),
            "evaluations": tuple(EvaluationRecord(**record) for record in content["evaluations"]),
            "best": EvaluationRecord(**content["best"]) if content["best"] else None,
        }
    )


def _best_step(folder: Path) -> int | None:
    try:
        best = json.loads((folder / _STATE).read_bytes())["state"]["best"]
        return int(best["step"]) if best else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise _damaged(path.parent, type(error).__name__) from error
    return tensors


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _damaged(folder: Path, found: str) -> TuningError:
    return TuningError(
        "checkpoint",
        expected=f"{_WEIGHTS}, {_OPTIMIZER} and {_STATE} that can be read in {folder.name}",
        found=found,
        remedy="Pass resume= an earlier step-* folder of this run, or start anew.",
    )
