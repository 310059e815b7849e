"""Makes networks of 16 or so hidden units as real model folders: config, weights, tokenizer.

`make_tiny(family, folder)` writes any of `FAMILIES`; the MONAI networks, which have no
folder format of their own, come as modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tiny_bert import WORDS, make_tiny_bert

ENCODERS = ("bert", "roberta", "modernbert", "distilbert", "deberta-v2")
DECODERS = ("llama", "qwen2", "qwen3")
FAMILIES = (*ENCODERS, *DECODERS)

MAX_TOKENS = 32  # of every tiny text model, special tokens included
LAYERS = 2
HIDDEN = 16

_SPECIAL = {  # in the order of their ids, from 0
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}

# Two heads of key and value for four of query, as decoders have; qwen3's heads are wider
# than hidden_size / heads, as its own are.
_DECODER: Mapping[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": MAX_TOKENS,
}


def make_tiny(
    family: str, folder: Path, *, seed: int = 0, tied: bool = False, **changes: Any
) -> Path:
    """Writes config, safetensors weights and tokenizer of a 2-layer model to `folder`.

    Decoders are written with their language-model head (`...ForCausalLM`).

    Args:
        family: One of `FAMILIES`.
        folder: Where to write.
        seed: Seed of the weights.
        tied: Whether a decoder's head is its input embedding.
        changes: Fields of the transformers configuration to set otherwise.
    """
    import torch

    if family == "bert" and not changes:
        return make_tiny_bert(folder, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_byte_tokenizer if family == "qwen2" else _write_word_tokenizer
    n_words = write(folder)
    config = tiny_config(family, vocab_size=n_words, tied=tied, **changes)
    torch.manual_seed(seed)
    model_of(config).save_pretrained(str(folder))
    return folder


def tiny_config(family: str, *, vocab_size: int = 96, tied: bool = False, **changes: Any) -> Any:
    """Returns the transformers configuration of a tiny model of `family`."""
    import transformers

    encoder = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": MAX_TOKENS,
    }
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "bert": (transformers.BertConfig, encoder),
        # RoBERTa counts positions from the padding token's id + 1
        "roberta": (
            transformers.RobertaConfig,
            {**encoder, "max_position_embeddings": MAX_TOKENS + 2},
        ),
        "modernbert": (
            transformers.ModernBertConfig,
            {**encoder, "local_attention": 8, "intermediate_size": 24},
        ),
        "distilbert": (
            transformers.DistilBertConfig,
            {
                "dim": HIDDEN,
                "n_layers": LAYERS,
                "n_heads": 2,
                "hidden_dim": 32,
                "max_position_embeddings": MAX_TOKENS,
            },
        ),
        "deberta-v2": (
            transformers.DebertaV2Config,
            {**encoder, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        ),
        "llama": (transformers.LlamaConfig, dict(_DECODER)),
        "qwen2": (transformers.Qwen2Config, dict(_DECODER)),
        "qwen3": (transformers.Qwen3Config, {**_DECODER, "head_dim": 8}),
    }
    kind, fields = kinds[family]
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if family == "modernbert":
        tokens |= {"cls_token_id": 0, "sep_token_id": 2}
    if family in DECODERS:
        fields["tie_word_embeddings"] = tied
    return kind(**{"vocab_size": vocab_size, **tokens, **fields, **changes})


def model_of(config: Any) -> Any:
    """Builds the network of `config`: a decoder with its language-model head."""
    from transformers import AutoModel, AutoModelForCausalLM

    decoder = config.model_type in DECODERS
    return (AutoModelForCausalLM if decoder else AutoModel).from_config(config).eval()


def _write_word_tokenizer(folder: Path) -> int:
    """Writes a word and letter tokenizer with `<s> ... </s>`; returns its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,")
    words = [*_SPECIAL.values(), *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token=_SPECIAL["unk_token"]))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=MAX_TOKENS, **_SPECIAL
    )
    tokenizer.save_pretrained(str(folder))
    return len(words)


def _write_byte_tokenizer(folder: Path) -> int:
    """Writes Qwen2's own kind, for transformers loads no other for it; returns its size."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import Qwen2Tokenizer

    core = ByteLevelBPETokenizer()
    spoken = [" ".join([*WORDS, *WORDS])] * 8
    core.train_from_iterator(spoken, vocab_size=400, special_tokens=[*_SPECIAL.values()])
    core.save_model(str(folder))
    tokenizer = Qwen2Tokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=MAX_TOKENS,
        **_SPECIAL,
    )
    tokenizer.save_pretrained(str(folder))
    return len(tokenizer)


def tiny_vit(*, seed: int = 0, **changes: Any) -> Any:
    """Returns a MONAI ViT for `(batch, 1, 16, 16)` images, 2 blocks of 24 units."""
    import torch
    from monai.networks.nets import ViT

    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "mlp_dim": 40, "num_layers": 2, "num_heads": 3}
    fields = {"in_channels": 1, "img_size": (16, 16), "patch_size": (8, 8), "spatial_dims": 2}
    return ViT(**{**fields, **sizes, **changes}).eval()


def tiny_swin_unetr(*, seed: int = 0, **changes: Any) -> Any:
    """Returns a MONAI SwinUNETR for `(batch, 1, 64, 64)` images, one block per stage."""
    import torch
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(seed)
    fields = {"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2}
    stages = {"depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2)}
    return SwinUNETR(**{**fields, **stages, **changes}).eval()
