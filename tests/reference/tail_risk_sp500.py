"""Prints VaR and ES of the S&P 500 by a route of its own: the recursion written out.

Filtered historical simulation on the last 2,500 returns of `arch.data.sp500`. Only the
parameters come from the package; variance, residuals and tomorrow's volatility are computed
here step by step, and the tail is read from a sorted list.
"""

from __future__ import annotations

import math
from itertools import pairwise

from arch import arch_model
from arch.data import sp500
from arch.univariate import GARCH

close = sp500.load()["Close"].to_list()
returns = [100 * math.log(b / a) for a, b in pairwise(close)][-2500:]
parameters = (
    arch_model(returns, mean="Constant", vol="GARCH", dist="t", rescale=False)
    .fit(disp="off")
    .params
)
mu, omega, alpha, beta = (parameters[k] for k in ("mu", "omega", "alpha[1]", "beta[1]"))

import numpy as np  # noqa: E402  # only for arch's starting value below

variance = GARCH(p=1, q=1).backcast(np.array(returns) - mu)
variance = omega + (alpha + beta) * variance
scaled = []
for value in returns:
    scaled.append((value - mu) / math.sqrt(variance))
    variance = omega + alpha * (value - mu) ** 2 + beta * variance
losses = sorted(1 - math.exp((mu + math.sqrt(variance) * z) / 100) for z in scaled)
first = math.ceil(0.99 * len(losses)) - 1
print(f"VALUE_AT_RISK = {losses[first]:.6f}")
print(f"EXPECTED_SHORTFALL = {sum(losses[first:]) / len(losses[first:]):.6f}")
