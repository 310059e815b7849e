"""The tail of a sample of losses: its quantiles and what lies beyond them.

Losses are positive; `level` is 0.99 for 99%. A tail offers `quantile(levels)`, the loss that
is not exceeded with that probability, and `shortfall(level)`, the mean of the quantiles from
`level` to 1 (Acerbi and Tasche 2002), which is the mean loss beyond value at risk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = [
    "LEAST_TAIL_LOSSES",
    "EmpiricalTail",
    "LawTail",
    "ParetoTail",
    "Tail",
    "age_weights",
    "fit_pareto_tail",
    "fit_pareto_tails",
    "require_level",
]

Floats = npt.NDArray[np.float64]

LEAST_TAIL_LOSSES = 4  # fewer losses beyond VaR make ES the mean of almost nothing
TAIL_SHARE = 0.1  # McNeil and Frey (2000) take the 100 largest of 1,000 residuals
LARGEST_SHAPE = 0.9
# Shares of the tail's probability at which ES reads a law, s = w^4 at midpoints of w: dense
# where losses are largest; the weights are ds/dw.
_MIDPOINTS = (np.arange(1000) + 0.5) / 1000
_SHARES = _MIDPOINTS**4
_WEIGHTS = _MIDPOINTS**3 / np.sum(_MIDPOINTS**3)


class Tail(Protocol):
    """What a tail has to answer."""

    def quantile(self, levels: Floats | float) -> Floats:
        """Returns the losses that are not exceeded with these probabilities."""

    def shortfall(self, level: float) -> float:
        """Returns the mean loss beyond the quantile of `level`."""


@dataclass(frozen=True, eq=False)
class EmpiricalTail:
    """The losses themselves, each with its weight.

    VaR is the smallest loss whose weight of smaller or equal losses reaches `level`; ES is
    the weighted mean of the losses from there upwards.

    Args:
        losses: `(n,)`, rising.
        weights: `(n,)`, adding up to 1.
    """

    losses: Floats
    weights: Floats

    @classmethod
    def of(cls, losses: Floats, weights: Floats | None = None) -> EmpiricalTail:
        """Sorts losses; without weights each has the same."""
        order = np.argsort(losses, kind="stable")
        even = np.full(len(losses), 1.0 / len(losses)) if weights is None else weights
        return cls(np.asarray(losses)[order], even[order])

    def quantile(self, levels: Floats | float) -> Floats:
        """See `Tail`."""
        return self.losses[self._first(levels)]

    def shortfall(self, level: float) -> float:
        """See `Tail`."""
        first = int(self._first(level)[0])
        return float(np.average(self.losses[first:], weights=self.weights[first:]))

    @property
    def effective_size(self) -> float:
        """1 / sum of squared weights (Kish 1965): how many equal losses would say as much."""
        return float(1.0 / np.sum(self.weights**2))

    def _first(self, levels: Floats | float) -> npt.NDArray[np.intp]:
        # 1e-9: a sum of a thousand weights of 1/1000 must reach 0.99 at the 990th.
        first = np.searchsorted(np.cumsum(self.weights), np.atleast_1d(levels) - 1e-9)
        return np.minimum(first, len(self.losses) - 1)


@dataclass(frozen=True)
class ParetoTail:
    """Generalised Pareto law beyond a threshold (Balkema and de Haan 1974; Pickands 1975).

        P(L > x) = share (1 + xi (x - threshold) / scale)^(-1 / xi)

    Args:
        threshold: Where the tail begins.
        share: Probability of a loss beyond it.
        xi: Shape, below 1: otherwise the mean loss beyond VaR is infinite.
        scale: Scale, positive.
    """

    threshold: float
    share: float
    xi: float
    scale: float

    def quantile(self, levels: Floats | float) -> Floats:
        """See `Tail`; McNeil and Frey (2000), their equation for z_q."""
        ratio = self.share / (1.0 - np.atleast_1d(levels))
        if abs(self.xi) < 1e-8:
            return np.asarray(self.threshold + self.scale * np.log(ratio))
        return np.asarray(self.threshold + self.scale / self.xi * (ratio**self.xi - 1.0))

    def shortfall(self, level: float) -> float:
        """See `Tail`; (q + scale - xi threshold) / (1 - xi), McNeil and Frey (2000)."""
        q = float(self.quantile(level)[0])
        return (q + self.scale - self.xi * self.threshold) / (1.0 - self.xi)


@dataclass(frozen=True, eq=False)
class LawTail:
    """The tail of a law that is known by its quantiles; ES is an integral over them."""

    inverse: Callable[[Floats], Floats]

    def quantile(self, levels: Floats | float) -> Floats:
        """See `Tail`."""
        return np.asarray(self.inverse(np.atleast_1d(np.asarray(levels, dtype=np.float64))))

    def shortfall(self, level: float) -> float:
        """See `Tail`."""
        return float(self.quantile(1.0 - (1.0 - level) * _SHARES) @ _WEIGHTS)


def age_weights(n: int, decay: float) -> Floats:
    """Returns weights that fall by `decay` a day with age, `(n,)`, the latest day last.

    `decay^(age) (1 - decay) / (1 - decay^n)`, age 0 for the latest (Boudoukh, Richardson and
    Whitelaw 1998, "The best of both worlds").
    """
    raw = decay ** np.arange(n - 1, -1, -1, dtype=np.float64)
    return np.asarray(raw / raw.sum())


def fit_pareto_tail(losses: Floats, *, share: float = TAIL_SHARE) -> ParetoTail:
    """Fits the law to the largest `share` of one sample; see `fit_pareto_tails`."""
    return fit_pareto_tails(losses[np.newaxis], share=share)[0]


def fit_pareto_tails(losses: Floats, *, share: float = TAIL_SHARE) -> list[ParetoTail]:
    """Fits the law to the largest `share` of each sample.

    The estimator of Zhang and Stephens (2009, "A new and efficient estimation method for the
    generalized Pareto distribution"): with k = -xi and theta = k / scale, the mean of theta
    over its profile likelihood on a grid, which has the efficiency of maximum likelihood and
    exists for every sample. xi is kept at 0.9 at most, so that ES is finite.

    Args:
        losses: `(n_samples, n)`; a threshold is the largest loss that is not in the tail.
        share: Share of losses in the tail.

    Raises:
        TableError: There are fewer than 20 losses in the tail, or a quarter of them or more
            equals the threshold.
    """
    n = losses.shape[1]
    count = int(share * n + 1e-9)
    quarter = int(count / 4 + 0.5) - 1
    usable = 20 <= count < n
    ordered = np.sort(losses, axis=1)[:, -count - 1 :] if usable else losses[:, :1]
    y = ordered[:, 1:] - ordered[:, :1]  # [n_samples, count], rising excesses
    if not usable or not (y[:, quarter] > 0).all():
        raise TableError(
            "tail of losses",
            expected="20 or more losses beyond the threshold, most of them different from it",
            found=f"{count}" + (", many of them equal" if usable else ""),
            remedy="Give a longer history of prices that move.",
        )
    n_points = 30 + int(np.sqrt(count))
    steps = 1.0 - np.sqrt(n_points / (np.arange(1, n_points + 1) - 0.5))
    theta = 1.0 / y[:, -1:] + steps / (3.0 * y[:, quarter, np.newaxis])  # [n_samples, n_points]
    theta = np.where(np.abs(theta * y[:, -1:]) < 1e-9, 1e-9 / y[:, -1:], theta)
    k = -np.log1p(-theta[:, :, np.newaxis] * y[:, np.newaxis, :]).mean(axis=2)
    log_likelihood = count * (np.log(theta / k) + k - 1.0)
    weights = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    best = (theta * weights).sum(axis=1) / weights.sum(axis=1)  # [n_samples]
    shape = np.log1p(-best[:, np.newaxis] * y).mean(axis=1)
    scale = -shape / best
    return [
        ParetoTail(float(threshold), count / n, min(float(xi), LARGEST_SHAPE), float(size))
        for threshold, xi, size in zip(ordered[:, 0], shape, scale, strict=True)
    ]


def require_level(level: float, n_losses: float) -> None:
    """Refuses a level that leaves almost nothing beyond it.

    Raises:
        TableError: The level is out of bounds, or leaves too few losses beyond VaR.
    """
    beyond = (1.0 - level) * n_losses
    if 0.5 <= level < 1.0 and beyond >= LEAST_TAIL_LOSSES - 1e-9:
        return
    raise TableError(
        "level of value at risk",
        expected=f"0.5 to below 1, with {LEAST_TAIL_LOSSES} or more losses beyond it",
        found=f"{level:g}, with {beyond:.1f} losses beyond it",
        remedy="Choose a lower level or give a longer history.",
    )
