"""The Trainer learns every task with every method, says what it did, and leaves the base alone."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError
from random import Random

import pandas as pd
import pytest
import torch

from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import TableError, TuningError
from common.tuning import Trainer
from common.tuning.tuned import load_tuned
from tests.tiny_bert import WORDS, make_tiny_bert
from tests.tiny_models import make_tiny

METHODS = [LoRA(rank=4, targets="all-linear"), Prefix(4), Bottleneck(8), Full()]
KINDS = [method.kind for method in METHODS]


def _texts(n):
    draw = Random(0)
    return [" ".join(draw.choices(WORDS, k=2 + i % 5)) for i in range(n)]


TEXTS = _texts(24)
CLASSES = [{"text": t, "label": "bad" if "risk" in t or "loss" in t else "good"} for t in TEXTS]
SETS = [{"text": t, "label": [w for w in ("risk", "loss", "growth") if w in t]} for t in TEXTS]
VALUES = [{"text": t, "label": 100.0 + 10.0 * t.count("s") + 0.5} for t in TEXTS]
PLAIN = [{"text": t} for t in TEXTS]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_backbone(make_tiny("llama", tmp_path_factory.mktemp("models") / "llama"))


def _trainer(model, **settings):
    defaults = {"precision": "fp32", "device": "cpu", "batch_size": 8, "learning_rate": 1e-2}
    return Trainer(model, **{**defaults, **settings})


@pytest.mark.parametrize("method", METHODS, ids=KINDS)
def test_every_method_learns_and_reloads_as_it_was(bert, tmp_path, method):
    """The loss falls, the saved folder predicts the same, and the base is unchanged."""
    before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
    trainer = _trainer(bert, method=method)
    report = trainer.fit(CLASSES, epochs=6, out=tmp_path / "out")
    assert report.method == method
    assert report.history[-1].loss < report.history[0].loss
    assert all(torch.equal(t, before[n]) for n, t in bert.model.state_dict().items())
    assert not any(p.requires_grad for p in bert.model.parameters())
    predicted = trainer.predict(TEXTS)
    again = load_tuned(tmp_path / "out", model=bert).predict(TEXTS)
    assert [r.values for r in predicted] == [r.values for r in again]
    assert set(predicted[0].values) == {"label", "probability", "probabilities"}
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.mark.parametrize("method", METHODS, ids=KINDS)
def test_every_method_tunes_a_language_model(llama, tmp_path, method):
    trainer = _trainer(llama, method=method)
    report = trainer.fit(PLAIN, epochs=4, eval_dataset=PLAIN[:6], out=tmp_path / "out")
    assert report.task == "causal_lm"
    assert report.evaluations[-1].metrics["loss"] < report.history[0].loss
    (first, *_), (again, *_) = (
        model.predict(TEXTS[:3]) for model in (trainer, load_tuned(tmp_path / "out", model=llama))
    )
    assert first.values == again.values
    assert first.values["loss"] > 0


def test_label_sets_are_learned(bert):
    trainer = _trainer(bert, method=Full())
    report = trainer.fit(SETS, epochs=40, eval_dataset=SETS)
    assert report.task == "multi_label"
    assert report.metric == "micro_f1"
    assert report.best_value > 0.9
    values = trainer.predict(TEXTS[:2])[0].values
    assert set(values["probabilities"]) == {"risk", "loss", "growth"}
    assert isinstance(values["labels"], list)


def test_values_come_in_their_own_unit(bert):
    """Targets near 100 with a spread of some 10: standardised inside, undone in the head."""
    trainer = _trainer(bert, method=Full())
    report = trainer.fit(VALUES, epochs=30, eval_dataset=VALUES)
    targets = torch.tensor([row["label"] for row in VALUES])
    scores = torch.tensor([r.values["score"] for r in trainer.predict(TEXTS)])
    mse = float(((scores - targets) ** 2).mean())
    assert mse == pytest.approx(report.best_value, rel=1e-3, abs=1e-3)
    assert mse < 0.5 * float(targets.var())


@pytest.mark.parametrize(
    "method",
    [LoRA(rank=2, dropout=0.1), Bottleneck(4), Prefix(4), Prefix(4, zero_gate=True), Full()],
)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradient_checkpointing_changes_nothing(request, family, method):
    """Blocks are computed twice, with the same dropout: the same losses."""
    backbone = request.getfixturevalue(family)
    rows = CLASSES if family == "bert" else PLAIN
    losses = [
        [
            r.loss
            for r in _trainer(backbone, method=method, gradient_checkpointing=on).fit(rows).history
        ]
        for on in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


def test_gradient_checkpointing_recomputes_the_blocks(bert, monkeypatch):
    """Twice the forward passes of a block, or it would be on in name only."""
    from transformers.models.bert.modeling_bert import BertIntermediate

    counts = []
    for on in (False, True):
        calls = []
        original = BertIntermediate.forward

        def count(self, hidden, original=original, calls=calls):
            calls.append(1)
            return original(self, hidden)

        with monkeypatch.context() as patch:
            patch.setattr(BertIntermediate, "forward", count)
            trainer = _trainer(bert, method=LoRA(), gradient_checkpointing=on, batch_size=24)
            trainer.fit(CLASSES, epochs=1)
        counts.append(len(calls))
    assert counts[1] == 2 * counts[0]


def test_a_long_text_is_refused_or_read_in_windows(bert):
    """A prefix leaves fewer positions; nothing is cut."""
    rows = [*CLASSES, {"text": "debt " * 27, "label": "good"}]
    _trainer(bert, method=LoRA()).fit(rows, epochs=1)
    with pytest.raises(TableError, match=r"at most 28 tokens.* up to 29 tokens in row 24"):
        _trainer(bert, method=Prefix(4)).fit(rows, epochs=1)
    trainer = _trainer(bert, method=Prefix(4), too_long="chunk")
    trainer.fit(rows, epochs=1)
    whole, halves = trainer.predict(["debt " * 90, "debt " * 26])
    assert whole.values["label"] in {"good", "bad"}
    assert halves.values["label"] in {"good", "bad"}


def test_the_article_s_call_runs_on_a_plain_machine(bert, caplog):
    """FP8 falls back with a logged reason; ddp with one device is one process and says so."""
    caplog.set_level(logging.INFO, logger="common")
    trainer = Trainer(
        bert,
        method=LoRA(),
        precision="fp8",
        gradient_checkpointing=True,
        distributed_strategy="ddp",
        device="cpu",
    )
    report = trainer.fit(CLASSES, epochs=3)
    assert report.precision in {"fp32", "bf16"}
    assert any(f"Precision {report.precision} instead of fp8" in note for note in report.notes)
    assert any("one process" in note for note in report.notes)
    assert "instead of fp8" in caplog.text
    assert report.n_processes == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS, ids=KINDS)
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_gpu_trains_and_the_outcome_predicts_on_the_cpu(bert, tmp_path, method, precision):
    trainer = _trainer(bert, method=method, precision=precision, device="cuda")
    report = trainer.fit(CLASSES, epochs=6, eval_dataset=CLASSES, out=tmp_path / "out")
    assert report.history[-1].loss < report.history[0].loss
    assert {p.device.type for p in bert.model.parameters()} == {"cpu"}
    right = [
        r.values["label"] == row["label"]
        for r, row in zip(trainer.predict(TEXTS), CLASSES, strict=True)
    ]
    assert sum(right) / len(right) == pytest.approx(
        report.evaluations[-1].metrics["accuracy"], abs=0.5
    )
    again = trainer.fit(
        CLASSES, epochs=6, eval_dataset=CLASSES, out=tmp_path / "out", resume="auto"
    )
    assert again.history == report.history


def test_auto_asks_the_advisor(bert):
    report = Trainer(bert, precision="fp32", device="cpu").fit(CLASSES, epochs=1)
    assert report.method.kind in KINDS
    assert report.method_reason != "as asked for"


def test_the_report_tells_what_was_done(bert):
    report = _trainer(bert, method=LoRA(rank=2)).fit(pd.DataFrame(CLASSES), epochs=2)
    assert report.steps == len(report.history) == 6
    assert report.n_trained == 256 + 2 * 16 + 2
    assert report.n_parameters > report.n_trained
    assert report.tokens_per_s > 0
    assert report.peak_memory_bytes > 1 << 20
    assert report.best_value is None
    assert report.precision == "fp32"
    assert report.precision_reason
    with pytest.raises(FrozenInstanceError):
        report.steps = 7


def test_a_run_leaves_torch_s_generator_alone(bert):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _trainer(bert, method=LoRA(dropout=0.1)).fit(CLASSES, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_learning_rates_follow_the_method(bert):
    rates = {
        method.kind: Trainer(bert, method=method, precision="fp32", device="cpu")
        .fit(CLASSES, epochs=1)
        .learning_rate
        for method in METHODS
    }
    assert rates["lora"] == pytest.approx(10 * rates["full"])
    assert rates["full"] < rates["bottleneck"] < rates["prefix"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"precision": "int4"}, "precision"),
        ({"distributed_strategy": "fsdp"}, "distributed_strategy"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"too_long": "cut"}, "too_long"),
        ({"task": "ranking"}, "task"),
        ({"warmup_share": 1.0}, "warmup_share"),
        ({"schedule": "step"}, "schedule"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_unusable_settings_are_refused_at_once(settings, named):
    with pytest.raises(TuningError, match=f"^{named}: expected"):
        Trainer("minilm", **settings)


def test_a_metric_of_another_task_is_refused(bert):
    with pytest.raises(TuningError, match="one of accuracy, macro_f1, loss for classification"):
        _trainer(bert, method=LoRA(), metric="mse").fit(CLASSES)


def test_packing_is_for_language_models(bert):
    with pytest.raises(TuningError, match="a language model, tuned by a method without a prefix"):
        _trainer(bert, method=LoRA(), packed=True).fit(CLASSES)


def test_an_encoder_is_no_language_model(bert):
    from common.errors import BackboneError

    with pytest.raises(BackboneError, match="a decoder"):
        _trainer(bert, method=LoRA()).fit(PLAIN)


def test_predicting_needs_a_fit(bert):
    with pytest.raises(TuningError, match="a tuned model"):
        _trainer(bert, method=LoRA()).predict(["debt"])


def test_resuming_needs_a_folder(bert):
    with pytest.raises(TuningError, match="no out="):
        _trainer(bert, method=LoRA()).fit(CLASSES, resume="auto")


def test_ranks_of_torchrun_are_not_left_to_train_the_same_run_apart(bert, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TuningError, match='"ddp"'):
        _trainer(bert, method=LoRA()).fit(CLASSES)
