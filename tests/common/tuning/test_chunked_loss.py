"""The chunked loss equals the usual cross-entropy, in value and in both gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.errors import InputError
from common.tuning.chunked_loss import chunked_cross_entropy


def _draw(tokens: int = 23, hidden: int = 12, words: int = 31):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, hidden, generator=generator, requires_grad=True)
    weight = torch.randn(words, hidden, generator=generator, requires_grad=True)
    labels = torch.randint(0, words, (tokens,), generator=generator)
    labels[[0, 5, 22]] = -100
    return states, weight, labels


@pytest.mark.parametrize("chunk_tokens", [1, 7, 23, 1024])
def test_value_and_gradients_equal_the_usual_loss(chunk_tokens):
    states, weight, labels = _draw()
    expected = cross_entropy(states @ weight.T, labels, reduction="sum")
    gradients = torch.autograd.grad(expected / 20, (states, weight))
    loss = chunked_cross_entropy(states, weight, labels, chunk_tokens=chunk_tokens)
    found = torch.autograd.grad(loss / 20, (states, weight))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_frozen_output_layer_receives_no_gradient():
    states, weight, labels = _draw()
    frozen = weight.detach()
    chunked_cross_entropy(states, frozen, labels, chunk_tokens=8).backward()
    assert states.grad is not None
    assert frozen.grad is None


def test_without_gradients_the_value_is_the_same():
    states, weight, labels = _draw()
    with torch.no_grad():
        loss = chunked_cross_entropy(states, weight, labels, chunk_tokens=8)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, cross_entropy(states @ weight.T, labels, reduction="sum"))


def test_bfloat16_hidden_states_take_the_products_in_bfloat16():
    states, weight, labels = _draw()
    expected = cross_entropy(states @ weight.T, labels, reduction="sum")
    halved = states.detach().bfloat16().requires_grad_()
    loss = chunked_cross_entropy(halved, weight, labels, chunk_tokens=8)
    loss.backward()
    assert loss.dtype == torch.float32
    assert (halved.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(loss, expected, rtol=1e-2, atol=0)


def test_another_ignored_label_is_respected():
    states, weight, labels = _draw()
    labels = torch.where(labels == -100, 3, labels)
    loss = chunked_cross_entropy(states, weight, labels, chunk_tokens=8, ignore_index=3)
    expected = cross_entropy(states @ weight.T, labels, reduction="sum", ignore_index=3)
    torch.testing.assert_close(loss, expected)


def test_shapes_that_do_not_fit_are_refused():
    states, weight, labels = _draw()
    with pytest.raises(InputError, match="Flatten batch and positions"):
        chunked_cross_entropy(states[None], weight, labels)
