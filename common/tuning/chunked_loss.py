"""Cross-entropy of a language model's output that never holds all its logits.

The logits of T tokens over V words are the largest tensor of a training step: at 8,192
tokens and 128,256 words two GiB in bfloat16, and the usual route keeps three copies, two
of them in float32. Here they are made, scored and turned into their gradient a chunk of
tokens at a time, in the forward pass, as in Liger Kernel (Hsu et al. 2024, arXiv
2410.10989): what is kept for the backward pass is the gradient of the hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.errors import InputError

__all__ = ["chunked_cross_entropy"]


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    chunk_tokens: int = 1024,
    ignore_index: int = -100,
) -> Tensor:
    """Returns the summed cross-entropy of `hidden @ weight.T` against `labels`.

    The sum, not the mean: the caller divides by the count of labels over all devices and
    accumulation steps. Labels are not shifted here. The result has one gradient: it
    cannot be differentiated twice.

    Args:
        hidden: Last hidden states, `(tokens, hidden)`.
        weight: The output layer's weight, `(words, hidden)`, in the type of `hidden` or
            in another; the product is taken in the type of `hidden`.
        labels: The right word of each token, `(tokens,)`; `ignore_index` where none counts.
        chunk_tokens: How many tokens' logits are held at a time.
        ignore_index: Label of tokens that do not count.

    Returns:
        A float32 scalar with gradients to `hidden`, and to `weight` where it requires one.

    Raises:
        InputError: The shapes do not fit each other, or `chunk_tokens` is not positive.
    """
    _require_shapes(hidden, weight, labels, chunk_tokens)
    differentiate = torch.is_grad_enabled()
    hidden_gradient = differentiate and hidden.requires_grad
    weight_gradient = differentiate and weight.requires_grad
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden,
        weight,
        labels,
        chunk_tokens,
        ignore_index,
        (hidden_gradient, weight_gradient),
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  # autograd passes arguments by position
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        chunk_tokens: int,
        ignore_index: int,
        wanted: tuple[bool, bool],
    ) -> Tensor:
        score = _compiled_score() if hidden.is_cuda else _score
        words = weight.to(hidden.dtype)  # [words, hidden]
        hidden_gradient = torch.empty_like(hidden) if wanted[0] else None
        weight_gradient = torch.zeros_like(words) if wanted[1] else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), chunk_tokens):
            rows = hidden[start : start + chunk_tokens]
            logits = rows @ words.t()  # [chunk, words]
            part, gradient = score(
                logits, labels[start : start + chunk_tokens], ignore_index, any(wanted)
            )
            total += part
            if hidden_gradient is not None and gradient is not None:
                torch.mm(gradient, words, out=hidden_gradient[start : start + chunk_tokens])
            if weight_gradient is not None and gradient is not None:
                weight_gradient.addmm_(gradient.t(), rows)
            del logits, gradient  # else two chunks' would be held at a time
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if hidden_gradient is not None:
            hidden_gradient = hidden_gradient * grad_output.to(hidden_gradient.dtype)
        if weight_gradient is not None:
            weight_gradient = (weight_gradient * grad_output.to(weight_gradient.dtype)).to(
                ctx.weight_dtype
            )
        return hidden_gradient, weight_gradient, None, None, None, None


def _score(
    logits: Tensor, labels: Tensor, ignore_index: int, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns the summed loss of one chunk and the gradient of its logits.

    With p = softmax(z): loss = logsumexp(z) - z[label], gradient = p - onehot(label).
    """
    scores = logits.float()  # [chunk, words]
    counted = labels != ignore_index
    targets = torch.where(counted, labels, 0)
    log_normaliser = scores.logsumexp(-1)
    losses = log_normaliser - scores.gather(1, targets[:, None])[:, 0]
    total = torch.where(counted, losses, 0.0).sum()
    if not differentiate:
        return total, None
    probabilities = (scores - log_normaliser[:, None]).exp()
    chosen = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    gradient = torch.where(chosen, probabilities - 1.0, probabilities)
    return total, (gradient * counted[:, None]).to(logits.dtype)


_COMPILED: dict[str, Any] = {}


def _compiled_score() -> Any:
    """Returns `_score` compiled, once in a process: two passes over the logits, no copies."""
    if "score" not in _COMPILED:
        _COMPILED["score"] = torch.compile(_score)
    return _COMPILED["score"]


def _require_shapes(hidden: Tensor, weight: Tensor, labels: Tensor, chunk_tokens: int) -> None:
    fits = hidden.dim() == 2 and weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    if not (fits and labels.shape == hidden.shape[:1] and chunk_tokens > 0):
        raise InputError(
            "language-model loss",
            expected="hidden (tokens, hidden), weight (words, hidden), labels (tokens,), "
            "chunk_tokens > 0",
            found=f"{tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(labels.shape)}, "
            f"{chunk_tokens}",
            remedy="Flatten batch and positions, and shift the labels, before the call.",
        )
