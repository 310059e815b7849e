"""A checkpoint is there whole or not at all, and serves its own run only."""

from __future__ import annotations

import json

import pytest
import torch

from common.errors import TuningError
from common.tuning import checkpoints
from common.tuning.checkpoints import (
    Checkpoint,
    CheckpointStore,
    EvaluationRecord,
    RunState,
    StepRecord,
    load_trained,
    optimizer_tensors,
    restore_optimizer,
    trained_tensors,
)


def _checkpoint(step, *, best=None):
    state = RunState(
        step=step,
        steps=tuple(StepRecord(i + 1, 1.0 / (i + 3), 1e-3) for i in range(step)),
        evaluations=(EvaluationRecord(step, {"loss": 0.1 + step}),),
        best=EvaluationRecord(best, {"loss": 0.1}) if best else None,
        seconds=0.1,
        precision="bf16",
    )
    return Checkpoint(state, {"a": torch.full((2, 3), float(step))}, {"a|step": torch.ones(())})


def test_a_checkpoint_reads_back_as_it_was(tmp_path):
    store = CheckpointStore(tmp_path, "f" * 64)
    written = _checkpoint(3, best=3)
    store.save(written)
    read = store.latest()
    assert read.state == written.state
    assert torch.equal(read.weights["a"], written.weights["a"])
    assert torch.equal(read.optimizer["a|step"], torch.ones(()))


def test_the_latest_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, "f", keep=2)
    for step in (5, 10, 100, 1000):
        store.save(_checkpoint(step))
    assert [path.name for path in store.list()] == ["step-000000100", "step-000001000"]
    assert store.latest().state.step == 1000


def test_best_weights_are_kept_as_long_as_a_checkpoint_names_them(tmp_path):
    store = CheckpointStore(tmp_path, "f", keep=1)
    store.save_best(2, {"a": torch.zeros(1)})
    store.save(_checkpoint(3, best=2))
    store.save_best(4, {"a": torch.ones(1)})
    assert store.read_best(2)["a"] == 0.0  # a process killed now goes on from step 3
    store.save(_checkpoint(6, best=4))
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-000000004.safetensors"]


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_write_that_breaks_off_leaves_the_checkpoint_before(tmp_path, monkeypatch, nth):
    """Whichever file is being flushed when it ends."""
    store = CheckpointStore(tmp_path, "f")
    store.save(_checkpoint(1))
    original, calls = checkpoints._flush, []

    def flush(path):
        calls.append(path)
        if len(calls) == nth:
            raise KeyboardInterrupt
        original(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_flush", flush)
        if nth <= 5:
            with pytest.raises(KeyboardInterrupt):
                store.save(_checkpoint(2))
        else:
            store.save(_checkpoint(2))
    assert store.latest().state.step == (1 if nth <= 4 else 2)
    store.save(_checkpoint(3))
    assert store.latest().state.step == 3
    assert not list(tmp_path.glob(".writing-*"))


def test_another_run_s_checkpoint_is_refused(tmp_path):
    CheckpointStore(tmp_path, "f").save(_checkpoint(1))
    with pytest.raises(TuningError, match="other data, base or settings"):
        CheckpointStore(tmp_path, "g").latest()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        ("state.json", json.dumps({"fingerprint": "f", "state": {"unknown": 1}}).encode()),
        ("weights.safetensors", b"torn"),
        ("optimizer.safetensors", None),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, name, content):
    store = CheckpointStore(tmp_path, "f")
    place = store.save(_checkpoint(1))
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(content)
    with pytest.raises(TuningError, match="that can be read in step-000000001"):
        store.latest()


def test_no_checkpoint_is_none(tmp_path):
    assert CheckpointStore(tmp_path / "absent", "f").latest() is None


def test_weights_of_another_method_are_refused():
    network = torch.nn.Linear(2, 2)
    with pytest.raises(TuningError, match="the 2 tensors that this method trains"):
        load_trained(network, {"weight": torch.zeros(2, 2)})


def test_an_optimiser_comes_back_with_its_moments():
    torch.manual_seed(0)
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    load_trained(second, trained_tensors(first))
    optimizers = [torch.optim.AdamW(net.parameters(), lr=0.1) for net in (first, second)]
    x = torch.randn(4, 3)

    def step(network, optimizer):
        optimizer.zero_grad()
        network(x).pow(2).sum().backward()
        optimizer.step()

    step(first, optimizers[0])
    load_trained(second, trained_tensors(first))
    restore_optimizer(second, optimizers[1], optimizer_tensors(first, optimizers[0]))
    step(first, optimizers[0])
    step(second, optimizers[1])
    assert torch.equal(first.weight, second.weight)
