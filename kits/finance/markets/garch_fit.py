"""Conditional variance models of daily returns, fitted by `arch` and simulated here.

    r_t = mu + s_t z_t
    GARCH, GJR  s_t^2 = omega + (alpha + gamma [e_{t-1} < 0]) e_{t-1}^2 + beta s_{t-1}^2
    EGARCH      ln s_t^2 = omega + alpha (|z_{t-1}| - sqrt(2/pi)) + gamma z_{t-1}
                           + beta ln s_{t-1}^2
    EWMA        s_t^2 = (1 - decay) r_{t-1}^2 + decay s_{t-1}^2, decay 0.94, mu = 0

with e = r - mu and z Student's t or Hansen's skewed t, of variance 1 (EWMA: normal). GARCH:
Bollerslev (1987). GJR: Glosten, Jagannathan and Runkle (1993). EGARCH: Nelson (1991). Skewed
t: Hansen (1994). EWMA: RiskMetrics Technical Document (1996).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from kits.finance.markets.paths import (
    MAXIMUM_FIT_DAYS,
    N_PATHS,
    VolatilityPaths,
    still_prices,
)
from kits.finance.markets.prices import PriceHistory
from kits.finance.markets.volatility import log_returns

__all__ = [
    "EWMA_DECAY",
    "FORMS",
    "PERCENT",
    "FittedGarch",
    "GarchForm",
    "filter_returns",
    "fit_garch",
    "fit_returns",
]

Floats = npt.NDArray[np.float64]

PERCENT = 100.0  # arch's optimiser wants returns near 1, hence in percent
EWMA_DECAY = 0.94  # RiskMetrics' for daily data
_EWMA_START_DAYS = 75
_MOST_STEPS = 1000  # the optimiser's own 100 leave some EGARCH fits unfinished
_LARGEST_RISE = 10.0  # of simulated EGARCH volatility over the sample's largest; see `simulate`


@dataclass(frozen=True)
class GarchForm:
    """One model of the file's head, in `arch`'s words.

    Args:
        volatility: "GARCH", "EGARCH" or "EWMA".
        asymmetric: Whether falls count apart (gamma).
        distribution: "t", "skewt" or "normal".
    """

    volatility: str
    asymmetric: bool
    distribution: str


FORMS: Mapping[str, GarchForm] = {
    "egarch": GarchForm("EGARCH", True, "t"),
    "egarch-skewt": GarchForm("EGARCH", True, "skewt"),
    "ewma": GarchForm("EWMA", False, "normal"),
    "garch": GarchForm("GARCH", False, "t"),
    "garch-skewt": GarchForm("GARCH", False, "skewt"),
    "gjr": GarchForm("GARCH", True, "t"),
    "gjr-skewt": GarchForm("GARCH", True, "skewt"),
}
"""Model name to its form."""


@dataclass(frozen=True, eq=False)
class FittedGarch:
    """A conditional variance model that was fitted to returns.

    Args:
        mean: mu, a day's log return, decimal.
        next_volatility: s of the day after the last close, decimal.
        standardized_residuals: `(n,)`, z in the sample.
        parameters: `arch`'s names and values, of returns in percent.
        result: `arch`'s own result object; None where another route made the fit. It has
            standard errors where its search ended at once in percent.
        model: A name in `FORMS`.
        log_likelihood: Of the returns in decimals; NaN for EWMA, which has none.
        largest_volatility: The largest s in the sample, decimal.
    """

    mean: float
    next_volatility: float
    standardized_residuals: Floats
    parameters: dict[str, float]
    result: Any = field(repr=False)
    model: str = "garch"
    log_likelihood: float = float("nan")
    largest_volatility: float = float("inf")

    def expected_variance(self, horizon_days: int) -> Floats:
        """Returns E s^2 of each coming day, `(horizon_days,)`; of EGARCH from seeded paths."""
        if FORMS[self.model].volatility == "EGARCH":
            return self.simulate(horizon_days, seed=0).expected_variance
        omega, alpha, gamma, beta = self._recursion()
        persistence = alpha + 0.5 * gamma + beta
        path = np.empty(horizon_days)
        path[0] = self.next_volatility**2
        for day in range(1, horizon_days):
            path[day] = omega + persistence * path[day - 1]
        return path

    def simulate(self, horizon_days: int, *, seed: int) -> VolatilityPaths:
        """Returns paths of the conditional volatility and of squared shocks.

        With Student's t an EGARCH variance has no mean (Nelson 1991): its simulated volatility
        stops at ten times the sample's largest.
        """
        volatility, shocks = self._paths(horizon_days, seed)
        if FORMS[self.model].volatility == "EGARCH":
            mean = (volatility**2).mean(axis=0)
        else:
            mean = self.expected_variance(horizon_days)
        return VolatilityPaths(volatility, shocks**2, mean)

    def simulate_returns(self, horizon_days: int, *, seed: int) -> Floats:
        """Returns the log returns of the paths of `simulate`, `(N_PATHS, horizon_days)`."""
        return self.mean + self._paths(horizon_days, seed)[1]

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Draws z of the fitted distribution."""
        distribution = FORMS[self.model].distribution
        if distribution == "normal":
            return rng.standard_normal(shape)
        if distribution == "t":
            nu = self.parameters["nu"]
            return np.asarray(rng.standard_t(nu, shape) * np.sqrt((nu - 2.0) / nu))
        return self.quantile(rng.random(shape))

    def quantile(self, levels: Floats) -> Floats:
        """Returns the quantiles of z at these levels."""
        from scipy.stats import norm

        distribution = FORMS[self.model].distribution
        if distribution == "normal":
            return np.asarray(norm.ppf(levels), dtype=np.float64)
        from arch.univariate import SkewStudent, StudentsT

        law, names = (
            (StudentsT(), ("nu",)) if distribution == "t" else (SkewStudent(), ("eta", "lambda"))
        )
        values = np.array([self.parameters[name] for name in names])
        flat = np.atleast_1d(np.asarray(levels, dtype=np.float64)).ravel()
        return np.asarray(law.ppf(flat, values), dtype=np.float64).reshape(np.shape(levels))

    def _recursion(self) -> tuple[float, float, float, float]:
        """Returns omega (decimal), alpha, gamma, beta."""
        p = self.parameters
        if FORMS[self.model].volatility == "EWMA":
            return 0.0, 1.0 - p["decay"], 0.0, p["decay"]
        return p["omega"] / PERCENT**2, p["alpha[1]"], p.get("gamma[1]", 0.0), p["beta[1]"]

    def _paths(self, horizon_days: int, seed: int) -> tuple[Floats, Floats]:
        """Returns s and s z of each path and day."""
        z = self.draw((N_PATHS, horizon_days), np.random.default_rng(seed))
        egarch = FORMS[self.model].volatility == "EGARCH"
        volatility = self._exponential_paths(z) if egarch else self._quadratic_paths(z)
        return volatility, volatility * z

    def _quadratic_paths(self, z: Floats) -> Floats:
        omega, alpha, gamma, beta = self._recursion()
        weights = alpha + gamma * (z < 0)
        variance = np.empty_like(z)
        variance[:, 0] = self.next_volatility**2
        for day in range(1, z.shape[1]):
            before = variance[:, day - 1]
            news = weights[:, day - 1] * z[:, day - 1] ** 2
            variance[:, day] = omega + (news + beta) * before
        return np.sqrt(variance)

    def _exponential_paths(self, z: Floats) -> Floats:
        p = self.parameters
        news = p["alpha[1]"] * (np.abs(z) - np.sqrt(2 / np.pi)) + p["gamma[1]"] * z
        ceiling = 2.0 * np.log(_LARGEST_RISE * self.largest_volatility * PERCENT)
        logs = np.empty_like(z)
        logs[:, 0] = 2.0 * np.log(self.next_volatility * PERCENT)
        for day in range(1, z.shape[1]):
            moved = p["omega"] + news[:, day - 1] + p["beta[1]"] * logs[:, day - 1]
            logs[:, day] = np.minimum(moved, ceiling)
        return np.exp(0.5 * logs) / PERCENT


def fit_garch(history: PriceHistory, *, model: str = "garch") -> FittedGarch:
    """Fits a model of `FORMS` by maximum likelihood to the last 2,500 log returns.

    Raises:
        TableError: The prices do not move.
        ModelError: The optimiser found no maximum.
    """
    return fit_returns(log_returns(history.close)[-MAXIMUM_FIT_DAYS:], model=model)


def fit_returns(returns: Floats, *, model: str) -> FittedGarch:
    """Fits a model of `FORMS` to log returns in decimals, `(n,)`, oldest first.

    Raises:
        TableError: All returns are equal.
        ModelError: The optimiser found no maximum.
    """
    if np.std(returns) == 0:
        raise still_prices("equal returns on all days")
    if FORMS[model].volatility == "EWMA":
        return _ewma(returns)
    result = _optimum(PERCENT * returns, model)
    return _of_result(result, model)


def filter_returns(returns: Floats, fitted: FittedGarch) -> FittedGarch:
    """Runs a fit's recursion over other returns, `(n,)` in decimals; nothing is fitted.

    Raises:
        TableError: All returns are equal.
    """
    if np.std(returns) == 0:
        raise still_prices("equal returns on all days")
    if FORMS[fitted.model].volatility == "EWMA":
        return _ewma(returns)
    described = _described(PERCENT * returns, fitted.model)
    return _of_result(described.fix(list(fitted.parameters.values())), fitted.model)


def _of_result(result: Any, model: str) -> FittedGarch:
    """Returns what `arch` found or was told, in decimals."""
    ahead = result.forecast(horizon=1, reindex=False)
    residuals = np.asarray(result.std_resid, dtype=np.float64)
    return FittedGarch(
        mean=float(result.params["mu"]) / PERCENT,
        next_volatility=float(np.sqrt(ahead.variance.to_numpy()[-1, 0])) / PERCENT,
        standardized_residuals=residuals,
        parameters={name: float(value) for name, value in result.params.items()},
        result=result,
        model=model,
        log_likelihood=float(result.loglikelihood) + len(residuals) * float(np.log(PERCENT)),
        largest_volatility=float(np.max(result.conditional_volatility)) / PERCENT,
    )


def _optimum(percent: Floats, model: str) -> Any:
    """Returns `arch`'s result; where its search fails, that of returns of variance 1.

    Raises:
        ModelError: Neither search found a maximum.
    """
    described = _described(percent, model)
    result = described.fit(disp="off", show_warning=False, options={"maxiter": _MOST_STEPS})
    if result.convergence_flag == 0:
        return result
    scale = float(np.std(percent))
    scaled = _described(percent / scale, model).fit(
        disp="off", show_warning=False, options={"maxiter": _MOST_STEPS}
    )
    if scaled.convergence_flag != 0 or not np.isfinite(scaled.loglikelihood):
        raise ModelError(
            f"{model} fit",
            expected="a maximum of the likelihood",
            found=f"none (optimiser status {result.convergence_flag})",
            remedy="Check the prices for filled-in or erroneous values, or give a longer history.",
        )
    parameters = scaled.params.copy()
    parameters["mu"] *= scale
    if FORMS[model].volatility == "EGARCH":  # ln (scale s)^2 = ln scale^2 + ln s^2
        parameters["omega"] += (1.0 - parameters["beta[1]"]) * 2.0 * np.log(scale)
    else:
        parameters["omega"] *= scale**2
    return described.fix(parameters)


def _described(returns: Floats, model: str) -> Any:
    from arch import arch_model

    form = FORMS[model]
    return arch_model(
        returns,
        mean="Constant",
        vol=form.volatility,
        p=1,
        o=int(form.asymmetric),
        q=1,
        dist=form.distribution,
        rescale=False,
    )


def _ewma(returns: Floats) -> FittedGarch:
    """Runs the recursion; it starts at the mean square of the first 75 days."""
    from scipy.signal import lfilter

    squared = returns**2
    start = float(squared[:_EWMA_START_DAYS].mean()) or float(squared.mean())
    news = (1.0 - EWMA_DECAY) * squared
    variance, _ = lfilter([1.0], [1.0, -EWMA_DECAY], news, zi=[EWMA_DECAY * start])
    before = np.concatenate([[start], variance[:-1]])
    return FittedGarch(
        mean=0.0,
        next_volatility=float(np.sqrt(variance[-1])),
        standardized_residuals=returns / np.sqrt(before),
        parameters={"decay": EWMA_DECAY},
        result=None,
        model="ewma",
        largest_volatility=float(np.sqrt(before.max())),
    )
