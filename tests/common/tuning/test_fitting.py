"""What one process does: it trains, leaves the caller's base alone, and names its limits."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from common.adapters.anatomy import anatomy_of
from common.adapters.methods import Full, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import TuningError
from common.tuning import run
from common.tuning.datasets import read_examples
from common.tuning.fitting import Job, finish, fit_job
from common.tuning.loop import OneProcess
from common.tuning.recipe import Recipe
from tests.tiny_bert import WORDS, make_tiny_bert
from tests.tiny_models import make_tiny

ALONE = OneProcess(torch.device("cpu"))
ROWS = [{"text": f"{WORDS[i % 14]} {WORDS[(i + 3) % 14]}", "label": i % 2} for i in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_bert(tmp_path_factory.mktemp("models") / "base")


def _job(model, method, rows=ROWS, **settings):
    recipe = Recipe(precision="fp32", device="cpu", batch_size=4, **settings)
    return Job(
        model=model,
        method=method,
        recipe=recipe,
        examples=read_examples(rows),
        evaluation=None,
        epochs=2,
    )


def test_job_and_outcome_travel_between_processes(base):
    job = pickle.loads(pickle.dumps(_job(base, LoRA(rank=2))))  # noqa: S301 (our own)
    outcome = pickle.loads(pickle.dumps(fit_job(job, ALONE)))  # noqa: S301
    assert outcome.state.step == 6
    assert outcome.weights


def test_the_outcome_is_what_was_trained(base):
    """The finished model has the trained tensors, on a base that never changed."""
    backbone = load_backbone(base)
    job = _job(backbone, LoRA(rank=2), learning_rate=1e-2)
    outcome = fit_job(job, ALONE)
    tuned = finish(backbone, job, outcome)
    state = {f"model.{n}": t for n, t in tuned.adapter.backbone.model.state_dict().items()}
    trained = {name for name in outcome.weights if name.startswith("model.")}
    assert len(trained) == 8  # A and B of query and value in two layers
    assert all(torch.equal(state[name], outcome.weights[name]) for name in trained)


def test_all_method_parameters_are_trained(base):
    """Query and value: 256; and a head of 2 x 16 + 2."""
    outcome = fit_job(_job(base, LoRA(rank=2)), ALONE)
    assert outcome.n_trained == 256 + 34
    full = fit_job(_job(base, Full()), ALONE)
    anatomy = anatomy_of(load_backbone(base))
    assert full.n_trained == Full().count_parameters(anatomy) + 34


def test_memory_that_is_full_gives_a_remedy(base, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run, "run_step", exhausted)
    with pytest.raises(TuningError) as raised:
        fit_job(_job(base, Full()), ALONE)
    message = str(raised.value)
    for words in (
        "micro_batch_size=2",
        "gradient_checkpointing=True",
        'precision="bf16"',
        "method=LoRA()",
        "4 rows in a pass",
    ):
        assert words in message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_gpu_gives_a_remedy_and_the_base_stays_on_the_cpu(base, tmp_path):
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        wide = make_tiny("bert", tmp_path / "wide", hidden_size=512, intermediate_size=8192)
        backbone = load_backbone(wide)
        job = _job(backbone, Full())
        job = replace(job, recipe=replace(job.recipe, device="cuda", batch_size=4096))
        rows = replace(job, examples=read_examples([*ROWS] * 400))
        with pytest.raises(TuningError, match="GiB in use"):
            fit_job(rows, OneProcess(torch.device("cuda")))
        assert {p.device.type for p in backbone.model.parameters()} == {"cpu"}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_fully_tuned_head_follows_its_embedding(tmp_path, tied):
    """Tied, the head is the tuned copy's embedding; apart, it is the base's, unchanged."""
    backbone = load_backbone(make_tiny("llama", tmp_path / "llama", tied=tied))
    rows = [{"text": row["text"]} for row in ROWS]
    before = backbone.model.get_input_embeddings().weight.clone()
    job = _job(backbone, Full(), rows, learning_rate=1e-2)
    tuned = finish(backbone, job, fit_job(job, ALONE))
    assert torch.equal(backbone.model.get_input_embeddings().weight, before)
    embedding = tuned.adapter.backbone.model.get_input_embeddings().weight
    assert not torch.equal(embedding, before)
    assert (tuned._network.lm_head is embedding) == tied


def test_a_prefix_of_a_language_model_reads_padded_rows(tmp_path):
    """A batch of unequal rows has the loss of its rows alone: the padding is not read."""
    from common.adapters.attach import attach_new
    from common.tuning.assembly import build_network
    from common.tuning.batches import collate, encode

    backbone = load_backbone(make_tiny("llama", tmp_path / "llama"))
    examples = read_examples([{"text": "risk debt loss may not"}, {"text": "profit"}])
    adapter = attach_new(backbone, Prefix(4), seed=3)
    network = build_network(adapter, examples, seed=0).eval()
    encoded = encode(examples, backbone.tokenizer, max_tokens=28)
    with torch.no_grad():
        together, _ = network(collate(encoded, (0, 1)))
        alone = [network(collate(encoded, (row,)))[0] for row in (0, 1)]
    torch.testing.assert_close(together, alone[0] + alone[1])
