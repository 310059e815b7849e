"""The source article's two snippets run as it writes them; only its models stand for ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common.models.test_network import write_network
from tests.tiny_bert import WORDS, make_tiny_bert

ROUTER = """
from common.routing import ModelRouter
router = ModelRouter(models={"text": text_model, "image": image_model})
result = router.execute(
    {"type": "multimodal", "text_prompt": "risk and growth", "image_params": {"resolution": 1024}}
)
"""
TRAINER = """
from common.tuning import Trainer
report = Trainer(
    model=model, precision="fp8", gradient_checkpointing=True, distributed_strategy="ddp"
).fit(dataset, epochs=3)
"""
DATASET = [{"text": " ".join(WORDS[i : i + 3]), "label": ("good", "bad")[i % 2]} for i in range(12)]


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("article") / "text")


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = {
        "latent_shape": [4],
        "start_shape": [4, 8, 8],
        "channels": [4, 1],
        "strides": [2, 1],
    }
    folder = tmp_path_factory.mktemp("article") / "image"
    return write_network(folder, "Generator", arguments, kind="generator", latent=[4])


def test_the_routing_snippet_answers_both_parts(text_model: Path, image_model: Path) -> None:
    names: dict[str, object] = {"text_model": str(text_model), "image_model": image_model}
    exec(ROUTER, names)  # noqa: S102  # the article's own lines
    result = names["result"]
    assert sorted(result) == ["image", "text"]
    assert result["text"].result.arrays["embedding"].ndim == 1
    assert result["image"].result.arrays["pixels"].shape == (1024, 1024)
    assert result["text"].reason == "text is the only model that takes text"
    assert result["image"].reason == "image is the only model that takes image_request"
    names["router"].close()


def test_the_training_snippet_tunes_the_model(text_model: Path) -> None:
    names: dict[str, object] = {"model": str(text_model), "dataset": DATASET}
    exec(TRAINER, names)  # noqa: S102  # the article's own lines
    assert len(names["report"].history) == 3
