"""Text models answer each text as if it came alone, and never cut one silently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.attach import attach_new, save_adapter
from common.adapters.heads import Head
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import AdapterError, DeadlineError, TaskError
from common.models.base import Model
from common.models.text import (
    TextEncoder,
    load_regressor,
    load_tuned_text,
)
from common.request import new_request, serving
from common.routing.cache import ResultCache
from common.routing.router import ModelRouter
from common.task import Image, Task, Text
from tests.tiny_bert import WORDS, make_tiny_bert


def _tasks(*texts):
    return [Task({"text": Text(text)}) for text in texts]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def regressor_folder(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "lora"
    adapter = attach_new(base, LoRA(rank=2))
    with torch.no_grad():
        for parameter in adapter.backbone.model.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.1)
    weight = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, -1)
    head = Head("regression", weight, np.full(1, 0.25, np.float32), max_tokens=24)
    save_adapter(adapter, folder, head=head)
    return folder


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60), min_size=1, max_size=9))
def test_a_batch_equals_each_text_alone(base, lists):
    """Padding and order change nothing beyond float32 rounding."""
    encoder = TextEncoder(base)
    texts = [" ".join(words) for words in lists]
    together = encoder.predict(_tasks(*texts))
    for text, result in zip(texts, together, strict=True):
        alone = encoder.predict(_tasks(text))[0]
        np.testing.assert_allclose(result.arrays["embedding"], alone.arrays["embedding"], atol=2e-6)


def test_embeddings_have_length_one(base):
    """They are float32 unit vectors of the base's width."""
    embedding = TextEncoder(base).predict(_tasks("risk and debt"))[0].arrays["embedding"]
    assert embedding.shape == (16,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


def test_embeddings_are_those_of_a_plain_forward_pass(base):
    """Mean of the last hidden states over all tokens, then unit length."""
    encoded = base.tokenizer("revenue growth risk", return_tensors="pt")
    with torch.inference_mode():
        mean = base.model(**encoded).last_hidden_state[0].mean(0).numpy()
    found = TextEncoder(base).predict(_tasks("revenue growth risk"))[0].arrays["embedding"]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_every_word_of_a_long_text_counts(base):
    """A change in the last word of a text of many windows changes the embedding."""
    encoder = TextEncoder(base)
    start = "revenue " * 200
    first, second = encoder.predict(_tasks(start + "growth", start + "loss"))
    assert not np.allclose(first.arrays["embedding"], second.arrays["embedding"], atol=1e-7)


def test_a_long_text_is_refused_where_the_policy_says_so(base):
    """The message gives limit and length."""
    encoder = TextEncoder(base, too_long="refuse", max_tokens=8)
    encoder.predict(_tasks("risk " * 6))
    with pytest.raises(TaskError, match=r"at most 8 tokens.*found 9"):
        encoder.predict(_tasks("risk " * 7))


def test_tasks_without_exactly_one_text_are_refused(base):
    """Empty text, no text and two texts all raise."""
    encoder = TextEncoder(base)
    picture = Task({"image": Image(np.zeros((2, 2), dtype=np.uint8))})
    two = Task({"a": Text("risk"), "b": Text("debt")})
    for task in (*_tasks("  "), picture, two):
        with pytest.raises(TaskError):
            encoder.predict([task])


def test_no_tasks_give_no_results(base):
    """An empty call is not an error."""
    assert TextEncoder(base).predict([]) == []


def test_the_policy_is_part_of_the_digest(base):
    """Results of one limit are never served for another."""
    digests = {TextEncoder(base, max_tokens=n).profile.digest for n in (8, 16)}
    assert len(digests) == 2
    assert isinstance(TextEncoder(base), Model)


def test_a_regressor_is_linear_in_the_mean_state(base, regressor_folder):
    """The score equals head . mean state + bias, computed by hand."""
    regressor = load_regressor(base, regressor_folder)
    text = "loss and debt may grow"
    encoded = base.tokenizer(text, return_tensors="pt")
    model = regressor._backbone.model
    with torch.inference_mode():
        mean = model(**encoded).last_hidden_state[0].mean(0).double().numpy()
    expected = mean @ np.linspace(-1, 1, 16) + 0.25
    assert regressor.predict(_tasks(text))[0].values["score"] == pytest.approx(expected, abs=2e-6)
    assert regressor.profile.adapter == "lora"
    assert regressor.count_tokens([text]) == [encoded["input_ids"].shape[1]]


def test_a_regressor_refuses_what_it_was_not_trained_on(base, regressor_folder):
    """More tokens than in training raise."""
    with pytest.raises(TaskError, match="at most 24 tokens"):
        load_regressor(base, regressor_folder).predict(_tasks("risk " * 30))


def test_a_damaged_head_is_refused(base, regressor_folder, tmp_path):
    """Absent, of another width, or without its token limit."""
    import shutil

    from safetensors.numpy import save_file

    for number, tensors in enumerate(
        [None, {"weight": np.zeros(8, np.float32), "bias": np.zeros((), np.float32)}]
    ):
        folder = shutil.copytree(regressor_folder, tmp_path / str(number))
        (folder / "head.safetensors").unlink()
        if tensors:
            save_file(tensors, str(folder / "head.safetensors"), metadata={"max_tokens": "24"})
        with pytest.raises(AdapterError, match="head"):
            load_regressor(base, folder)


def test_the_router_serves_and_caches_a_regressor(base, regressor_folder, tmp_path):
    """The second call comes from the cache, equal in value."""
    cache = ResultCache(tmp_path / "cache")
    router = ModelRouter({"text": load_regressor(base, regressor_folder)}, cache=cache)
    first = router.execute_many(_tasks("risk", "debt"))
    second = router.execute_many(_tasks("risk", "debt"))
    assert [r["text"].cached for r in first + second] == [False, False, True, True]
    assert [r["text"].result.values for r in first] == [r["text"].result.values for r in second]
    cache.close()


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_a_tuned_model_gives_probabilities_of_its_labels(base, tmp_path, task):
    """Softmax or sigmoid of the head's outputs, and the labels that follow from them."""
    weight = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    head = Head(task, weight, np.zeros(3, np.float32), ("up", "down", "flat"), 24, "chunk")
    save_adapter(attach_new(base, LoRA()), tmp_path / "lora", head=head)
    model = load_tuned_text(base, tmp_path / "lora")
    short, long = (r.values for r in model.predict(_tasks("risk and debt", "loss " * 90)))
    probabilities = short["probabilities"]
    assert list(probabilities) == ["up", "down", "flat"]
    if task == "classification":
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert short["label"] == max(probabilities, key=probabilities.get)
        assert long["probability"] == max(long["probabilities"].values())
    else:
        assert short["labels"] == [name for name, p in probabilities.items() if p >= 0.5]
    with pytest.raises(AdapterError, match="load_tuned_text"):
        load_regressor(base, tmp_path / "lora")


def test_a_caller_who_gives_up_ends_the_work_before_the_next_batch(base):
    request, batches = new_request(), []

    def give_up(*_):
        batches.append(1)
        request.give_up()

    hook = base.model.register_forward_hook(give_up)
    try:
        with serving(request), pytest.raises(DeadlineError, match="gave up"):
            TextEncoder(base).predict(_tasks(*[" ".join(WORDS[:20])] * 1000))
    finally:
        hook.remove()
    assert len(batches) == 1
