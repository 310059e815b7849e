r"""One LoRA adapter from those of several sites, exactly: the mean of products.

Sites i train A_i and B_i on data that stays with them; w_i is a site's share of all
samples. What their mean should be is the weighted mean of their updates,

    W + sum_i w_i B_i A_i                                                    (1)

and averaging the factors, (sum w_i B_i) (sum w_i A_i), is not that. Two exact forms:

- *stacked* (Wang et al. 2024, FLoRA, arXiv 2409.05976): A = [A_1; ...; A_k] and
  B = [w_1 B_1, ..., w_k B_k], of shapes `(sum r_i, n_in)` and `(n_out, sum r_i)`, have
  the product (1). Ranks may differ.
- *FedEx-LoRA* (Singhal et al. 2024, arXiv 2410.09432): the averages Ab = sum w_i A_i and
  Bb = sum w_i B_i go on being trained at rank r, and the frozen weight takes the residual

      dW_res = sum_i w_i B_i A_i - Bb Ab                                     (2)

A base is never written here, so (2) comes as factors of its own. Its rank is at most
(k - 1) r: since the w_i add up to 1, it is the covariance sum_i w_i (B_i - Bb)(A_i - Ab),
and with differences to the last site, D_i = B_i - B_k and E_i = A_i - A_k,

      dW_res = [D_1, ..., D_(k-1)] [w_1 (E_1 - Eb); ...],   Eb = sum_(i<k) w_i E_i

`combined` puts average and residual, or the updates of several rounds, side by side into
one adapter of their summed rank, which peft, `attach_adapter` and the bank load as any
other. `truncated` cuts the rank by a singular value decomposition and measures what is lost.

Everything is computed in float64 and given in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import InputError
from common.protocol.gradients.lora_update import Factors, LoraUpdate

__all__ = ["FedExAverage", "Truncated", "combined", "fedex_average", "stacked", "truncated"]


@dataclass(frozen=True, eq=False)
class FedExAverage:
    """A mean of updates in two parts, average + residual = (1).

    Args:
        average: The averages of A and of B, rank r: what is trained on.
        residual: (2), rank at most (k - 1) r: what is added to the frozen weight; for one
            site a zero of rank 1.
    """

    average: LoraUpdate
    residual: LoraUpdate

    def whole(self) -> LoraUpdate:
        """Returns both as one update, rank k r."""
        return combined([self.average, self.residual])


@dataclass(frozen=True, eq=False)
class Truncated:
    """An update of smaller rank, and what it lost.

    Args:
        update: The best one of its rank in the Frobenius norm (Eckart and Young 1936).
        errors: For each layer ||lost|| / ||update||, measured on what is given.
    """

    update: LoraUpdate
    errors: Mapping[str, float]

    @property
    def error(self) -> float:
        """The largest of the layers'."""
        return max(self.errors.values(), default=0.0)


def stacked(updates: Sequence[LoraUpdate], *, n_samples: Sequence[int]) -> LoraUpdate:
    """Returns the exact weighted mean (1) at the sum of the ranks.

    Args:
        updates: One of each site. A layer that a site does not adapt counts as no change.
        n_samples: Of each site; its weight is its share of their sum.

    Raises:
        InputError: There are no updates or samples, or layers or heads differ in shape.
    """
    weights = _weights(updates, n_samples)
    layers = {}
    for layer in _layers(updates):
        present = [
            (u.layers[layer], w) for u, w in zip(updates, weights, strict=True) if layer in u.layers
        ]
        a = torch.cat([x.a.double() for x, _ in present])
        b = torch.cat([x.b.double() * w for x, w in present], dim=1)
        layers[layer] = Factors(a.float(), b.float())
    return LoraUpdate(layers, _mean_head(updates, weights))


def fedex_average(updates: Sequence[LoraUpdate], *, n_samples: Sequence[int]) -> FedExAverage:
    """Returns the averages of the factors and the exact residual (2).

    Args:
        updates: One of each site, all of the same layers and rank.
        n_samples: Of each site; its weight is its share of their sum.

    Raises:
        InputError: There are no updates or samples, or layers, ranks or heads differ.
    """
    weights = _weights(updates, n_samples)
    averages, residuals = {}, {}
    for layer in _layers(updates):
        factors = [update.layers[layer] for update in updates if layer in update.layers]
        if len(factors) != len(updates) or len({x.rank for x in factors}) != 1:
            raise InputError(
                "LoRA updates",
                expected="the same layers and rank from every site, as FedEx-LoRA averages them",
                found=f"ranks {sorted({x.rank for x in factors})} from {len(factors)} sites",
                remedy="Use stacked(), which takes any ranks.",
            )
        a = _weighted([x.a for x in factors], weights).float()
        b = _weighted([x.b for x in factors], weights).float()
        averages[layer] = Factors(a, b)
        residuals[layer] = _residual(factors, weights)
    head = _mean_head(updates, weights)
    return FedExAverage(LoraUpdate(averages, head), LoraUpdate(residuals, head))


def combined(updates: Sequence[LoraUpdate]) -> LoraUpdate:
    """Returns the sum of updates, their factors side by side; the head is the last one's.

    Raises:
        InputError: There are none, or layers differ in shape.
    """
    layers = {}
    for layer in _layers(updates):
        present = [update.layers[layer] for update in updates if layer in update.layers]
        layers[layer] = Factors(
            torch.cat([x.a for x in present]), torch.cat([x.b for x in present], dim=1)
        )
    return LoraUpdate(layers, updates[-1].head)


def truncated(update: LoraUpdate, rank: int) -> Truncated:
    """Returns the best update of at most `rank`, and the measured relative error.

    At `rank` of a layer's smaller side, or of the update's true rank, nothing is lost but
    rounding: so an adapter that has grown over many rounds is made small again.

    Raises:
        InputError: The rank is below 1.
    """
    if rank < 1:
        raise InputError("rank", expected="1 or more", found=str(rank), remedy="Raise it.")
    cut = {layer: _cut(factors, rank) for layer, factors in update.layers.items()}
    errors = {
        layer: _relative_error(factors, cut[layer]) for layer, factors in update.layers.items()
    }
    return Truncated(LoraUpdate(cut, update.head), errors)


def _weights(updates: Sequence[LoraUpdate], n_samples: Sequence[int]) -> list[float]:
    if not updates or len(updates) != len(n_samples) or min(n_samples) < 1:
        raise InputError(
            "LoRA updates",
            expected="one or more, each with 1 or more samples",
            found=f"{len(updates)} updates, samples {list(n_samples)}",
            remedy="Leave out sites without data.",
        )
    return [n / sum(n_samples) for n in n_samples]


def _layers(updates: Sequence[LoraUpdate]) -> list[str]:
    """Returns the layers that any of the updates changes."""
    shapes: dict[str, set[tuple[int, int]]] = {}
    for update in updates:
        for layer, factors in update.layers.items():
            shapes.setdefault(layer, set()).add(factors.shape)
    if not shapes or any(len(found) > 1 for found in shapes.values()):
        raise InputError(
            "LoRA updates",
            expected="updates of one base: each layer with the same inputs and outputs",
            found="layers of several shapes" if shapes else "no layers",
            remedy="Aggregate adapters of one base.",
        )
    return sorted(shapes)


def _mean_head(updates: Sequence[LoraUpdate], weights: Sequence[float]) -> dict[str, Tensor]:
    """Returns the weighted mean of the heads (McMahan et al. 2017, arXiv 1602.05629)."""
    shapes = {tuple((name, tuple(x.shape)) for name, x in sorted(u.head.items())) for u in updates}
    if len(shapes) != 1:
        raise InputError(
            "heads",
            expected="heads of the same outputs from every site, or none",
            found=f"{len(shapes)} kinds",
            remedy="Train every site with the same labels.",
        )
    names = sorted(updates[0].head)
    return {name: _weighted([u.head[name] for u in updates], weights).float() for name in names}


def _weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    pairs = zip(tensors, weights, strict=True)
    return torch.stack([tensor.double() * weight for tensor, weight in pairs]).sum(dim=0)


def _residual(factors: Sequence[Factors], weights: Sequence[float]) -> Factors:
    last = factors[-1]
    if len(factors) == 1:
        return Factors(torch.zeros(1, last.shape[1]), torch.zeros(last.shape[0], 1))
    d = [x.b.double() - last.b.double() for x in factors[:-1]]
    e = [x.a.double() - last.a.double() for x in factors[:-1]]
    mean = _weighted(e, weights[:-1])
    a = torch.cat([(x - mean) * w for x, w in zip(e, weights, strict=False)])
    return Factors(a.float(), torch.cat(d, dim=1).float())


def _cut(factors: Factors, rank: int) -> Factors:
    """Returns the leading singular parts of B A, without forming it.

    With B = Q_b R_b and A^T = Q_a R_a the singular values of B A are those of R_b R_a^T,
    which is only `(r, r)`.
    """
    q_b, r_b = torch.linalg.qr(factors.b.double())
    q_a, r_a = torch.linalg.qr(factors.a.double().t())
    u, s, vt = torch.linalg.svd(r_b @ r_a.t())
    root = s[:rank].sqrt()  # shared by both sides, so that neither is large
    b = q_b @ u[:, : len(root)] * root
    a = (vt[: len(root)] * root[:, None]) @ q_a.t()
    return Factors(a.float(), b.float())


def _relative_error(whole: Factors, cut: Factors) -> float:
    """Returns ||whole - cut|| / ||whole|| in the Frobenius norm, from the factors alone."""
    difference = Factors(
        torch.cat([whole.a.double(), cut.a.double()]),
        torch.cat([whole.b.double(), -cut.b.double()], dim=1),
    )
    size = _norm(whole)
    return _norm(difference) / size if size else 0.0


def _norm(factors: Factors) -> float:
    """Returns ||B A||, as the norm of R_b R_a^T (see `_cut`)."""
    _, r_b = torch.linalg.qr(factors.b.double())
    _, r_a = torch.linalg.qr(factors.a.double().t())
    return float(torch.linalg.norm(r_b @ r_a.t()))
