"""Passages hold all prose once, fit the model, and quote the document exactly."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.attach import attach_new, save_adapter
from common.adapters.heads import Head
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import DocumentError
from common.models.text import load_regressor
from common.routing.cache import ResultCache
from common.routing.router import ModelRouter
from kits.finance.disclosures.document import Disclosure, Form, Section, read_document
from kits.finance.disclosures.filing import read_disclosure
from kits.finance.disclosures.language import READ_SECTIONS, make_passages, read_language
from kits.finance.disclosures.sentences import sentence_spans
from tests.tiny_bert import WORDS, make_tiny_bert


def count_words(texts):
    """A tokenizer of words, with two special tokens."""
    return [2 + len(text.split()) for text in texts]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    import numpy as np

    folder = tmp_path_factory.mktemp("models")
    base = load_backbone(make_tiny_bert(folder / "tiny"))
    weight = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, -1)
    head = Head("regression", weight, np.zeros(1, np.float32), max_tokens=32)
    save_adapter(attach_new(base, LoRA(rank=2)), folder / "lora", head=head)
    return load_regressor(base, folder / "lora")


def call_disclosure(tmp_path, text):
    path = tmp_path / "call.txt"
    path.write_text(text, encoding="utf-8")
    document = read_document(path)
    return Disclosure(document, "transcript", (Section("call", "Call", 0, len(document.text)),))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*WORDS, "x" * 40, "12%", "$ 5"]), min_size=1, max_size=30),
        min_size=1,
        max_size=20,
    ),
    st.integers(6, 40),
)
def test_passages_fit_and_hold_every_prose_word_once(lists, max_tokens):
    """No passage is longer than the model takes, and none overlaps another."""
    text = " ".join(" ".join(words).capitalize() + "." for words in lists)
    spans = sentence_spans(text, 0, len(text))
    passages = make_passages(text, spans, count_words, max_tokens)
    assert all(count_words([text[a:b]])[0] <= max_tokens for a, b in passages)
    assert all(before[1] <= after[0] for before, after in pairwise(passages))
    kept = [w for a, b in passages for w in text[a:b].split()]
    prose = [
        w
        for a, b in spans
        if 2 * sum(bool(re.search(r"[^\W\d_]{2,}", p)) for p in text[a:b].split())
        >= len(text[a:b].split())
        for w in text[a:b].split()
    ]
    assert kept == prose


def test_every_form_says_what_of_it_is_read():
    assert set(READ_SECTIONS) == set(get_args(Form))


def test_table_rows_end_a_passage():
    """A passage never runs over a row that it does not quote."""
    text = "Sales grew fast.\nNet sales\t$ 1,234\t5 %\t$ 1,111\nCosts fell too."
    passages = make_passages(text, sentence_spans(text, 0, len(text)), count_words, 50)
    assert [text[a:b] for a, b in passages] == ["Sales grew fast.", "Costs fell too."]


def test_an_unbroken_string_is_divided_and_not_cut():
    """Even without white space every character is kept."""
    text = "a" * 1000
    passages = make_passages(text, [(0, 1000)], lambda ts: [2 + len(t) for t in ts], 100)
    assert "".join(text[a:b] for a, b in passages) == text
    assert max(b - a for a, b in passages) <= 98


def test_the_signal_is_the_mean_of_the_router_s_scores(tiny_model, tmp_path):
    """Passage scores come back in order, and a second reading comes from the cache alone."""
    text = "\n".join(f"We may face risk and debt in quarter {'growth ' * k}." for k in range(12))
    disclosure = call_disclosure(tmp_path, text)
    cache = ResultCache(tmp_path / "cache")
    router = ModelRouter({"text": tiny_model}, cache=cache)
    first, second = (
        read_language(disclosure, router, count_tokens=tiny_model.count_tokens, max_tokens=32)
        for _ in range(2)
    )
    assert first.mean_score == pytest.approx(
        sum(p.score for p in first.passages) / len(first.passages)
    )
    assert len({p.score for p in first.passages}) > 1
    assert (first.n_cached, second.n_cached) == (0, len(first.passages))
    assert first.passages == second.passages
    assert first.provenance == second.provenance
    assert first.provenance.adapter == "lora"
    cache.close()


def test_a_filing_without_prose_is_refused(tiny_model, tmp_path):
    """A table alone gives no signal."""
    disclosure = call_disclosure(tmp_path, "1 2 3\n4 5 6\n" * 30)
    with pytest.raises(DocumentError, match="no sentence"):
        read_language(
            disclosure,
            ModelRouter({"text": tiny_model}),
            count_tokens=tiny_model.count_tokens,
            max_tokens=32,
        )


def test_only_whole_sections_are_read(tiny_model, tmp_path):
    """A 10-K without its Item 7 is read in Item 1A, with a note; without both it raises."""
    document = call_disclosure(tmp_path, "We may face risk and debt in the market. " * 3).document
    item_1a = Section("item_1a", "Risk Factors", 0, len(document.text))
    arguments = {"count_tokens": tiny_model.count_tokens, "max_tokens": 32}
    router = ModelRouter({"text": tiny_model})
    reading = read_language(Disclosure(document, "10-K", (item_1a,)), router, **arguments)
    assert reading.sections == ("item_1a",)
    assert any("item_7" in note for note in reading.notes)
    with pytest.raises(DocumentError, match="item_1a"):
        read_language(Disclosure(document, "10-K", ()), router, **arguments)


def test_a_real_call_is_cut_into_quotable_passages(tandem_data, tmp_path):
    """Passages of a real MAEC call are exact quotes of at most 96 tokens."""
    import pandas as pd

    calls = pd.read_parquet(tandem_data / "finance" / "maec_calls" / "calls_text.parquet")
    path = tmp_path / "call.txt"
    path.write_text(calls.text.iloc[0], encoding="utf-8")
    disclosure = read_disclosure(path)
    count = load_backbone("minilm").count_tokens
    document = disclosure.document
    spans = sentence_spans(document.text, 0, len(document.text), lines_may_wrap=True)
    passages = make_passages(document.text, spans, count, 96)
    texts = [document.text[a:b] for a, b in passages]
    assert max(count(texts)) <= 96
    assert 40 < len(passages) < 120
    assert all(text == text.strip() for text in texts)
