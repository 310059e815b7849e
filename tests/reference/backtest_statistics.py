"""Prints statistics and p values of the backtests by routes of their own.

Likelihood ratios in 50 digits by mpmath, the dynamic quantile by statsmodels' Wald form, the
ES statistics and scores by loops over plain lists. The forecasts are a constant VaR of 2.5% and
ES of 3.6% for the last 1,500 log returns of `arch.data.sp500`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import statsmodels.api as sm
from arch.data import sp500

mp.mp.dps = 50
LEVEL, VAR, ES, LAGS = 0.975, 0.025, 0.036, 4

close = sp500.load()["Close"].to_list()
losses = [-math.log(b / a) for a, b in pairwise(close)][-1500:]
hits = [loss > VAR for loss in losses]
n, x = len(hits), sum(hits)
p = mp.mpf(1) - mp.mpf("0.975")


def log_likelihood(k: int, of: int, q: mp.mpf) -> mp.mpf:
    return (k * mp.log(q) if k else mp.mpf(0)) + ((of - k) * mp.log(1 - q) if of - k else 0)


def p_value(statistic: mp.mpf, degrees: int) -> float:
    return float(mp.gammainc(mp.mpf(degrees) / 2, statistic / 2, regularized=True))


lr_pof = 2 * (log_likelihood(x, n, mp.mpf(x) / n) - log_likelihood(x, n, p))
counts = {(i, j): 0 for i in (False, True) for j in (False, True)}
for pair in pairwise(hits):
    counts[pair] += 1
n00, n01, n10, n11 = (
    counts[i, j] for i, j in ((False, False), (False, True), (True, False), (True, True))
)
after = mp.mpf(n01 + n11) / (n - 1)
lr_ind = 2 * (
    log_likelihood(n01, n00 + n01, mp.mpf(n01) / (n00 + n01))
    + log_likelihood(n11, n10 + n11, mp.mpf(n11) / (n10 + n11))
    - log_likelihood(n01 + n11, n - 1, after)
)
print(f"N, X = {n}, {x}")
print(f"KUPIEC = {float(lr_pof):.10f}, {p_value(lr_pof, 1):.10g}")
print(f"INDEPENDENCE = {float(lr_ind):.10f}, {p_value(lr_ind, 1):.10g}")
print(f"CONDITIONAL_COVERAGE = {float(lr_pof + lr_ind):.10f}, {p_value(lr_pof + lr_ind, 2):.10g}")

# A VaR that moves, so that it is a regressor beside the constant.
moving = np.array([VAR * (1 + 0.3 * math.sin(day / 50)) for day in range(n)])
hit = np.array([float(loss > var) for loss, var in zip(losses, moving, strict=True)]) - float(p)
design = sm.add_constant(
    np.column_stack([*(hit[LAGS - k : n - k] for k in range(1, LAGS + 1)), moving[LAGS:]])
)
beta = sm.OLS(hit[LAGS:], design).fit().params
dq = float(beta @ design.T @ design @ beta) / float(p * (1 - p))
print(f"DYNAMIC_QUANTILE = {dq:.10f}, {p_value(mp.mpf(dq), 6):.10g}")

ratios = [loss / ES for loss, hit_ in zip(losses, hits, strict=True) if hit_]
print(f"Z1 = {1 - sum(ratios) / len(ratios):.10f}")
print(f"Z2 = {1 - sum(ratios) / (n * (1 - LEVEL)):.10f}")
score = [(LEVEL if loss >= VAR else LEVEL - 1) * (loss - VAR) for loss in losses]
print(f"PINBALL = {sum(score) / n:.12f}")
# Patton, Ziegel and Chen (2019), equation 6, in their own signs: returns y, v and e negative.
v, e, alpha = -VAR, -ES, 1 - LEVEL
fz0 = [
    -(1 / (alpha * e)) * (y <= v) * (v - y) + v / e + math.log(-e) - 1 for y in (-k for k in losses)
]
print(f"FZ0 = {sum(fz0) / n:.12f}")

# Zones of 250 days at 99%: cumulative probability of k exceptions or fewer.
share = [mp.binomial(250, k) * mp.mpf("0.01") ** k * mp.mpf("0.99") ** (250 - k) for k in range(12)]
cumulative = [float(sum(share[: k + 1])) for k in range(12)]
print("CUMULATIVE =", [round(value, 10) for value in cumulative])
