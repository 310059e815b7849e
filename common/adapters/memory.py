"""How much memory a training run needs, estimated from the anatomy of its base.

Weights, gradients and optimiser as Rajbhandari et al. 2019 (ZeRO, arXiv 1910.02054,
section 3.1) count them: Adam keeps two moments in float32 (Kingma and Ba 2014, arXiv
1412.6980), which with weight and gradient makes 16 bytes for each trained parameter, in
float32 (4 + 4 + 8) as in mixed precision (2 + 2 + 12, a float32 copy included). A frozen
parameter is its weight alone.

Activations as Korthikanti et al. 2022 (arXiv 2205.05198, section 4) count them: what each
linear layer gives, what attention and activation function give, the two inputs of the
linear layers behind norms, in the precision of the run, and two dropout masks of one byte.
For BERT's widths in 16 bits that is their 34 bytes for each token and hidden unit of a
block; the attention matrix is never kept (Dao et al. 2022, arXiv 2205.14135). With
gradient checkpointing a block keeps its input, and one block at a time the rest (Chen et
al. 2016, arXiv 1604.06174).

Not counted: logits (the loss comes in chunks), the framework's own memory, fragments.
Activations of a frozen layer that no gradient needs are counted, so that the figure for
small adapters lies on the high side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.adapters.anatomy import Anatomy
from common.adapters.methods import Method

__all__ = ["MemoryEstimate", "estimate_memory"]

GIB = 2**30
_BYTES = {"fp32": 4, "bf16": 2}
_GRADIENT = {"fp32": 4, "bf16": 2}
_OPTIMISER = {"fp32": 8, "bf16": 12}


@dataclass(frozen=True)
class MemoryEstimate:
    """Parts of the memory of a training run, in GiB."""

    weights_gib: float
    gradients_gib: float
    optimiser_gib: float
    activations_gib: float

    @property
    def total_gib(self) -> float:
        """The sum of the parts."""
        return self.weights_gib + self.gradients_gib + self.optimiser_gib + self.activations_gib


def estimate_memory(
    method: Method,
    anatomy: Anatomy,
    *,
    n_tokens: int,
    precision: Literal["fp32", "bf16"] = "fp32",
    gradient_checkpointing: bool = False,
) -> MemoryEstimate:
    """Estimates the peak memory of tuning a base.

    Args:
        method: What is trained.
        anatomy: The base.
        n_tokens: Tokens in one forward pass: rows times their padded length.
        precision: Of weights, gradients and activations.
        gradient_checkpointing: Whether blocks are computed again in the backward pass.

    Raises:
        AdapterError: The method names layers that the base does not have, or the base does
            not take it.
    """
    trained = method.count_parameters(anatomy)
    all_weights = anatomy.n_parameters + anatomy.n_lm_head_parameters
    all_weights += 0 if method.kind == "full" else trained
    activations = _activation_bytes(anatomy, precision, gradient_checkpointing) * n_tokens
    return MemoryEstimate(
        weights_gib=all_weights * _BYTES[precision] / GIB,
        gradients_gib=trained * _GRADIENT[precision] / GIB,
        optimiser_gib=trained * _OPTIMISER[precision] / GIB,
        activations_gib=activations / GIB,
    )


def _activation_bytes(anatomy: Anatomy, precision: str, checkpointing: bool) -> float:
    """Returns the bytes that all blocks keep of one token."""
    outputs = sum(x.count * x.n_out for x in anatomy.linears)
    ends = (anatomy.attention_output, anatomy.feed_forward_output)
    inputs = sum(x.count * x.n_in for x in anatomy.linears if x.name in ends)
    behind_norms = 2 * anatomy.n_layers * anatomy.hidden_size
    dropout_masks = 2 * anatomy.n_layers * anatomy.hidden_size
    kept = (outputs + inputs + behind_norms) * _BYTES[precision] + dropout_masks
    if not checkpointing:
        return kept
    block_inputs = anatomy.n_layers * anatomy.hidden_size * _BYTES[precision]
    return block_inputs + kept / anatomy.n_layers
