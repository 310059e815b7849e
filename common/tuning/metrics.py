"""How well a network does on evaluation rows, from sums that add up over processes.

A metric of several processes is computed from their summed counts, never as a mean of
their metrics, so it does not depend on how the rows were shared out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import TuningError
from common.tuning.batches import Encoded, cut_step
from common.tuning.datasets import TaskKind
from common.tuning.loop import LoopSettings, Ranks
from common.tuning.objectives import TunedNetwork

__all__ = ["METRICS", "Metric", "choose_metric", "evaluate"]


@dataclass(frozen=True)
class Metric:
    """What early stopping watches.

    Args:
        name: A key of what `evaluate` returns.
        higher_is_better: Whether more of it is better.
    """

    name: str
    higher_is_better: bool

    def improves(self, metrics: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Returns whether `metrics` are better than the best so far.

        Where the metric is the same, as accuracy on few rows often is, the lower loss is
        better. A metric that is no number is never better.
        """
        value = metrics[self.name]
        if math.isnan(value):
            return False
        if best is None or value != best[self.name]:
            return best is None or (value > best[self.name]) == self.higher_is_better
        return metrics["loss"] < best["loss"]


# The first of each task is watched unless another is asked for.
METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "classification": (Metric("accuracy", True), Metric("macro_f1", True), Metric("loss", False)),
    "multi_label": (
        Metric("micro_f1", True),
        Metric("macro_f1", True),
        Metric("subset_accuracy", True),
        Metric("loss", False),
    ),
    "regression": (Metric("mse", False), Metric("mae", False), Metric("loss", False)),
    "causal_lm": (Metric("loss", False), Metric("perplexity", False)),
}


def choose_metric(task: TaskKind, name: str | None) -> Metric:
    """Returns the metric of that name, or the task's first.

    Raises:
        TuningError: The task has no such metric.
    """
    offered = METRICS[task]
    found = [metric for metric in offered if name in {None, metric.name}]
    if not found:
        raise TuningError(
            "metric",
            expected=f"one of {', '.join(metric.name for metric in offered)} for {task}",
            found="another one",
            remedy="Name one of these, or leave it out.",
        )
    return found[0]


def evaluate(
    network: TunedNetwork, encoded: Encoded, settings: LoopSettings, *, ranks: Ranks
) -> dict[str, float]:
    """Returns every metric of the task over `encoded`, and `loss`, the mean per count.

    The network is left in the mode it was in. Values of a regression are in the target's
    own unit; its loss is in standard deviations, squared.
    """
    was_training = network.training
    network.eval()
    tally = _TALLIES[network.task]
    sums: list[float] = []
    order = sorted(range(len(encoded)), key=encoded.n_tokens, reverse=True)
    with torch.no_grad():
        for start in range(0, len(order), settings.batch_size):
            for batch in cut_step(
                encoded,
                order[start : start + settings.batch_size],
                rank=ranks.rank,
                world_size=ranks.world_size,
                micro_batch_size=settings.micro_batch_size,
                packed=settings.packed,
                pad_to=settings.pad_to,
            ):
                if batch.blank:
                    continue
                placed = batch.to(ranks.device)
                if encoded.task == "causal_lm":
                    loss, counts = network(placed)[0], []
                else:
                    outputs = network.outputs(placed)
                    loss = network.row_loss(outputs, placed.targets)
                    counts = tally(network, outputs, placed.targets)
                new = [float(loss), float(batch.count), *counts]
                sums = [a + b for a, b in zip(sums or [0.0] * len(new), new, strict=True)]
    network.train(was_training)
    n_sums = 2 + _N_COUNTS[encoded.task](encoded.n_labels)
    total = ranks.total(sums or [0.0] * n_sums)
    return _FINISH[encoded.task](total[0] / total[1], total[1], total[2:])


def _hits(predicted: Tensor, wanted: Tensor) -> list[float]:
    """Counts true positives, false positives and false negatives of each label."""
    both = (predicted & wanted).sum(0)
    counts = torch.stack([both, predicted.sum(0) - both, wanted.sum(0) - both])
    return [float(count) for count in counts.flatten().tolist()]


def _tally_classes(_network: TunedNetwork, outputs: Tensor, targets: Tensor) -> list[float]:
    n_labels = outputs.shape[1]
    predicted = torch.nn.functional.one_hot(outputs.argmax(1), n_labels).bool()
    return _hits(predicted, torch.nn.functional.one_hot(targets, n_labels).bool())


def _tally_sets(_network: TunedNetwork, outputs: Tensor, targets: Tensor) -> list[float]:
    predicted, wanted = outputs > 0, targets > 0.5  # a probability above one half
    return [float((predicted == wanted).all(1).sum()), *_hits(predicted, wanted)]


def _tally_values(network: TunedNetwork, outputs: Tensor, targets: Tensor) -> list[float]:
    errors = (outputs.squeeze(1) * network.scale + network.mean - targets).double()
    return [float((errors**2).sum()), float(errors.abs().sum())]


def _finish_classes(loss: float, count: float, counts: Sequence[float]) -> dict[str, float]:
    hits, false, missed = _thirds(counts)
    return {
        "accuracy": sum(hits) / count,
        "macro_f1": _mean_f1(hits, false, missed),
        "loss": loss,
    }


def _finish_sets(loss: float, count: float, counts: Sequence[float]) -> dict[str, float]:
    hits, false, missed = _thirds(counts[1:])
    return {
        "micro_f1": _mean_f1([sum(hits)], [sum(false)], [sum(missed)]),
        "macro_f1": _mean_f1(hits, false, missed),
        "subset_accuracy": counts[0] / count,
        "loss": loss,
    }


def _finish_values(loss: float, count: float, counts: Sequence[float]) -> dict[str, float]:
    return {"mse": counts[0] / count, "mae": counts[1] / count, "loss": loss}


def _finish_tokens(loss: float, _count: float, _counts: Sequence[float]) -> dict[str, float]:
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}  # e^709 is the last float


def _thirds(counts: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
    n = len(counts) // 3
    return list(counts[:n]), list(counts[n : 2 * n]), list(counts[2 * n :])


def _mean_f1(hits: Sequence[float], false: Sequence[float], missed: Sequence[float]) -> float:
    """Averages F1 = 2 TP / (2 TP + FP + FN) over labels; 0 where a label never occurs."""
    scores = [
        2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
        for tp, fp, fn in zip(hits, false, missed, strict=True)
    ]
    return sum(scores) / len(scores)


_TALLIES: dict[TaskKind, Callable[[TunedNetwork, Tensor, Tensor], list[float]]] = {
    "classification": _tally_classes,
    "multi_label": _tally_sets,
    "regression": _tally_values,
    "causal_lm": lambda *_: [],
}
_N_COUNTS: dict[TaskKind, Callable[[int], int]] = {
    "classification": lambda n_labels: 3 * n_labels,
    "multi_label": lambda n_labels: 1 + 3 * n_labels,
    "regression": lambda _: 2,
    "causal_lm": lambda _: 0,
}
_FINISH: dict[TaskKind, Callable[[float, float, Sequence[float]], dict[str, float]]] = {
    "classification": _finish_classes,
    "multi_label": _finish_sets,
    "regression": _finish_values,
    "causal_lm": _finish_tokens,
}
