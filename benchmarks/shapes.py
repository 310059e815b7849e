"""The network shapes that the tuning benchmarks measure, and networks made from them.

Speed and memory depend on shapes, not on trained weights, so the networks are drawn at
random from a seed: nothing is downloaded and every machine measures the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BERT_BASE",
    "LLAMA_1B",
    "LLAMA_3B",
    "LLAMA_SMALL",
    "MINILM",
    "SHAPES",
    "Shape",
    "build_causal_lm",
    "build_encoder",
    "draw_tokens",
]


@dataclass(frozen=True)
class Shape:
    """A transformers configuration by name.

    Args:
        name: Its name in results.
        family: `model_type` of the configuration ("llama", "bert").
        source: The published model that has this shape.
        settings: Arguments of the configuration class.
    """

    name: str
    family: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> Any:
        """Returns the transformers configuration, with `changes` to its settings."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.family, **{**self.settings, **changes})


LLAMA_1B = Shape(
    "llama-1.1b",
    "llama",
    "TinyLlama 1.1B (arXiv 2401.02385)",
    {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
)
LLAMA_3B = Shape(
    "llama-3b",
    "llama",
    "the layers of Llama 3.2 3B (arXiv 2407.21783), with a vocabulary of 32,000 words",
    {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
)
LLAMA_SMALL = Shape(
    "llama-15m",
    "llama",
    "a small shape of our own, for a CPU",
    {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 8192,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
)
BERT_BASE = Shape(
    "bert-base",
    "bert",
    "BERT base (arXiv 1810.04805)",
    {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    },
)
MINILM = Shape(
    "minilm-l6",
    "bert",
    "all-MiniLM-L6-v2 (arXiv 2002.10957)",
    {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    },
)
SHAPES = {shape.name: shape for shape in (LLAMA_1B, LLAMA_3B, LLAMA_SMALL, BERT_BASE, MINILM)}


def build_causal_lm(
    shape: Shape, *, device: str = "cpu", dtype: Any = None, seed: int = 0, **changes: Any
) -> Any:
    """Returns a causal language model of `shape` with random weights, built on `device`.

    Args:
        shape: A decoder's shape.
        device: Where it is built; a large one on the CPU takes minutes.
        dtype: Its torch dtype; float32 without it.
        seed: Seed of its weights.
        changes: Changes to the shape's settings, `num_hidden_layers=2` for a look.
    """
    from transformers import AutoModelForCausalLM

    return _build(AutoModelForCausalLM, shape.config(**changes), device, dtype, seed)


def build_encoder(
    shape: Shape, *, device: str = "cpu", dtype: Any = None, seed: int = 0, **changes: Any
) -> Any:
    """Returns the bare network of `shape` (`AutoModel`) with random weights, on `device`."""
    from transformers import AutoModel

    return _build(AutoModel, shape.config(**changes), device, dtype, seed)


def draw_tokens(
    shape: Shape, *, batch: int, length: int, device: str = "cpu", seed: int = 0
) -> Any:
    """Returns random token ids `(batch, length)`, never the first 100 (special) ones."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    vocabulary = int(shape.settings["vocab_size"])
    return torch.randint(100, vocabulary, (batch, length), generator=generator).to(device)


def _build(auto: Any, config: Any, device: str, dtype: Any, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return auto.from_config(
            config, dtype=dtype or torch.float32, attn_implementation="sdpa"
        ).eval()
