"""Training runs of one method on so many labelled texts: choose a learning rate, then score.

A cell is a task, a method and a number of training rows. In a cell every learning rate of
the method is tried with the first seed and the one with the best accuracy on the
development rows is kept; then the other seeds run with it. The test rows are predicted
once for each seed, after that choice. Batch, steps, schedule, head and its learning rate
are the same for every method.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.text_floors import FLOORS, floor_predictions
from benchmarks.token_rows import TokenRows, TokenSplit, batch_of, drawn_rows
from common.adapters.methods import Bottleneck, Full, LoRA, Method, Prefix

__all__ = [
    "Cell",
    "CellResult",
    "Protocol",
    "method_from",
    "read_protocol",
    "run_cell",
]

Ints = npt.NDArray[np.int64]
_METHODS: dict[str, type[Any]] = {
    "bottleneck": Bottleneck,
    "full": Full,
    "lora": LoRA,
    "prefix": Prefix,
}
_CLIP_NORM = 1.0
_CONTROL_SEED = 77  # of the draw that shuffles a control's labels


@dataclass(frozen=True)
class Protocol:
    """How every cell is run; the file in `benchmarks/configs` names each value.

    Args:
        sizes: Numbers of training rows; None stands for all.
        seeds: Seeds of the draw of rows, the initial values and the order of batches.
        learning_rates: The choices of each method: as many for one as for another.
        methods: The settings of each method.
        head_learning_rate: Of the linear head, for every method.
        batch_size: Rows in a batch.
        epochs: Passes over the training rows, if they come to `min_steps` at least.
        min_steps: Fewest optimiser steps.
        warmup_share: Share of the steps in which the rate rises; then it falls to zero.
        weight_decay: AdamW's, for every method.
        control_size: Training rows of the runs with shuffled labels.
        workers: Processes at a time, by device.
    """

    sizes: tuple[int | None, ...]
    seeds: tuple[int, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    methods: Mapping[str, Mapping[str, Any]]
    head_learning_rate: float
    batch_size: int
    epochs: int
    min_steps: int
    warmup_share: float
    weight_decay: float
    control_size: int
    workers: Mapping[str, int]

    def steps(self, n_train: int) -> int:
        """Returns how many optimiser steps a run on so many rows takes."""
        return max(self.min_steps, -(-self.epochs * n_train // self.batch_size))


@dataclass(frozen=True)
class Cell:
    """One task, one method or floor, so many rows; `shuffled` labels make it a control."""

    task: str
    method: str
    n_train: int
    shuffled: bool = False


@dataclass(frozen=True)
class CellResult:
    """What a cell gave.

    Args:
        cell: The cell.
        learning_rate: The one chosen; None for a floor.
        tried: Accuracy on the development rows of each learning rate, first seed.
        dev_accuracy: With the chosen rate, of each seed.
        predictions: Classes of each seed's test rows.
        seconds: Time of all its runs together.
    """

    cell: Cell
    learning_rate: float | None
    tried: tuple[float, ...]
    dev_accuracy: tuple[float, ...]
    predictions: tuple[Ints, ...]
    seconds: float


def read_protocol(path: Path, *, quick: bool) -> Protocol:
    """Reads the protocol; `quick` takes two small sizes and few steps, for a look."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["learning_rates"] = {k: tuple(v) for k, v in fields["learning_rates"].items()}
    fields |= {name: tuple(fields[name]) for name in ("sizes", "seeds")}
    if quick:
        fields |= {"sizes": (16, 48), "seeds": (0, 1), "epochs": 1, "min_steps": 4}
        fields |= {"batch_size": 8, "control_size": 48}
    return Protocol(**fields)


def method_from(settings: Mapping[str, Any]) -> Method:
    """Returns the method that `settings` names by its kind."""
    rest = {name: value for name, value in settings.items() if name != "kind"}
    method: Method = _METHODS[settings["kind"]](**rest)
    return method


def run_cell(
    cell: Cell, splits: tuple[TokenSplit, ...], backbone: Any, protocol: Protocol, device: str
) -> CellResult:
    """Runs a cell on `device`.

    Args:
        cell: The cell.
        splits: Its task's splits.
        backbone: The base, left as it is.
        protocol: The budget.
        device: "cpu" or "cuda".
    """
    start = time.perf_counter()
    if cell.method in FLOORS:
        classes = floor_predictions(
            cell.method,
            splits,
            backbone,
            n_train=cell.n_train,
            seeds=protocol.seeds,
            device=device,
        )
        return CellResult(cell, None, (), (), classes, time.perf_counter() - start)
    first, *others = protocol.seeds
    runs = [
        _Run(cell, splits, backbone, protocol, device, seed=first, learning_rate=rate)
        for rate in protocol.learning_rates[cell.method]
    ]
    best, tried = None, []
    for run in runs:
        network = run.train()
        tried.append(run.dev_accuracy(network))
        if best is None or tried[-1] > best[1]:
            best = (run, tried[-1], network)
    assert best is not None  # noqa: S101  # every method has learning rates
    chosen, accuracy, network = best
    dev, predictions = [accuracy], [chosen.test_predictions(network)]
    for seed in others:
        run = _Run(
            cell, splits, backbone, protocol, device, seed=seed, learning_rate=chosen.learning_rate
        )
        network = run.train()
        dev.append(run.dev_accuracy(network))
        predictions.append(run.test_predictions(network))
    return CellResult(
        cell,
        chosen.learning_rate,
        tuple(tried),
        tuple(dev),
        tuple(predictions),
        time.perf_counter() - start,
    )


@dataclass(frozen=True)
class _Run:
    cell: Cell
    splits: tuple[TokenSplit, ...]
    backbone: Any
    protocol: Protocol
    device: str
    seed: int
    learning_rate: float

    @property
    def split(self) -> TokenSplit:
        return self.splits[self.seed % len(self.splits)]

    def train(self) -> Any:
        """Returns the trained network."""
        import torch

        torch.manual_seed(self.seed)
        rows, labels = self._training_rows()
        train = TokenRows(self.split.train.ids, self.split.train.lengths, labels)
        network = self._network()
        optimiser, schedule = self._optimiser(network, self.protocol.steps(len(rows)))
        network.train()
        for batch in self._batches(rows):
            loss, count = network(batch_of(train, batch, self.device))
            (loss / count).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
        return network.eval()

    def dev_accuracy(self, network: Any) -> float:
        """Returns the share of development rows that are right."""
        dev = self.split.dev
        return float((self._predict(network, dev) == dev.labels).mean())

    def test_predictions(self, network: Any) -> Ints:
        """Returns the class of each test row."""
        return self._predict(network, self.split.test)

    def _training_rows(self) -> tuple[Ints, Ints]:
        """Returns the rows drawn (smaller draws are part of larger ones) and all labels."""
        labels = self.split.train.labels.copy()
        rows = drawn_rows(self.split.train, self.cell.n_train, self.seed)
        if self.cell.shuffled:
            labels[rows] = labels[np.random.default_rng(_CONTROL_SEED).permutation(rows)]
        return rows, labels

    def _batches(self, rows: Ints) -> Iterator[Ints]:
        random = np.random.default_rng(self.seed)
        size, left = self.protocol.batch_size, self.protocol.steps(len(rows))
        while left > 0:
            order = random.permutation(rows)
            for start in range(0, min(len(order), left * size), size):
                yield order[start : start + size]
                left -= 1

    def _network(self) -> Any:
        from common.adapters.attach import attach_new
        from common.tuning.objectives import TunedNetwork

        method = method_from(self.protocol.methods[self.cell.method])
        adapter = attach_new(self.backbone, method, seed=self.seed)
        n_classes = 1 + max(
            int(part.labels.max())
            for split in self.splits
            for part in (split.train, split.dev, split.test)
        )
        return TunedNetwork(
            adapter.backbone.model,
            "classification",
            hidden_size=self.backbone.hidden_size,
            n_outputs=n_classes,
            seed=self.seed,
        ).to(self.device)

    def _optimiser(self, network: Any, steps: int) -> tuple[Any, Any]:
        """Returns AdamW and a schedule that rises, then falls to zero, in straight lines."""
        import torch

        rise = max(1, round(self.protocol.warmup_share * steps))
        tuned = [p for p in network.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            [
                {"params": tuned, "lr": self.learning_rate},
                {"params": network.head.parameters(), "lr": self.protocol.head_learning_rate},
            ],
            weight_decay=self.protocol.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda t: min((t + 1) / rise, (steps - t) / max(1, steps - rise))
        )
        return optimiser, schedule

    def _predict(self, network: Any, part: TokenRows) -> Ints:
        import torch

        order = np.argsort(part.lengths, kind="stable")
        classes = np.empty(len(order), dtype=np.int64)
        with torch.inference_mode():
            for start in range(0, len(order), 128):
                rows = order[start : start + 128]
                outputs = network.outputs(batch_of(part, rows, self.device))
                classes[rows] = outputs.argmax(-1).cpu().numpy()
        return classes
