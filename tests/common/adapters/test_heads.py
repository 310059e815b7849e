"""A head says what its outputs mean, and its file brings back the same head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.adapters.heads import HEAD, Head, load_head, save_head
from common.errors import AdapterError

OLD_FOLDER = Path(__file__).parents[3] / "kits/finance/weights/maec-lora"
WEIGHT = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=np.float32)


def head(task, *, n=3, labels=("a", "b", "c"), **changes):
    return Head(task, WEIGHT[:n], np.zeros(n, np.float32), labels[:n], **changes)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (4, 2), elements=st.floats(-1e4, 1e4)))
def test_probabilities_are_probabilities(states):
    """Within 0 and 1 for any state, and of classes they add to 1."""
    classes = head("classification").outputs(states)
    assert np.allclose(classes.sum(axis=1), 1)
    for probabilities in (classes, head("multi_label").outputs(states)):
        assert np.isfinite(probabilities).all()
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_classification_names_the_likeliest_label():
    """The numbers are those of a softmax done by hand."""
    values = head("classification").results(np.array([[0.0, np.log(3.0)]]))[0].values
    total = 1 + 3 + np.sqrt(3)
    assert values["label"] == "b"
    assert values["probability"] == pytest.approx(3 / total, abs=1e-6)
    assert values["probabilities"]["a"] == pytest.approx(1 / total, abs=1e-6)


def test_multi_label_names_every_likely_label():
    """None is fine too."""
    first, second = head("multi_label").results(np.array([[1.0, -3.0], [-1.0, -1.0]]))
    assert first.values["labels"] == ["a"]
    assert second.values["labels"] == []


def test_regression_gives_its_values_as_they_are():
    """One without a name is the score."""
    assert head("regression", n=1, labels=()).results(np.array([[2.0, 9.0]]))[0].values == {
        "score": 2.0
    }
    values = head("regression").results(np.array([[2.0, 4.0]]))[0].values
    assert values == {"values": {"a": 2.0, "b": 4.0, "c": 3.0}}


def test_integer_labels_stay_integers(tmp_path):
    """As the data had them."""
    save_head(head("classification", labels=(10, 20, 30)), tmp_path)
    found = load_head(tmp_path, hidden_size=2)
    assert found.results(np.array([[0.0, 9.0]]))[0].values["label"] == 20


@pytest.mark.parametrize(
    "saved",
    [
        head("classification", too_long="chunk", max_tokens=24),
        head("multi_label"),
        head("regression", n=1, labels=()),
        Head("causal_lm", np.zeros((0, 2), np.float32), np.zeros(0, np.float32)),
    ],
    ids=lambda value: value.task,
)
def test_a_head_comes_back_as_it_was_saved(saved, tmp_path):
    """Every field, and the same bytes when saved again."""
    save_head(saved, tmp_path)
    first = (tmp_path / HEAD).read_bytes()
    found = load_head(tmp_path, hidden_size=2)
    for name in ("task", "labels", "max_tokens", "too_long"):
        assert getattr(found, name) == getattr(saved, name)
    assert np.array_equal(found.weight, saved.weight)
    assert np.array_equal(found.bias, saved.bias)
    save_head(found, tmp_path)
    assert (tmp_path / HEAD).read_bytes() == first


def test_the_first_format_is_still_read():
    """The finance kit's head: one output, its bias without a dimension, its limit alone."""
    found = load_head(OLD_FOLDER, hidden_size=384, max_tokens=256)
    assert (found.task, found.labels, found.max_tokens) == ("regression", (), 96)
    assert found.too_long == "refuse"
    assert found.weight.shape == (1, 384)
    assert found.gives_score


def test_a_head_that_does_not_fit_is_refused(tmp_path):
    """Another width, more tokens than the adapted base takes, damage, absence."""
    with pytest.raises(AdapterError, match=r"max_tokens.*found FileNotFoundError"):
        load_head(tmp_path, hidden_size=2)
    save_head(head("classification", max_tokens=64), tmp_path)
    with pytest.raises(AdapterError, match="3 hidden units"):
        load_head(tmp_path, hidden_size=3)
    with pytest.raises(AdapterError, match="at most 48 tokens"):
        load_head(tmp_path, hidden_size=2, max_tokens=48)
    whole = (tmp_path / HEAD).read_bytes()
    (tmp_path / HEAD).write_bytes(whole[:40])
    with pytest.raises(AdapterError):
        load_head(tmp_path, hidden_size=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": ("a",)},
        {"bias": np.zeros(2, np.float32)},
        {"weight": np.zeros(2, np.float32)},
        {"task": "causal_lm"},
        {"task": "ranking"},
        {"too_long": "cut"},
        {"max_tokens": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_parts_that_do_not_go_together_are_refused(fields):
    """A constructed head is a valid one."""
    given_ = {
        "task": "classification",
        "weight": WEIGHT,
        "bias": np.zeros(3, np.float32),
        "labels": ("a", "b", "c"),
    }
    with pytest.raises(AdapterError):
        Head(**{**given_, **fields})
