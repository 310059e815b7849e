"""What a network is made of, as far as adapters are concerned: sizes, linear layers, places.

For transformers models everything follows from the configuration by arithmetic, without
building anything; MONAI networks have no configuration and are read from the module. The
numbers are those of the model as `AutoModel` builds it, without a language model's head
and without BERT's pooler, which the hidden states do not depend on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.adapters.structure import UNUSED, Anatomy, Linear, Refusal, Role
from common.errors import AdapterError

__all__ = ["FAMILIES", "Anatomy", "Linear", "Refusal", "anatomy_of"]


def anatomy_of(network: Any) -> Anatomy:
    """Returns the anatomy of a transformers configuration or model, or a MONAI network.

    Args:
        network: A transformers configuration or model, a MONAI ViT or SwinUNETR, or what
            holds one of them as its `model` (a `Backbone`).

    Raises:
        AdapterError: The architecture is none of those known here.
    """
    if type(network).__name__ in _MODULES:
        return _MODULES[type(network).__name__](network)
    config = network if hasattr(network, "model_type") else getattr(network, "config", None)
    family = str(getattr(config, "model_type", ""))
    if family in _CONFIGURATIONS:
        return _CONFIGURATIONS[family](config)
    if config is None and hasattr(network, "model"):
        return anatomy_of(network.model)
    raise AdapterError(
        "network to adapt",
        expected=f"one of {', '.join(FAMILIES)}",
        found=family or type(network).__name__,
        remedy="Take a network of one of these families.",
    )


_OWN_ATTENTION = Refusal(
    "its attention is computed in one piece with relative positions, and offers no place "
    "where keys and values can be added",
    ("LoRA()", "Bottleneck()", "Full()"),
)
_IMAGES = Refusal(
    "its attention offers no place where keys and values can be added",
    ("LoRA()", "Bottleneck()", "Full()"),
)


def _bert(config: Any) -> Anatomy:
    """BERT (Devlin et al. 2018, arXiv 1810.04805); RoBERTa and its kin have the same layers."""
    h, inner, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    linears = (
        *(Linear(f"attention.self.{x}", h, h, "attention", n, True) for x in _QKV),
        Linear("attention.output.dense", h, h, "attention", n, True),
        Linear("intermediate.dense", h, inner, "feed_forward", n, True),
        Linear("output.dense", inner, h, "feed_forward", n, True),
    )
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    return Anatomy(
        **_widths(config),
        n_parameters=rows * h + 2 * h + 4 * h * n + _total(linears),
        blocks=r"encoder\.layer\.\d+",
        linears=linears,
        query_value=("attention.self.query", "attention.self.value"),
        attention_output="attention.output.dense",
        feed_forward_input="intermediate.dense",
        feed_forward_output="output.dense",
        n_positions=config.max_position_embeddings,
    )


def _roberta(config: Any) -> Anatomy:
    """RoBERTa (Liu et al. 2019, arXiv 1907.11692) counts positions from the padding id + 1."""
    taken = int(config.pad_token_id) + 1
    return replace(_bert(config), n_positions=config.max_position_embeddings - taken)


def _distilbert(config: Any) -> Anatomy:
    """DistilBERT (Sanh et al. 2019, arXiv 1910.01108)."""
    h, inner, n = config.dim, config.hidden_dim, config.n_layers
    linears = (
        *(Linear(f"attention.{x}_lin", h, h, "attention", n, True) for x in ("q", "k", "v", "out")),
        Linear("ffn.lin1", h, inner, "feed_forward", n, True),
        Linear("ffn.lin2", inner, h, "feed_forward", n, True),
    )
    rows = config.vocab_size + config.max_position_embeddings
    return Anatomy(
        **_widths(config),
        n_parameters=rows * h + 2 * h + 4 * h * n + _total(linears),
        blocks=r"transformer\.layer\.\d+",
        linears=linears,
        query_value=("attention.q_lin", "attention.v_lin"),
        attention_output="attention.out_lin",
        feed_forward_input="ffn.lin1",
        feed_forward_output="ffn.lin2",
        n_positions=config.max_position_embeddings,
    )


def _modernbert(config: Any) -> Anatomy:
    """ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""
    h, inner, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    att, mlp = bool(config.attention_bias), bool(config.mlp_bias)
    linears = (
        Linear("attn.Wqkv", h, 3 * h, "attention", n, att),
        Linear("attn.Wo", h, h, "attention", n, att),
        Linear("mlp.Wi", h, 2 * inner, "feed_forward", n, mlp),
        Linear("mlp.Wo", inner, h, "feed_forward", n, mlp),
    )
    norms = 2 * n + 1  # the first block has none before its attention; one after embeddings
    return Anatomy(
        **_widths(config),
        n_parameters=config.vocab_size * h + norms * (1 + config.norm_bias) * h + _total(linears),
        blocks=r"layers\.\d+",
        linears=linears,
        query_value=("attn.Wqkv",),
        attention_output="attn.Wo",
        feed_forward_input="mlp.Wi",
        feed_forward_output="mlp.Wo",
        n_positions=config.max_position_embeddings,
    )


def _deberta_v2(config: Any) -> Anatomy:
    """DeBERTa-v2 and v3 (He et al. 2020 and 2021, arXiv 2006.03654 and 2111.09543)."""
    h, inner, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    kinds = config.pos_att_type or ()
    apart = config.relative_attention and not getattr(config, "share_att_key", False)
    projections = ["query_proj", "key_proj", "value_proj"]
    projections += ["pos_key_proj"] * (apart and "c2p" in kinds)
    projections += ["pos_query_proj"] * (apart and "p2c" in kinds)
    linears = (
        *(Linear(f"attention.self.{x}", h, h, "attention", n, True) for x in projections),
        Linear("attention.output.dense", h, h, "attention", n, True),
        Linear("intermediate.dense", h, inner, "feed_forward", n, True),
        Linear("output.dense", inner, h, "feed_forward", n, True),
    )
    return Anatomy(
        **_widths(config),
        n_parameters=_deberta_v2_embeddings(config) + 4 * h * n + _total(linears),
        blocks=r"encoder\.layer\.\d+",
        linears=linears,
        query_value=("attention.self.query_proj", "attention.self.value_proj"),
        attention_output="attention.output.dense",
        feed_forward_input="intermediate.dense",
        feed_forward_output="output.dense",
        n_positions=config.max_position_embeddings if config.position_biased_input else None,
        refusals={"prefix": _OWN_ATTENTION},
    )


def _deberta_v2_embeddings(config: Any) -> int:
    """Parameters outside the blocks: embeddings, relative positions, convolution."""
    h, width = config.hidden_size, getattr(config, "embedding_size", config.hidden_size)
    rows = config.vocab_size + config.type_vocab_size
    rows += config.max_position_embeddings * bool(config.position_biased_input)
    count = rows * width + (width * h if width != h else 0) + 2 * h
    if config.relative_attention:
        farthest = getattr(config, "max_relative_positions", -1)
        farthest = farthest if farthest >= 1 else config.max_position_embeddings
        buckets = getattr(config, "position_buckets", -1)
        count += 2 * (buckets if buckets > 0 else farthest) * h
    count += 2 * h * ("layer_norm" in getattr(config, "norm_rel_ebd", "none").lower())
    if (kernel := getattr(config, "conv_kernel_size", 0)) > 0:
        count += h * (h // getattr(config, "conv_groups", 1)) * kernel + h + 2 * h
    return int(count)


def _llama(config: Any) -> Anatomy:
    """Llama (Touvron et al. 2023, arXiv 2302.13971) with its grouped-query attention."""
    attention = bool(getattr(config, "attention_bias", False))
    return _decoder(config, qkv=attention, out=attention, mlp=getattr(config, "mlp_bias", False))


def _qwen2(config: Any) -> Anatomy:
    """Qwen2 (Yang et al. 2024, arXiv 2407.10671): biases on query, key and value."""
    return _decoder(config, qkv=True, out=False, mlp=False)


def _qwen3(config: Any) -> Anatomy:
    """Qwen3 (Yang et al. 2025, arXiv 2505.09388): norms of query and key in each layer."""
    attention = bool(config.attention_bias)
    plain = _decoder(config, qkv=attention, out=attention, mlp=False)
    extra = 2 * plain.head_dim * plain.n_layers
    return replace(plain, n_parameters=plain.n_parameters + extra)


def _decoder(config: Any, *, qkv: bool, out: bool, mlp: bool) -> Anatomy:
    widths = _widths(config)
    h, inner, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    query = widths["n_heads"] * widths["head_dim"]
    key = widths["n_kv_heads"] * widths["head_dim"]
    linears = (
        Linear("self_attn.q_proj", h, query, "attention", n, qkv),
        Linear("self_attn.k_proj", h, key, "attention", n, qkv),
        Linear("self_attn.v_proj", h, key, "attention", n, qkv),
        Linear("self_attn.o_proj", query, h, "attention", n, out),
        Linear("mlp.gate_proj", h, inner, "feed_forward", n, mlp),
        Linear("mlp.up_proj", h, inner, "feed_forward", n, mlp),
        Linear("mlp.down_proj", inner, h, "feed_forward", n, mlp),
    )
    tied = bool(config.tie_word_embeddings)
    return Anatomy(
        **{**widths, "n_lm_head_parameters": 0 if tied else config.vocab_size * h},
        n_parameters=config.vocab_size * h + (2 * n + 1) * h + _total(linears),
        blocks=r"layers\.\d+",
        linears=linears,
        query_value=("self_attn.q_proj", "self_attn.v_proj"),
        attention_output="self_attn.o_proj",
        feed_forward_input="mlp.gate_proj",
        feed_forward_output="mlp.down_proj",
        n_positions=config.max_position_embeddings,
    )


def _monai_vit(network: Any) -> Anatomy:
    """MONAI's ViT (Dosovitskiy et al. 2020, arXiv 2010.11929)."""
    return _monai(network, family="vit", blocks=r"blocks\.\d+", attention=network.blocks[0].attn)


def _monai_swin_unetr(network: Any) -> Anatomy:
    """MONAI's SwinUNETR (Hatamizadeh et al. 2022, arXiv 2201.01266): the Swin stages only."""
    first = network.swinViT.layers1[0].blocks[0].attn
    blocks = r"swinViT\.layers\d+\.\d+(?:\.blocks\.\d+)?"
    return _monai(network, family="swin_unetr", blocks=blocks, attention=first)


def _monai(network: Any, *, family: str, blocks: str, attention: Any) -> Anatomy:
    """Collects the linear layers of a module's blocks, as they are."""
    found: dict[Linear, int] = {}
    for path, module in network.named_modules():
        inside = re.fullmatch(rf"{blocks}\.(.+)", path)
        if inside is None or not hasattr(module, "in_features"):
            continue
        name = inside.group(1)
        role: Role = "attention" if name.startswith("attn.") else "feed_forward"
        sizes = (module.in_features, module.out_features)
        linear = Linear(name, *sizes, role, 0, module.bias is not None)
        found[linear] = found.get(linear, 0) + 1
    linears = tuple(replace(linear, count=count) for linear, count in found.items())
    width, heads = attention.qkv.in_features, attention.num_heads
    return Anatomy(
        family=family,
        hidden_size=width,
        n_layers=sum(x.count for x in linears if x.name == "attn.qkv"),
        n_heads=heads,
        n_kv_heads=heads,
        head_dim=width // heads,
        n_parameters=sum(
            x.numel() for name, x in network.named_parameters() if not _is_unused(name)
        ),
        n_lm_head_parameters=0,
        blocks=blocks,
        linears=linears,
        query_value=("attn.qkv",),
        attention_output="attn.out_proj" if family == "vit" else "attn.proj",
        feed_forward_input="mlp.linear1",
        feed_forward_output="mlp.linear2",
        refusals={"prefix": _IMAGES},
    )


def _widths(config: Any) -> dict[str, Any]:
    heads = int(config.num_attention_heads)
    return {
        "family": config.model_type,
        "hidden_size": int(config.hidden_size),
        "n_layers": int(config.num_hidden_layers),
        "n_heads": heads,
        "n_kv_heads": int(getattr(config, "num_key_value_heads", None) or heads),
        "head_dim": int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        "n_lm_head_parameters": 0,
    }


def _is_unused(name: str) -> bool:
    return any(part in name for part in UNUSED)


def _total(linears: Sequence[Linear]) -> int:
    return sum(linear.n_parameters for linear in linears)


_QKV = ("query", "key", "value")

_CONFIGURATIONS: Mapping[str, Callable[[Any], Anatomy]] = {
    "bert": _bert,
    "camembert": _roberta,
    "deberta-v2": _deberta_v2,
    "distilbert": _distilbert,
    "llama": _llama,
    "mistral": _llama,
    "modernbert": _modernbert,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
_MODULES: Mapping[str, Callable[[Any], Anatomy]] = {
    "SwinUNETR": _monai_swin_unetr,
    "ViT": _monai_vit,
}

FAMILIES = (*sorted(_CONFIGURATIONS), "swin_unetr", "vit")
