"""No token of a text is lost, and long texts are refused or read in windows."""

from __future__ import annotations

import numpy as np
import pytest

from common.adapters.windows import (
    Window,
    average_by_text,
    batches_of_windows,
    cut_windows,
    pad_windows,
)
from common.backbones import load_backbone
from common.errors import TaskError
from tests.tiny_bert import make_tiny_bert


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("bert") / "m")).tokenizer


def _cut(tokenizer, texts, most, policy):
    n = len(texts)
    return cut_windows(tokenizer, texts, max_tokens=most, too_long=[policy] * n)


def test_each_text_has_its_own_limit(tokenizer):
    """5 words are 7 tokens: one window of 7, three of at most 4, none of them short a word."""
    text = "risk growth debt market loss"
    windows = _cut(tokenizer, [text, text], [7, 4], "chunk")
    assert [window.text_index for window in windows] == [0, 1, 1, 1]
    inner = [token for window in windows[1:] for token in window.token_ids[1:-1]]
    assert inner == list(windows[0].token_ids[1:-1])
    assert max(len(window.token_ids) for window in windows[1:]) == 4


def test_long_and_empty_texts_are_refused(tokenizer):
    """The message has the counts and not the text."""
    with pytest.raises(TaskError, match=r"at most 4 tokens.*found 5") as caught:
        _cut(tokenizer, ["risk growth debt"], [4], "refuse")
    assert "growth" not in str(caught.value)
    with pytest.raises(TaskError, match="empty"):
        _cut(tokenizer, ["risk", "  "], [4, 4], "refuse")


def test_batches_hold_every_window_once_and_few_tokens():
    """Padded size stays within the limit, whatever the lengths."""
    windows = [Window(i, (1,) * n) for i, n in enumerate([9, 1, 5, 5, 2, 9, 3])]
    batches = list(batches_of_windows(windows, tokens_per_batch=12))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    for batch in batches:
        assert len(batch) * max(len(windows[row].token_ids) for row in batch) <= 12


def test_padding_is_masked_and_states_are_averaged_by_tokens():
    """Two windows of 1 and 3 tokens: their states weigh 1 and 3."""
    windows = [Window(0, (7,)), Window(0, (7, 8, 9))]
    ids, mask = pad_windows(windows, pad_token_id=5)
    assert ids.tolist() == [[7, 5, 5], [7, 8, 9]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert average_by_text(windows, np.array([[4.0], [8.0]]), 1).tolist() == [[7.0]]
