"""The log-likelihood of GARCH(1,1) and GJR(1,1,1) with Student's t, for many companies at once.

Arrays are `(T, N)`: days down, companies across, so that one step of the recursion is one
vector operation over all companies. With e_t = y_t - mu,

    s2_t = omega + a e_{t-1}^2 [e_{t-1} >= 0] + b e_{t-1}^2 [e_{t-1} < 0] + beta s2_{t-1}

which is GARCH (Bollerslev 1987) where a = b, and GJR (Glosten, Jagannathan and Runkle 1993)
with alpha = a and gamma = b - a. Before the first day e^2 and s2 are the backcast of `arch`
(weights 0.94^i over 75 days of squared deviations from the mean), so that both sides
maximise the same function. The gradient is exact, by the adjoint recursion
l_t = dL/ds2_t + beta l_{t+1}, which costs one more pass whatever the number of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "NATURAL",
    "ReturnPanel",
    "log_likelihood",
    "log_likelihood_and_gradient",
    "make_panel",
    "variances",
]

Floats = npt.NDArray[np.float64]

NATURAL = ("mu", "omega", "a", "b", "beta", "nu")
"""The rows of `theta`, `(6, N)`, in units of each company's standard deviation."""

_BACKCAST_DAYS = 75
_BACKCAST_DECAY = 0.94
_FOLD = 8
_FEW_COLUMNS = 48  # up to which a pass for each column costs less than a step for each day
_ONE = np.ones(1)


@dataclass(frozen=True, eq=False)
class ReturnPanel:
    """Returns of N companies, each divided by its own standard deviation.

    Args:
        scaled: `(T, N)`, oldest first from row 0; zero below a company's last day.
        lengths: `(N,)` days of each company; `T` is the longest.
        scale: `(N,)`, the standard deviations.
        backcast: `(N,)`, e^2 and s2 before the first day.
    """

    scaled: Floats
    lengths: npt.NDArray[np.intp]
    scale: Floats
    backcast: Floats

    @property
    def n_companies(self) -> int:
        """The number of columns."""
        return len(self.lengths)

    def take(self, columns: npt.NDArray[np.intp]) -> ReturnPanel:
        """Returns these companies' panel; a column may be taken more than once."""
        longest = int(self.lengths[columns].max())
        return ReturnPanel(
            scaled=np.ascontiguousarray(self.scaled[:longest, columns]),
            lengths=self.lengths[columns],
            scale=self.scale[columns],
            backcast=self.backcast[columns],
        )

    def outside(self) -> npt.NDArray[np.bool_] | None:
        """Returns `(T, N)`, true below a company's last day; None where there is no such."""
        days = len(self.scaled)
        if bool((self.lengths == days).all()):
            return None
        return np.asarray(np.arange(days)[:, None] >= self.lengths[None, :])


def make_panel(returns: Sequence[Floats]) -> ReturnPanel:
    """Returns the panel of these return series, `(T_i,)` each, none of them constant."""
    lengths = np.array([len(series) for series in returns], dtype=np.intp)
    scale = np.array([series.std() for series in returns])
    scaled = np.zeros((int(lengths.max()), len(returns)))
    backcast = np.empty(len(returns))
    for column, series in enumerate(returns):
        y = series / scale[column]
        scaled[: len(y), column] = y
        first = (y - y.mean())[:_BACKCAST_DAYS] ** 2
        weights = _BACKCAST_DECAY ** np.arange(len(first))
        backcast[column] = (first @ weights) / weights.sum()
    return ReturnPanel(scaled=scaled, lengths=lengths, scale=scale, backcast=backcast)


def variances(
    theta: Floats, panel: ReturnPanel, *, asymmetric: bool
) -> tuple[Floats, Floats, Floats]:
    """Returns e, the news coefficient of each day, and s2, each `(T, N)`.

    The coefficient is a after a day with e >= 0, else b; where not `asymmetric` it is a.
    """
    mu, omega, a, b, beta, _ = theta
    e = panel.scaled - mu
    outside = panel.outside()
    if outside is not None:
        e[outside] = 0.0
    news = np.where(e < 0, b, a) if asymmetric else np.broadcast_to(a, e.shape)
    s2 = np.empty_like(e)
    s2[0] = omega + (0.5 * (a + b) + beta) * panel.backcast
    np.multiply(e[:-1], e[:-1], out=s2[1:])
    s2[1:] *= news[:-1]
    s2[1:] += omega
    _accumulate(s2, beta)
    return e, news, s2


def log_likelihood(theta: Floats, panel: ReturnPanel, *, asymmetric: bool) -> Floats:
    """Returns the log-likelihood of each company's scaled returns, `(N,)`.

    Args:
        theta: `(6, N)`, see `NATURAL`; omega > 0, a, b, beta >= 0, nu > 2.
        panel: The returns.
        asymmetric: GJR; else a and b are one parameter and equal in `theta`.
    """
    nu = theta[5]
    e, _, s2 = variances(theta, panel, asymmetric=asymmetric)
    q = np.multiply(e, e, out=e)
    q /= s2
    q *= 1.0 / (nu - 2.0)
    q += 1.0
    outside = panel.outside()
    if outside is not None:
        s2[outside] = 1.0
    return np.asarray(
        panel.lengths * _constant(nu) - 0.5 * _sum_of_logs(s2) - 0.5 * (nu + 1.0) * _sum_of_logs(q)
    )


def log_likelihood_and_gradient(
    theta: Floats, panel: ReturnPanel, *, asymmetric: bool
) -> tuple[Floats, Floats]:
    """Returns the log-likelihood, `(N,)`, and its gradient in `theta`, `(6, N)`.

    Where not `asymmetric`, the row of a holds the derivative in the one parameter, b's is 0.
    """
    from scipy.special import digamma

    beta, nu = theta[4:]
    e, news, s2 = variances(theta, panel, asymmetric=asymmetric)
    squared = e * e
    inverse = 1.0 / s2
    q = squared * inverse
    q *= 1.0 / (nu - 2.0)
    q += 1.0
    log_sum = _sum_of_logs(q)
    kept = np.divide(1.0, q, out=q)  # of the pull of a return; the tail forgives the rest
    outside = panel.outside()
    if outside is not None:
        inverse[outside] = 0.0
        s2[outside] = 1.0
    value = panel.lengths * _constant(nu) - 0.5 * _sum_of_logs(s2) - 0.5 * (nu + 1.0) * log_sum
    forgiven = len(e) - kept.sum(axis=0)
    pull = inverse * kept
    direct = (nu + 1.0) / (nu - 2.0) * np.einsum("tn,tn->n", e, pull)
    adjoint = inverse  # dL/ds2 = (nu - (nu + 1) kept) / (2 s2)
    adjoint *= 0.5 * nu
    pull *= 0.5 * (nu + 1.0)
    adjoint -= pull
    _accumulate(adjoint[::-1], beta)
    later, first = adjoint[1:], adjoint[0] * panel.backcast
    squared[:-1] *= later
    d_a = squared[:-1].sum(axis=0) + first
    d_b = np.zeros_like(d_a)
    if asymmetric:
        d_b = np.where(e[:-1] < 0, squared[:-1], 0.0).sum(axis=0) + 0.5 * first
        d_a -= d_b
    through = np.einsum("tn,tn,tn->n", later, news[:-1], e[:-1])
    gradient = np.stack(
        [
            direct - 2.0 * through,
            adjoint.sum(axis=0),
            d_a,
            d_b,
            np.einsum("tn,tn->n", later, s2[:-1]) + first,
            0.5 * panel.lengths * (digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu) - 1 / (nu - 2.0))
            - 0.5 * log_sum
            + 0.5 * (nu + 1.0) / (nu - 2.0) * forgiven,
        ]
    )
    return value, gradient


def _accumulate(values: Floats, factor: Floats) -> None:
    """Turns u into x_t = u_t + factor x_{t-1}, down the rows, in place.

    Few columns go one by one through a compiled filter of the same two operations.
    """
    if values.shape[1] <= _FEW_COLUMNS:
        from scipy.signal import lfilter

        for column, pole in enumerate(factor):
            values[:, column] = lfilter(_ONE, (1.0, -pole), values[:, column])
        return
    carried = np.empty(values.shape[1])
    previous = values[0]
    for row in values[1:]:
        np.multiply(previous, factor, out=carried)
        np.add(row, carried, out=row)
        previous = row


def _sum_of_logs(values: Floats) -> Floats:
    """Returns the sum of ln values down the rows, `(N,)`.

    By the logarithm of products of eight: for scaled variances and tail terms they stay far
    inside float64, and a multiplication costs a tenth of a logarithm.
    """
    days = len(values)
    whole = days - days % _FOLD
    folded = values[:whole].reshape(-1, _FOLD, values.shape[1])
    product = folded[:, 0] * folded[:, 1]
    for i in range(2, _FOLD):
        product *= folded[:, i]
    return np.asarray(np.log(product).sum(axis=0) + np.log(values[whole:]).sum(axis=0))


def _constant(nu: Floats) -> Floats:
    from scipy.special import gammaln

    return np.asarray(
        gammaln(0.5 * (nu + 1.0)) - gammaln(0.5 * nu) - 0.5 * np.log(np.pi * (nu - 2.0))
    )
