"""Sizes of published networks, as their configurations on the model hub give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """A network's sizes and the layer names that peft's documentation gives for it."""

    sizes: dict[str, Any]
    query_value: list[str]
    all_linear: list[str]
    takes_prefix: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it is a language model with a head."""
        return "num_key_value_heads" in self.sizes


_BERT = ["query", "key", "value", "attention.output.dense", "intermediate.dense"]
_LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# The last name, output.dense, fits both output layers of a block and nothing else.
PUBLISHED = {
    "bert-base-uncased": Published(
        {"model_type": "bert"}, ["query", "value"], [*_BERT, "output.dense"]
    ),
    "all-MiniLM-L6-v2": Published(
        {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "intermediate_size": 1536,
        },
        ["query", "value"],
        [*_BERT, "output.dense"],
    ),
    "roberta-base": Published(
        {
            "model_type": "roberta",
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
        ["query", "value"],
        [*_BERT, "output.dense"],
    ),
    "distilbert-base-uncased": Published(
        {"model_type": "distilbert"},
        ["q_lin", "v_lin"],
        ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
    ),
    "ModernBERT-base": Published({"model_type": "modernbert"}, ["Wqkv"], ["Wqkv", "Wo", "Wi"]),
    "deberta-v3-base": Published(
        {
            "model_type": "deberta-v2",
            "vocab_size": 128100,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        ["query_proj", "value_proj"],
        [
            "query_proj",
            "key_proj",
            "value_proj",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ],
        takes_prefix=False,
    ),
    "TinyLlama-1.1B": Published(
        {
            "model_type": "llama",
            "vocab_size": 32000,
            "hidden_size": 2048,
            "num_hidden_layers": 22,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "intermediate_size": 5632,
            "max_position_embeddings": 2048,
        },
        ["q_proj", "v_proj"],
        _LLAMA,
    ),
    "Llama-3.2-1B": Published(
        {
            "model_type": "llama",
            "vocab_size": 128256,
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
        },
        ["q_proj", "v_proj"],
        _LLAMA,
    ),
    "Qwen2-0.5B": Published(
        {
            "model_type": "qwen2",
            "vocab_size": 151936,
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
        },
        ["q_proj", "v_proj"],
        _LLAMA,
    ),
    "Qwen3-0.6B": Published(
        {
            "model_type": "qwen3",
            "vocab_size": 151936,
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
            "max_position_embeddings": 40960,
            "tie_word_embeddings": True,
        },
        ["q_proj", "v_proj"],
        _LLAMA,
    ),
}


def config_of(name: str) -> Any:
    """Returns the transformers configuration of a published network."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**PUBLISHED[name].sizes)
