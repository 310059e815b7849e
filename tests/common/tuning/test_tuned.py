"""A saved model finds its own base, and predicts alike however texts are batched."""

from __future__ import annotations

import json

import pytest

from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import AdapterError, BackboneError, InputError
from common.tuning import Trainer
from common.tuning.tuned import load_tuned
from tests.tiny_bert import WORDS, make_tiny_bert

ROWS = [{"text": f"{WORDS[i % 14]} {WORDS[(i + 3) % 14]}", "label": i % 3} for i in range(12)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trainer, its base's folder, and the folder that it saved to."""
    place = tmp_path_factory.mktemp("tuned")
    base = make_tiny_bert(place / "base")
    trainer = Trainer(base, method=LoRA(rank=2), precision="fp32", device="cpu", too_long="chunk")
    trainer.fit(ROWS, epochs=1, out=place / "out")
    return trainer, base, place / "out"


def test_probabilities_add_to_one_and_name_every_label(saved):
    _, base, out = saved
    for result in load_tuned(out, model=base).predict(["risk debt", "profit"]):
        probabilities = result.values["probabilities"]
        assert set(probabilities) == {"0", "1", "2"}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert result.values["probability"] == max(probabilities.values())


def test_batches_do_not_matter(saved):
    """70 texts of all lengths, windows among them, in their order."""
    _, base, out = saved
    texts = [" ".join(WORDS[(i + k) % 14] for k in range(1 + i)) for i in range(70)]
    tuned = load_tuned(out, model=base)
    together = tuned.predict(texts)
    for i in (0, 33, 69):
        (alone,) = tuned.predict([texts[i]])
        assert alone.values["probabilities"] == pytest.approx(
            together[i].values["probabilities"], abs=2e-6
        )


def test_no_texts_have_no_results(saved):
    assert saved[0].predict([]) == []


def test_empty_texts_are_named(saved):
    with pytest.raises(InputError, match="none in 1, 3"):
        saved[0].predict(["risk", " ", "debt", ""])


def test_a_base_that_its_name_does_not_find_is_asked_for(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError, match=r"named base; .*Pass model= its folder"):
        load_tuned(saved[2])


def test_another_base_is_refused(saved, tmp_path):
    other = load_backbone(make_tiny_bert(tmp_path / "other", seed=5))
    with pytest.raises(AdapterError, match="one trained on"):
        load_tuned(saved[2], model=other)


def test_a_bundled_base_is_found_by_name(tmp_path):
    trainer = Trainer("minilm", method=LoRA(rank=1), precision="fp32", device="cpu")
    trainer.fit(ROWS, epochs=1, out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "base.json").read_text())["name"] == "minilm"
    assert load_tuned(tmp_path / "out").predict(["risk"])[0] == trainer.predict(["risk"])[0]


def test_one_text_is_not_read_letter_by_letter(saved):
    with pytest.raises(InputError, match="a list of texts"):
        saved[0].predict("risk")
