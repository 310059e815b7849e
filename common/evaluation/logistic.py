"""Logistic regression of a few terms by Newton's method, with its likelihood and covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ModelError

__all__ = ["LogisticFit", "fit_logistic", "logit", "sigmoid"]

Floats = npt.NDArray[np.float64]

_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class LogisticFit:
    """A maximum of the likelihood.

    Args:
        coefficients: `(n_terms,)`.
        covariance: `(n_terms, n_terms)`, the inverse of the information.
        log_likelihood: Sum over rows, in nats, without the penalty.
    """

    coefficients: Floats
    covariance: Floats
    log_likelihood: float


def fit_logistic(
    design: Floats, target: npt.ArrayLike, *, penalty: npt.ArrayLike = 0.0
) -> LogisticFit:
    """Maximises `sum t ln p + (1 - t) ln(1 - p) - sum penalty b^2 / 2`, p = sigmoid(design b).

    Args:
        design: `(n, n_terms)`; a column of ones is the intercept.
        target: `(n,)` within 0 to 1; fractions are soft labels.
        penalty: Ridge of every term `(n_terms,)`, or of all.

    Raises:
        ModelError: There is no finite maximum: the terms separate the classes, or repeat
            one another.
    """
    t = np.asarray(target, dtype=np.float64)
    ridge = np.broadcast_to(np.asarray(penalty, dtype=np.float64), design.shape[1:])
    beta = np.zeros(design.shape[1])
    value = _objective(design, t, beta, ridge)
    for _ in range(_STEPS):
        p = sigmoid(design @ beta)
        gradient = design.T @ (t - p) - ridge * beta
        information = design.T @ (design * (p * (1 - p))[:, None]) + np.diag(ridge)
        step = _solve(information, gradient)
        size = 1.0
        while (moved := _objective(design, t, beta + size * step, ridge)) < value and size > 1e-8:
            size /= 2
        beta, value = beta + size * step, max(value, moved)
        if np.abs(size * step).max() <= _TOLERANCE * (1 + np.abs(beta).max()):
            return LogisticFit(
                beta, _inverse(information), _objective(design, t, beta, np.zeros_like(ridge))
            )
    raise _no_maximum("no convergence")


def sigmoid(log_odds: npt.ArrayLike) -> Floats:
    """Returns 1 / (1 + exp(-x)), without overflow on either side."""
    x = np.asarray(log_odds, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def logit(probability: npt.ArrayLike) -> Floats:
    """Returns ln(p / (1 - p)); infinite at 0 and 1."""
    p = np.asarray(probability, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def _objective(design: Floats, t: Floats, beta: Floats, ridge: Floats) -> float:
    x = design @ beta
    return float((t * x - np.logaddexp(0.0, x)).sum() - (ridge * beta**2).sum() / 2)


def _solve(information: Floats, gradient: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(information, gradient))
    except np.linalg.LinAlgError as error:
        raise _no_maximum("a singular information matrix") from error


def _inverse(information: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.inv(information))
    except np.linalg.LinAlgError as error:
        raise _no_maximum("a singular information matrix") from error


def _no_maximum(found: str) -> ModelError:
    return ModelError(
        "logistic regression",
        expected="a finite maximum of the likelihood",
        found=found,
        remedy="Drop repeated terms, give more rows, or a penalty.",
    )
