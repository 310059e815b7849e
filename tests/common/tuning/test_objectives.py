"""Losses are sums over rows or tokens; packing and blank batches change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from common.adapters.attach import attach_new
from common.adapters.methods import LoRA
from common.backbones import load_backbone, load_lm_head
from common.tuning.batches import collate, encode
from common.tuning.datasets import Examples, read_examples
from common.tuning.objectives import TunedNetwork, mean_states, standardisation
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import make_tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "bert"))


TEXTS = ("risk debt loss", "profit", "sales year we may not", "debt", "growth of risk")


def _network(backbone, examples, **settings):
    return TunedNetwork(
        backbone.model,
        examples.task,
        hidden_size=backbone.hidden_size,
        n_outputs=max(len(examples.labels), 1),
        **settings,
    ).eval()


def _examples(task):
    if task == "classification":
        return Examples(TEXTS, (0, 1, 2, 1, 0), task, ("a", "b", "c"))
    if task == "multi_label":
        return Examples(TEXTS, ((0,), (), (0, 2), (1,), (2,)), task, ("a", "b", "c"))
    return Examples(TEXTS, (3.0, 5.0, 8.0, 1.0, 2.0), task)


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_losses_of_parts_add_up(bert, task):
    """The summed loss of a batch is that of its parts, whatever the padding."""
    examples = _examples(task)
    encoded = encode(examples, bert.tokenizer, max_tokens=32)
    network = _network(bert, examples, mean=3.8, scale=2.5)
    whole, count = network(collate(encoded, range(5)))
    parts = [network(collate(encoded, (row,))) for row in range(5)]
    assert int(count) == sum(int(n) for _, n in parts) == 5
    torch.testing.assert_close(whole, sum(loss for loss, _ in parts))


def test_losses_are_the_textbook_ones(bert):
    """Cross entropy, binary cross entropy averaged over labels, standardised squared error."""
    for task in ("classification", "multi_label", "regression"):
        examples = _examples(task)
        batch = collate(encode(examples, bert.tokenizer, max_tokens=32), range(5))
        network = _network(bert, examples, mean=3.8, scale=2.5)
        outputs = network.outputs(batch)
        expected = {
            "classification": lambda o, t: functional.cross_entropy(o, t) * 5,
            "multi_label": lambda o, t: functional.binary_cross_entropy_with_logits(o, t) * 5,
            "regression": lambda o, t: (((t - 3.8) / 2.5 - o[:, 0]) ** 2).sum(),
        }[task](outputs, batch.targets)
        torch.testing.assert_close(network(batch)[0], expected)


def test_a_blank_batch_counts_nothing_and_reaches_every_parameter(bert):
    examples = _examples("classification")
    adapter = attach_new(bert, LoRA(rank=2))
    network = _network(replace(bert, model=adapter.backbone.model), examples)
    batch = collate(encode(examples, bert.tokenizer, max_tokens=32), (0,))
    loss, count = network(replace(batch, blank=True, count=0))
    loss.backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert float(loss) == 0.0
    assert int(count) == 0
    assert all(p.grad is not None and not p.grad.any() for p in trained)


def test_windows_of_a_row_are_averaged_by_tokens():
    """Two windows of 3 and 1 tokens: the mean over all four."""
    hidden = torch.arange(2 * 3 * 2.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    together = mean_states(hidden, mask, torch.tensor([0, 0]), 1)
    expected = torch.cat([hidden[0], hidden[1, :1]]).mean(0, keepdim=True)
    torch.testing.assert_close(together, expected)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_packing_changes_neither_loss_nor_gradient(tmp_path, family, tied):
    """Texts that follow each other see only themselves: the loss is that of padded rows."""
    backbone = load_backbone(make_tiny(family, tmp_path / family, tied=tied))
    examples = read_examples([{"text": text} for text in TEXTS])
    encoded = encode(examples, backbone.tokenizer, max_tokens=32)
    results = []
    for packed, pad_to in ((False, 1), (True, 1), (True, 16)):
        adapter = attach_new(backbone, LoRA(rank=2), seed=1)
        model = adapter.backbone.model
        network = TunedNetwork(
            model,
            "causal_lm",
            hidden_size=backbone.hidden_size,
            lm_head=load_lm_head(backbone),
        ).train()
        batch = collate(encoded, range(5), packed=packed, pad_to=pad_to)
        loss, count = network(batch)
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        results.append((loss.detach(), int(count), gradients))
        assert (batch.position_ids is not None) == packed
    for loss, count, gradients in results[1:]:
        assert count == results[0][1]
        torch.testing.assert_close(loss, results[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients, results[0][2], rtol=1e-4, atol=1e-5)


def test_the_language_loss_is_that_of_transformers(tmp_path):
    """Against LlamaForCausalLM's own mean loss over the same tokens."""
    from transformers import AutoModelForCausalLM

    folder = make_tiny("llama", tmp_path / "llama")
    backbone = load_backbone(folder)
    encoded = encode(read_examples([{"text": TEXTS[0]}]), backbone.tokenizer, max_tokens=32)
    batch = collate(encoded, (0,))
    network = TunedNetwork(
        backbone.model,
        "causal_lm",
        hidden_size=backbone.hidden_size,
        lm_head=load_lm_head(backbone),
    )
    reference = AutoModelForCausalLM.from_pretrained(str(folder))
    expected = reference(input_ids=batch.input_ids, labels=batch.input_ids).loss
    loss, count = network(batch)
    torch.testing.assert_close(loss / count, expected)


def test_standardisation_is_mean_and_deviation():
    assert standardisation((1.0, 2.0, 3.0, 6.0)) == (3.0, pytest.approx(3.5**0.5))
