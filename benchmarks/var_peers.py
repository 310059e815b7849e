"""The peers of `finance.var`, written with `arch` and NumPy alone.

Each returns the forecast 1% quantile of every day's return after the first window, from the
returns before it. Parameters are estimated anew every `refit_days` days; in between the
recursion of the variance runs on. Returns are log returns in percent, `(T,)`; quantiles are NumPy's
linear ones, as in the figures that the benchmark has to reproduce first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from arch import arch_model
from scipy import stats

__all__ = ["PEERS", "peer_quantiles"]

Floats = npt.NDArray[np.float64]

PEERS = ("HS", "FHS", "FHS on GARCH-t", "GARCH-t", "GARCH-normal", "EWMA-normal")
EWMA_DECAY = 0.94


def peer_quantiles(
    returns: Floats, *, tail: float, window_days: int, refit_days: int
) -> Mapping[str, Floats]:
    """Returns each peer's quantiles, `(T - window_days,)`.

    Args:
        returns: `(T,)`, in percent.
        tail: Probability of the quantile, 0.01.
        window_days: Returns that a forecast uses.
        refit_days: Days between estimations.
    """
    n = len(returns) - window_days
    quantiles = {name: np.empty(n) for name in PEERS}
    runs = np.lib.stride_tricks.sliding_window_view(returns, window_days)[:-1]
    quantiles["HS"][:] = np.quantile(runs, tail, axis=1)
    quantiles["EWMA-normal"][:] = _ewma(runs) * stats.norm.ppf(tail)
    last: dict[str, Any] = {}
    for first in range(0, n, refit_days):
        days = slice(first, min(first + refit_days, n))
        block = returns[first : days.stop + window_days - 1]
        for law in ("normal", "t"):
            fitted = arch_model(
                block[:window_days], mean="Constant", vol="GARCH", dist=law, rescale=False
            ).fit(disp="off", show_warning=False)
            if fitted.convergence_flag == 0 or law not in last:
                last[law] = fitted.params
            mu, sigma, residuals = _filter(block, last[law], fitted, window_days)
            sample = np.lib.stride_tricks.sliding_window_view(residuals, window_days)
            empirical = mu + sigma * np.quantile(sample, tail, axis=1)
            quantiles["FHS" if law == "normal" else "FHS on GARCH-t"][days] = empirical
            quantiles[f"GARCH-{law}"][days] = mu + sigma * _law_quantile(last[law], tail)
    return quantiles


def _filter(
    block: Floats, parameters: Any, fitted: Any, window_days: int
) -> tuple[float, Floats, Floats]:
    """Returns mean, volatility of each day to forecast, and residuals of the block."""
    mu, omega, alpha, beta = (float(value) for value in parameters.iloc[:4])
    variance = np.empty(len(block) + 1)
    variance[0] = fitted.conditional_volatility[0] ** 2
    for day, shock in enumerate(block - mu):
        variance[day + 1] = omega + alpha * shock**2 + beta * variance[day]
    sigma = np.sqrt(variance)
    return mu, sigma[window_days:], (block - mu) / sigma[:-1]


def _law_quantile(parameters: Any, tail: float) -> float:
    if "nu" not in parameters:
        return float(stats.norm.ppf(tail))
    nu = float(parameters["nu"])
    return float(stats.t.ppf(tail, nu) * np.sqrt((nu - 2.0) / nu))


def _ewma(runs: Floats) -> Floats:
    """Returns RiskMetrics' volatility of the day after each run, `(n_runs,)`."""
    weights = EWMA_DECAY ** np.arange(runs.shape[1] - 1, -1, -1, dtype=np.float64)
    return np.asarray(np.sqrt((runs**2) @ weights / weights.sum()))
