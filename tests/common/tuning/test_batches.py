"""Batches leave no token out, share rows out alike for any number of ranks, and pack."""

from __future__ import annotations

import pytest
import torch

from common.backbones import load_backbone
from common.errors import TableError
from common.tuning.batches import IGNORED, BatchPlan, collate, cut_step, encode
from common.tuning.datasets import Examples, read_examples
from tests.tiny_bert import make_tiny_bert
from tests.tiny_models import make_tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_backbone(make_tiny("llama", tmp_path_factory.mktemp("models") / "llama"))


def _labelled(*texts):
    return read_examples([{"text": text, "label": i % 2} for i, text in enumerate(texts)])


def _plain(*texts):
    return read_examples([{"text": text} for text in texts])


def test_an_epoch_has_every_row_once():
    plan = BatchPlan(tuple(range(1, 24)), batch_size=4, seed=3)
    batches = plan.epoch(0)
    assert sorted(row for batch in batches for row in batch) == list(range(23))
    assert sorted(map(len, batches)) == [3, 4, 4, 4, 4, 4]
    assert len(batches) == plan.steps_per_epoch


def test_order_follows_seed_and_epoch_alone():
    plan = BatchPlan(tuple(range(1, 41)), batch_size=4, seed=3)
    assert plan.epoch(1) == BatchPlan(tuple(range(1, 41)), batch_size=4, seed=3).epoch(1)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != BatchPlan(tuple(range(1, 41)), batch_size=4, seed=4).epoch(0)


def test_rows_of_similar_length_come_together():
    """Sorted within a bucket of 50 batches, a batch of 4 spans few lengths."""
    lengths = tuple((i * 37) % 200 + 1 for i in range(200))
    plan = BatchPlan(lengths, batch_size=4, seed=0)
    spans = [max(lengths[r] for r in b) - min(lengths[r] for r in b) for b in plan.epoch(0)]
    assert max(spans) <= 3


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("micro_batch_size", [None, 1, 2])
def test_ranks_share_a_global_batch_without_loss(bert, world_size, micro_batch_size):
    """Every row is on exactly one rank, all run equally often, and blanks count nothing."""
    encoded = encode(_labelled("risk", "debt", "sales"), bert.tokenizer, max_tokens=32)
    rows = (2, 0, 1)
    shares = [
        cut_step(
            encoded,
            rows,
            rank=rank,
            world_size=world_size,
            micro_batch_size=micro_batch_size,
        )
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in shares}) == 1
    batches = [batch for share in shares for batch in share]
    assert sum(batch.count for batch in batches) == encoded.count(rows) == 3
    assert sum(batch.n_rows for batch in batches if not batch.blank) == 3
    assert all(batch.count == 0 for batch in batches if batch.blank)
    assert any(batch.blank for batch in batches) == (len(batches) > 3 or world_size == 5)


def test_a_long_text_is_refused_by_row(bert):
    texts = _labelled("risk", "debt " * 40, "sales", "loss " * 50)
    with pytest.raises(TableError, match=r"at most 32 tokens.*up to 52 tokens in rows 1, 3,"):
        encode(texts, bert.tokenizer, max_tokens=32)


def test_a_long_text_is_read_in_windows_that_lose_nothing(bert):
    """The windows' words, special tokens apart, are the text's words in their order."""
    encoded = encode(
        _labelled("risk", "debt loss " * 30), bert.tokenizer, max_tokens=16, too_long="chunk"
    )
    special = set(bert.tokenizer.all_special_ids)
    words = [token for window in encoded.windows[1] for token in window if token not in special]
    whole = bert.tokenizer("debt loss " * 30, add_special_tokens=False)["input_ids"]
    assert words == whole
    assert max(map(len, encoded.windows[1])) == 16
    batch = collate(encoded, (1, 0))
    assert batch.owners.tolist() == [0] * len(encoded.windows[1]) + [1]
    assert batch.n_rows == batch.count == 2


def test_causal_blocks_predict_every_token_once(llama):
    """Blocks overlap by one token, so that no target is lost or counted twice."""
    text = "risk debt loss profit sales " * 12
    encoded = encode(_plain(text), llama.tokenizer, max_tokens=16, too_long="chunk")
    whole = encode(_plain(text), llama.tokenizer, max_tokens=10_000)
    (ids,) = whole.windows[0]
    predicted = [token for row in encoded.windows for token in row[0][1:]]
    assert predicted == list(ids[1:])
    assert encoded.count(range(len(encoded))) == len(ids) - 1


def test_a_language_model_learns_to_end(llama):
    encoded = encode(_plain("risk debt", "loss"), llama.tokenizer, max_tokens=32)
    assert {row[0][-1] for row in encoded.windows} == {llama.tokenizer.eos_token_id}


def test_a_text_without_a_next_token_is_refused():
    class OneToken:
        eos_token_id = None
        pad_token_id = 0

        def __call__(self, texts, **_):
            return {"input_ids": [[5, 6] if "two" in text else [5] for text in texts]}

    examples = Examples(("two", "one"), (None, None), "causal_lm")
    with pytest.raises(TableError, match="fewer in row 1,"):
        encode(examples, OneToken(), max_tokens=8)


def test_packed_texts_start_again_at_position_0(llama):
    encoded = encode(
        _plain("risk debt loss", "profit", "sales year"), llama.tokenizer, max_tokens=32
    )
    batch = collate(encoded, (0, 1, 2), packed=True, pad_to=16)
    lengths = sorted((encoded.n_tokens(row) for row in range(3)), reverse=True)
    total = sum(lengths)
    padded = -(-total // 16) * 16
    assert batch.input_ids.shape == (1, padded)
    assert batch.attention_mask is None
    expected = [p for n in [*lengths, padded - total] for p in range(n)]
    assert batch.position_ids.tolist() == [expected]
    assert int((batch.targets != IGNORED).sum()) == batch.count == total - 3
    assert batch.n_tokens == total


def test_targets_are_the_next_token(llama):
    encoded = encode(_plain("risk debt loss"), llama.tokenizer, max_tokens=32)
    batch = collate(encoded, (0,))
    ids = batch.input_ids[0].tolist()
    assert batch.targets[0].tolist() == [*ids[1:], IGNORED]
    assert batch.position_ids is None


def test_label_sets_become_zeros_and_ones(bert):
    examples = Examples(("risk", "debt"), ((0, 2), ()), "multi_label", ("a", "b", "c"))
    batch = collate(encode(examples, bert.tokenizer, max_tokens=32), (0, 1))
    assert torch.equal(batch.targets, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
