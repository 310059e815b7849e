"""Makes a BERT of 16 hidden units with its tokenizer, as a real model folder."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    "revenue",
    "cost",
    "risk",
    "growth",
    "debt",
    "market",
    "sales",
    "loss",
    "profit",
    "quarter",
    "year",
    "we",
    "may",
    "not",
)


def make_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """Writes config, safetensors weights and tokenizer of a 2-layer BERT to `folder`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(str(folder))
    return folder
