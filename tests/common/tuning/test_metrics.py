"""Metrics equal scikit-learn's, and do not depend on how rows are shared out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from sklearn import metrics as reference

from common.backbones import load_backbone
from common.errors import TuningError
from common.tuning.batches import collate, encode
from common.tuning.datasets import Examples
from common.tuning.loop import LoopSettings, OneProcess
from common.tuning.metrics import Metric, choose_metric, evaluate
from common.tuning.objectives import TunedNetwork
from tests.tiny_bert import WORDS, make_tiny_bert

SETTINGS = LoopSettings(epochs=1, batch_size=5, learning_rate=1e-3)
ALONE = OneProcess(torch.device("cpu"))
TEXTS = tuple(" ".join(WORDS[i % 14 : i % 14 + 1 + i % 3]) for i in range(23))
EXAMPLES = {
    "classification": Examples(
        TEXTS, tuple(i % 3 for i in range(23)), "classification", ("a", "b", "c")
    ),
    "multi_label": Examples(
        TEXTS,
        tuple(tuple(k for k in range(3) if (i + k) % 2) for i in range(23)),
        "multi_label",
        ("a", "b", "c"),
    ),
    "regression": Examples(TEXTS, tuple(float(i % 7) for i in range(23)), "regression"),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "bert"))


def _network(bert, task):
    network = TunedNetwork(
        bert.model, task, hidden_size=16, n_outputs=1 if task == "regression" else 3, mean=2.0
    )
    with torch.no_grad():
        network.head.weight.mul_(50.0)  # so that predictions differ between rows
    return network


def _outputs(bert, network, task):
    encoded = encode(EXAMPLES[task], bert.tokenizer, max_tokens=32)
    batch = collate(encoded, range(23))
    with torch.no_grad():
        return encoded, network.eval().outputs(batch), batch.targets


def test_classification_metrics_are_scikit_learn_s(bert):
    network = _network(bert, "classification")
    encoded, outputs, targets = _outputs(bert, network, "classification")
    found = evaluate(network, encoded, SETTINGS, ranks=ALONE)
    predicted = outputs.argmax(1)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, predicted))
    f1 = reference.f1_score(targets, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(f1)
    loss = reference.log_loss(targets, outputs.double().softmax(1).numpy(), labels=[0, 1, 2])
    assert found["loss"] == pytest.approx(loss, rel=1e-5)


def test_multi_label_metrics_are_scikit_learn_s(bert):
    network = _network(bert, "multi_label")
    encoded, outputs, targets = _outputs(bert, network, "multi_label")
    found = evaluate(network, encoded, SETTINGS, ranks=ALONE)
    predicted, wanted = (outputs > 0).int().numpy(), targets.int().numpy()
    for average in ("micro", "macro"):
        expected = reference.f1_score(wanted, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["subset_accuracy"] == pytest.approx(reference.accuracy_score(wanted, predicted))


def test_regression_metrics_are_in_the_target_s_unit(bert):
    network = _network(bert, "regression")
    encoded, outputs, targets = _outputs(bert, network, "regression")
    found = evaluate(network, encoded, SETTINGS, ranks=ALONE)
    predicted = outputs[:, 0] + 2.0
    assert found["mse"] == pytest.approx(reference.mean_squared_error(targets, predicted), rel=1e-5)
    assert found["mae"] == pytest.approx(
        reference.mean_absolute_error(targets, predicted), rel=1e-5
    )


@dataclass(frozen=True)
class _Rank(OneProcess):
    """One of several ranks; `others` holds what they would send."""

    rank: int = 0
    world_size: int = 3
    others: tuple[list[float], ...] = ()

    def total(self, values):
        self.others[0].append(list(values))
        return [sum(column) for column in zip(*self.others[0], strict=True)]


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_ranks_together_find_what_one_finds(bert, task):
    """The last rank to report has the sum of all."""
    network = _network(bert, task)
    encoded, _, _ = _outputs(bert, network, task)
    alone = evaluate(network, encoded, SETTINGS, ranks=ALONE)
    sent: list[float] = []
    for rank in range(3):
        together = evaluate(
            network, encoded, SETTINGS, ranks=_Rank(torch.device("cpu"), rank, 3, (sent,))
        )
    assert together == pytest.approx(alone, rel=1e-5)


def test_the_network_stays_in_its_mode(bert):
    network = _network(bert, "classification").train()
    encoded = encode(EXAMPLES["classification"], bert.tokenizer, max_tokens=32)
    evaluate(network, encoded, SETTINGS, ranks=ALONE)
    assert network.training


def test_an_equal_metric_is_better_with_a_lower_loss():
    metric = Metric("accuracy", higher_is_better=True)
    best = {"accuracy": 0.5, "loss": 0.7}
    assert metric.improves({"accuracy": 0.5, "loss": 0.6}, best)
    assert not metric.improves({"accuracy": 0.5, "loss": 0.7}, best)
    assert not metric.improves({"accuracy": 0.4, "loss": 0.1}, best)
    assert metric.improves({"accuracy": 0.6, "loss": 0.9}, best)
    assert not metric.improves({"accuracy": float("nan"), "loss": 0.1}, None)
    assert Metric("mse", higher_is_better=False).improves({"mse": 1.0}, {"mse": 2.0})


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(TuningError, match="one of mse, mae, loss for regression"):
        choose_metric("regression", "accuracy")
    assert choose_metric("regression", None).name == "mse"
