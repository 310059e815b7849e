"""A run killed anywhere and resumed ends with the very bits of an uninterrupted one."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.adapters.methods import LoRA
from common.errors import TuningError
from common.tuning import Trainer, run
from tests.common.tuning.killed_run import fit, make_rows, make_trainer
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import make_tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    make_tiny_bert(place / "base")
    return place


@pytest.fixture(scope="module")
def whole(folder):
    """The uninterrupted run of each method, made when it is first asked for."""
    made = {}

    def weights(method):
        if method not in made:
            fit(folder, method, f"whole-{method}")
            made[method] = _weights(folder / f"whole-{method}")
        return made[method]

    return weights


def _weights(place):
    return {
        f"{path.name}/{name}": tensor
        for path in sorted(place.glob("*.safetensors"))
        for name, tensor in load_file(str(path)).items()
    }


def _equal(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) for name, tensor in found.items()
    )


def _kill_at(folder, method, where, nth):
    """Starts a run as a program and kills it, by its process id, where it says it is."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    program = [sys.executable, str(Path(__file__).with_name("killed_run.py"))]
    process = subprocess.Popen(
        [*program, str(folder), method, where, str(nth)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    said = process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert said.split()[-1:] == [str(nth)]
    return folder / f"killed-{method}-{where}-{nth}"


@pytest.mark.parametrize("method", ["lora", "bottleneck", "prefix", "full"])
def test_a_run_killed_in_a_step_ends_bit_for_bit_equal(folder, whole, method):
    """SIGKILL in step 11, two steps after a checkpoint; dropout is on."""
    place = _kill_at(folder, method, "step", 11)
    assert sorted(p.name for p in (place / "checkpoints").glob("step-*"))[-1] == "step-000000009"
    _, report = fit(folder, method, place.name, resume="auto")
    assert report.steps == 16
    assert [record.step for record in report.history] == list(range(1, 17))
    assert _equal(_weights(place), whole(method))


@pytest.mark.parametrize(
    ("where", "nth"),
    [
        ("write", 6),  # the first file of the second checkpoint is being flushed
        ("remove", 5),  # an old checkpoint is about to go
    ],
)
def test_a_run_killed_in_a_checkpoint_ends_bit_for_bit_equal(folder, whole, where, nth):
    place = _kill_at(folder, "lora", where, nth)
    assert any((place / "checkpoints").glob("step-*"))
    fit(folder, "lora", place.name, resume="auto")
    assert _equal(_weights(place), whole("lora"))


@pytest.mark.parametrize(
    ("method", "step"), [*(("lora", step) for step in range(1, 17)), ("gated", 11)]
)
def test_a_run_stopped_at_any_step_ends_bit_for_bit_equal(folder, whole, monkeypatch, method, step):
    original, calls = run.run_step, []

    def stop(*args, **settings):
        calls.append(step)
        if len(calls) == step:
            raise KeyboardInterrupt
        return original(*args, **settings)

    out = f"stopped-{method}-{step}"
    with monkeypatch.context() as patch:
        patch.setattr(run, "run_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(folder, method, out)
    fit(folder, method, out, resume="auto")
    assert _equal(_weights(folder / out), whole(method))


def test_a_finished_run_is_not_trained_again(folder, whole, monkeypatch):
    expected = whole("lora")
    monkeypatch.setattr(run, "run_step", None)
    _, report = fit(folder, "lora", "whole-lora", resume="auto")
    assert report.steps == 16
    assert _equal(_weights(folder / "whole-lora"), expected)


def test_an_earlier_checkpoint_can_be_named(folder, whole):
    expected = whole("lora")
    earlier = folder / "whole-lora" / "checkpoints" / "step-000000015"
    fit(folder, "lora", "whole-lora", resume=earlier)
    assert _equal(_weights(folder / "whole-lora"), expected)


def test_checkpoints_are_not_overwritten_by_another_run(folder, whole):
    whole("lora")
    with pytest.raises(TuningError, match="2 checkpoints of an earlier run"):
        fit(folder, "lora", "whole-lora")


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-3}, {"seed": 1}, {"batch_size": 5}, {"method": LoRA(rank=3)}]
)
def test_a_checkpoint_of_other_settings_is_refused(folder, whole, change):
    whole("lora")
    trainer = make_trainer(folder, "lora")
    for name, value in change.items():
        setattr(trainer, name, value)
    rows = make_rows(21)
    with pytest.raises(TuningError, match="other data, base or settings"):
        trainer.fit(
            rows[:15], epochs=4, eval_dataset=rows[15:], out=folder / "whole-lora", resume="auto"
        )


def test_a_checkpoint_of_other_data_is_refused(folder, whole):
    whole("lora")
    trainer, rows = make_trainer(folder, "lora"), make_rows(22)
    with pytest.raises(TuningError, match="other data, base or settings"):
        trainer.fit(
            rows[1:16], epochs=4, eval_dataset=rows[16:], out=folder / "whole-lora", resume="auto"
        )


def test_the_best_weights_are_restored(tmp_path, folder):
    """With a rate so high that it gets worse, the kept weights give the best metric."""
    rows = make_rows(40)
    trainer = Trainer(
        folder / "base",
        method=LoRA(rank=2),
        learning_rate=0.5,
        clip_norm=1e6,
        schedule="constant",
        metric="loss",
        precision="fp32",
        device="cpu",
        batch_size=4,
    )
    report = trainer.fit(rows[:30], epochs=20, eval_dataset=rows[30:], out=tmp_path / "out")
    losses = [record.metrics["loss"] for record in report.evaluations]
    assert report.best_value == min(losses) < losses[-1]
    assert len(losses) == losses.index(min(losses)) + 1 + 3  # three evaluations of patience
    predicted = trainer.predict([row["text"] for row in rows[30:]])
    probabilities = [
        result.values["probabilities"][str(row["label"])]
        for result, row in zip(predicted, rows[30:], strict=True)
    ]
    found = -sum(math.log(p) for p in probabilities) / len(probabilities)
    assert found == pytest.approx(report.best_value, rel=1e-3)


def test_a_loss_that_is_no_number_stops_the_run(folder):
    trainer = Trainer(
        folder / "base",
        method=LoRA(),
        learning_rate=1e38,
        clip_norm=1e38,
        precision="fp32",
        device="cpu",
    )
    with pytest.raises(TuningError, match=r"found loss (nan|inf).* at step .*Lower learning_rate"):
        trainer.fit(make_rows(40), epochs=5)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_accumulated_passes_make_the_same_steps(tmp_path, folder, micro_batch_size):
    """The loss is divided by the global count, so the passes of a step do not matter."""
    reports = []
    for size in (None, micro_batch_size):
        trainer = make_trainer(folder, "lora")
        trainer.method, trainer.micro_batch_size = LoRA(rank=2), size
        trainer.model = make_tiny(
            "bert", tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        reports.append(trainer.fit(make_rows(15), epochs=3))
    assert [r.loss for r in reports[1].history] == pytest.approx(
        [r.loss for r in reports[0].history], abs=1e-5
    )
