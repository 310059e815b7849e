"""GARCH(1,1)-t and GJR(1,1,1)-t of many companies by maximum likelihood, all at once.

The search runs in coordinates that make `arch`'s constraints a box: mu, omega, a, the share that
beta has of what a and b leave of 1 (all of it: persistence 1), 1 / nu, and in GJR b. There are
several searches, each from the best point of a grid, and the highest maximum stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from kits.finance.markets.panel_likelihood import (
    ReturnPanel,
    log_likelihood,
    log_likelihood_and_gradient,
    make_panel,
    variances,
)
from kits.finance.markets.panel_newton import Maximum, maximise

__all__ = ["PanelFit", "fit_panel_garch"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

BLOCK = 256  # companies at a time: with their starts 9 MB an array at 1,500 days

_EVEN = 0.5  # of news: rises and falls count alike
_BASINS = (
    tuple(product((0.98, 0.997), (0.001, 0.006, 0.02, 0.05))),  # slow: variance drifts
    tuple(product((0.6, 0.85, 0.95), (0.06, 0.12, 0.25))),  # fast: it jumps and comes back
    ((0.15, 0.1), (0.35, 0.1), (0.35, 0.25)),  # short: a jump is over in days
)
"""Persistence and news of the starts. Shares with rare jumps have maxima in several basins."""
_GRID_FALLS = (0.1, 0.9)  # their share of news, tried at the basin's best even point
_START_NU = 5.0
_LEAST_NU, _MOST_NU = 2.05, 500.0  # arch's bounds
_LEAST_OMEGA, _MOST_OMEGA = 1e-8, 10.0  # arch's, in units of the variance
_LONGEST_STEPS = (0.5, 0.5, 0.2, 0.3, 0.1, 0.2)  # mu, omega, a, share, 1 / nu, b


@dataclass(frozen=True, eq=False)
class PanelFit:
    """Fits of N companies, in units of their returns.

    Args:
        mu: `(N,)`, the mean.
        omega: `(N,)`.
        alpha: `(N,)`.
        gamma: `(N,)`, what falls add; 0 in GARCH.
        beta: `(N,)`.
        nu: `(N,)`, degrees of freedom.
        log_likelihood: `(N,)`.
        next_variance: `(N,)`, of the day after the last.
        standardized: N arrays `(T_i,)`: e_t / s_t.
        converged: `(N,)`.
        n_steps: Newton steps of the slowest company.
    """

    mu: Floats
    omega: Floats
    alpha: Floats
    gamma: Floats
    beta: Floats
    nu: Floats
    log_likelihood: Floats
    next_variance: Floats
    standardized: tuple[Floats, ...]
    converged: npt.NDArray[np.bool_]
    n_steps: int

    def variance_path(self, horizon_days: int) -> Floats:
        """Returns the expected variance of each coming day, `(N, horizon_days)`."""
        persistence = self.alpha + 0.5 * self.gamma + self.beta
        path = np.empty((len(self.mu), horizon_days))
        path[:, 0] = self.next_variance
        for day in range(1, horizon_days):
            path[:, day] = self.omega + persistence * path[:, day - 1]
        return path


def fit_panel_garch(returns: Sequence[Floats], *, model: Literal["garch", "gjr"]) -> PanelFit:
    """Fits every series; equal input gives equal fits, whatever stands beside it.

    Args:
        returns: N arrays `(T_i,)`, oldest first, none of them constant.
        model: "garch" or "gjr".
    """
    order = np.argsort([len(series) for series in returns], kind="stable")
    blocks = [order[at : at + BLOCK] for at in range(0, len(order), BLOCK)]
    fits = [_fit_block(make_panel([returns[i] for i in block]), model == "gjr") for block in blocks]
    back = np.argsort(order, kind="stable")
    standardized = [z for fit in fits for z in fit.standardized]

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(fit, name) for fit in fits])[back]

    return PanelFit(
        mu=joined("mu"),
        omega=joined("omega"),
        alpha=joined("alpha"),
        gamma=joined("gamma"),
        beta=joined("beta"),
        nu=joined("nu"),
        log_likelihood=joined("log_likelihood"),
        next_variance=joined("next_variance"),
        standardized=tuple(standardized[i] for i in back),
        converged=np.asarray(joined("converged"), dtype=bool),
        n_steps=max(fit.n_steps for fit in fits),
    )


def _fit_block(panel: ReturnPanel, asymmetric: bool) -> PanelFit:
    def value(x: Floats, rows: Rows) -> Floats:
        return log_likelihood(_natural(x.T), _of(panel, rows), asymmetric=asymmetric)

    def value_and_gradient(x: Floats, rows: Rows) -> tuple[Floats, Floats]:
        found, gradient = log_likelihood_and_gradient(
            _natural(x.T), _of(panel, rows), asymmetric=asymmetric
        )
        return found, _pulled_back(x.T, gradient, asymmetric=asymmetric).T

    mean = panel.scaled.sum(axis=0) / panel.lengths
    low = np.array([-20.0, _LEAST_OMEGA, 0.0, 0.0, 1 / _MOST_NU, 0.0])
    high = np.array([20.0, _MOST_OMEGA, 1.0, 1.0, 1 / _LEAST_NU, 1.0])
    k = 6 if asymmetric else 5
    starts = [_start(value, mean, basin, asymmetric=asymmetric) for basin in _BASINS]
    company = np.tile(np.arange(panel.n_companies), len(starts))
    found = maximise(
        lambda x, rows: value_and_gradient(x, company[rows]),
        np.concatenate(starts),
        lower=low[:k],
        upper=high[:k],
        longest=np.array(_LONGEST_STEPS[:k]),
        problem=company,
    )
    return _finished(panel, _highest(found, len(starts)), asymmetric=asymmetric)


def _highest(found: Maximum, n_starts: int) -> Maximum:
    """Returns each company's highest maximum; of equal ones that of the first start."""
    values = found.value.reshape(n_starts, -1)
    companies = np.arange(values.shape[1])
    rows = values.argmax(axis=0) * len(companies) + companies
    return Maximum(found.x[rows], found.value[rows], found.converged[rows], found.n_steps)


def _of(panel: ReturnPanel, rows: Rows) -> ReturnPanel:
    whole = len(rows) == panel.n_companies and bool((rows == np.arange(len(rows))).all())
    return panel if whole else panel.take(rows)


def _natural(x: Floats) -> Floats:
    """Returns `theta`, `(6, N)`, of these coordinates, `(k, N)`."""
    mu, omega, a, kept, inverse_nu = x[:5]
    b = x[5] if len(x) == 6 else a
    return np.stack([mu, omega, a, b, kept * (1.0 - 0.5 * (a + b)), 1.0 / inverse_nu])


def _pulled_back(x: Floats, gradient: Floats, *, asymmetric: bool) -> Floats:
    """Returns the gradient in these coordinates, `(k, N)`, by the chain rule."""
    a, kept, inverse_nu = x[2:5]
    b = x[5] if asymmetric else a
    d_mu, d_omega, d_a, d_b, d_beta, d_nu = gradient
    own = 0.5 if asymmetric else 1.0  # a alone, or a and b as one
    rows = [
        d_mu,
        d_omega,
        d_a - own * kept * d_beta,
        (1.0 - 0.5 * (a + b)) * d_beta,
        -d_nu / inverse_nu**2,
    ]
    return np.stack([*rows, d_b - own * kept * d_beta] if asymmetric else rows)


def _start(
    value: Callable[[Floats, Rows], Floats],
    mean: Floats,
    basin: Sequence[tuple[float, float]],
    *,
    asymmetric: bool,
) -> Floats:
    """Returns the best point of the basin's grid for each company, `(N, k)`.

    omega is what makes the long-run variance that of the sample.
    """
    rows = np.arange(len(mean), dtype=np.intp)
    best, best_value = np.empty((len(mean), 5 + asymmetric)), np.full(len(mean), -np.inf)
    chosen = np.zeros((len(mean), 2))

    def try_point(p: Floats, news: Floats, falls: float) -> None:
        a, b, kept = 2.0 * news * (1.0 - falls), 2.0 * news * falls, (p - news) / (1.0 - news)
        x = np.stack([mean, 1.0 - p, a, kept, np.full_like(p, 1.0 / _START_NU), b], axis=1)
        x = x[:, : best.shape[1]]
        found = value(x, rows)
        better = found > best_value
        best[better], best_value[better] = x[better], found[better]
        chosen[better] = np.stack([p, news], axis=1)[better]

    for p, news in basin:
        try_point(np.full(len(mean), p), np.full(len(mean), news), _EVEN)
    for falls in _GRID_FALLS if asymmetric else ():
        persistence, share = chosen.copy().T
        try_point(persistence, share, falls)
    return best


def _finished(panel: ReturnPanel, maximum: Maximum, *, asymmetric: bool) -> PanelFit:
    """Brings a block's maximum back to the units of its returns."""
    theta = _natural(maximum.x.T)
    mu, omega, a, b, beta, nu = theta
    e, news, s2 = variances(theta, panel, asymmetric=asymmetric)
    last, columns = panel.lengths - 1, np.arange(panel.n_companies)
    ahead = omega + news[last, columns] * e[last, columns] ** 2 + beta * s2[last, columns]
    z = e / np.sqrt(s2)
    return PanelFit(
        mu=mu * panel.scale,
        omega=omega * panel.scale**2,
        alpha=a,
        gamma=b - a,
        beta=beta,
        nu=nu,
        log_likelihood=maximum.value - panel.lengths * np.log(panel.scale),
        next_variance=ahead * panel.scale**2,
        standardized=tuple(z[:n, column].copy() for column, n in enumerate(panel.lengths)),
        converged=maximum.converged,
        n_steps=maximum.n_steps,
    )
