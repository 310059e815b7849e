"""Volatility filters: a day's variance from the days before it, and what is left of returns.

    r_t = mean + s_t z_t
    s_t^2 = omega + (alpha + gamma 1{e_{t-1} < 0}) e_{t-1}^2 + beta s_{t-1}^2,  e = r - mean

GARCH (Bollerslev 1986) has gamma 0, GJR (Glosten, Jagannathan and Runkle 1993) does not, and
EWMA (RiskMetrics 1996) has omega 0, alpha 0.06, beta 0.94 and mean 0. Returns are daily log
returns in decimals, `(T,)`, oldest first; residuals are z, free of the day's volatility.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import stdtrit

from common.errors import ModelError, TableError
from kits.finance.markets.garch_fit import EWMA_DECAY, PERCENT

__all__ = [
    "Distribution",
    "FilteredReturns",
    "Model",
    "VolatilityFilter",
    "fit_filter",
]

Floats = npt.NDArray[np.float64]
Model = Literal["ewma", "garch", "gjr"]
Distribution = Literal["normal", "skewt", "t"]


@dataclass(frozen=True, eq=False)
class FilteredReturns:
    """A filter's view of a run of returns.

    Args:
        variance: `(T + 1,)`; the last entry is that of the day after the last return.
        residuals: `(T,)`, z.
    """

    variance: Floats
    residuals: Floats

    @property
    def next_volatility(self) -> float:
        """The volatility of the day after the last return."""
        return float(np.sqrt(self.variance[-1]))


@dataclass(frozen=True)
class VolatilityFilter:
    """A fitted recursion; see the file's head for its equation.

    Args:
        model: "ewma", "garch" or "gjr".
        distribution: Of z: "normal", "t" (nu) or "skewt" (Hansen 1994: eta, lambda).
        mean: Of a day's log return.
        omega: Constant of the variance.
        alpha: Weight of the last squared shock.
        gamma: What a negative shock weighs more.
        beta: Weight of the last variance.
        first_variance: Variance of the first day of the fit.
        shape: Parameters of `distribution`.
        log_likelihood: Of the fit, returns in percent; NaN for EWMA, which is not fitted.
    """

    model: Model
    distribution: Distribution
    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    first_variance: float
    shape: tuple[float, ...] = ()
    log_likelihood: float = float("nan")

    def run(self, returns: Floats) -> FilteredReturns:
        """Filters returns that start on the first day of the fit.

        Args:
            returns: `(T,)`; they may go on beyond the days of the fit.
        """
        shocks = returns - self.mean
        news = self.omega + (self.alpha + self.gamma * (shocks < 0)) * shocks**2
        later, _ = lfilter([1.0], [1.0, -self.beta], news, zi=[self.beta * self.first_variance])
        variance = np.concatenate([[self.first_variance], later])
        return FilteredReturns(variance, shocks / np.sqrt(variance[:-1]))

    def simulate(self, next_variance: float, residuals: Floats) -> Floats:
        """Returns simulated log returns, `(n_paths, horizon)`.

        Args:
            next_variance: Variance of the first simulated day.
            residuals: `(n_paths, horizon)`, the z to be used.
        """
        variance = np.full(len(residuals), next_variance)
        returns = np.empty_like(residuals)
        for day in range(residuals.shape[1]):
            shocks = np.sqrt(variance) * residuals[:, day]
            returns[:, day] = self.mean + shocks
            weight = self.alpha + self.gamma * (shocks < 0)
            variance = self.omega + weight * shocks**2 + self.beta * variance
        return returns

    def quantile(self, probability: Floats) -> Floats:
        """Returns the quantiles of z under `distribution`, which has variance 1, `(n,)`."""
        p = np.atleast_1d(np.asarray(probability, dtype=np.float64))
        if self.distribution == "t":
            (nu,) = self.shape
            return np.asarray(stdtrit(nu, p) * np.sqrt((nu - 2.0) / nu))
        from arch.univariate import Normal, SkewStudent

        law = Normal() if self.distribution == "normal" else SkewStudent()
        return np.asarray(law.ppf(p, list(self.shape)), dtype=np.float64)


def fit_filter(
    returns: Floats, *, model: Model = "gjr", distribution: Distribution = "skewt"
) -> VolatilityFilter:
    """Fits a filter by maximum likelihood (`arch`), or takes EWMA's fixed decay.

    Args:
        returns: `(T,)`, 250 or more.
        model: The recursion.
        distribution: Of the residuals; EWMA takes "normal".

    Raises:
        TableError: There are too few returns, they are not finite, or they do not move.
        ModelError: The optimiser found no maximum.
    """
    _require_moving(returns)
    if model == "ewma":
        return VolatilityFilter(
            model="ewma",
            distribution="normal",
            mean=0.0,
            omega=0.0,
            alpha=1.0 - EWMA_DECAY,
            gamma=0.0,
            beta=EWMA_DECAY,
            first_variance=float(np.mean(returns**2)),
        )
    from arch import arch_model

    result = arch_model(
        PERCENT * returns,
        mean="Constant",
        vol="GARCH",
        o=int(model == "gjr"),
        dist={"normal": "normal", "t": "t", "skewt": "skewt"}[distribution],
        rescale=False,
    ).fit(disp="off", show_warning=False)
    values = {name: float(value) for name, value in result.params.items()}
    first = float(result.conditional_volatility[0]) / PERCENT
    if result.convergence_flag != 0 or not np.isfinite([first, *values.values()]).all():
        raise ModelError(
            f"{model} fit",
            expected="a maximum of the likelihood",
            found=f"none (optimiser status {result.convergence_flag})",
            remedy="Check the prices for filled-in or erroneous values, or give a longer history.",
        )
    return VolatilityFilter(
        model=model,
        distribution=distribution,
        mean=values["mu"] / PERCENT,
        omega=values["omega"] / PERCENT**2,
        alpha=values["alpha[1]"],
        gamma=values.get("gamma[1]", 0.0),
        beta=values["beta[1]"],
        first_variance=first**2,
        shape=tuple(values[name] for name in ("nu", "eta", "lambda") if name in values),
        log_likelihood=float(result.loglikelihood),
    )


def _require_moving(returns: Floats) -> None:
    n = len(returns)
    if n >= 250 and np.isfinite(returns).all() and np.std(returns) > 0:
        return
    raise TableError(
        "daily returns",
        expected="250 or more finite returns that move",
        found=f"{n}, {n - int(np.isfinite(returns).sum())} of them not finite"
        + (", all equal" if n and np.isfinite(returns).all() and np.std(returns) == 0 else ""),
        remedy="Give a longer history of traded prices.",
    )
