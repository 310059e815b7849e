"""Prints VaR and ES of each method on the S&P 500 by routes of its own.

The last 1,500 log returns of `arch.data.sp500`, 97.5%. Parameters come from `arch`; recursions,
weights and sorting are loops over plain lists; the Pareto tail is the paper's own formulas
(Zhang and Stephens 2009) in mpmath, its ES a numeric integral, and scipy's maximum likelihood
stands beside it; Student's ES is a numeric integral of scipy's density.
"""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath as mp
from arch import arch_model
from arch.data import sp500
from scipy import integrate, stats

LEVEL = 0.975
close = sp500.load()["Close"].to_list()
returns = [math.log(b / a) for a, b in pairwise(close)][-1500:]
losses = sorted(1 - math.exp(r) for r in returns)
first = math.ceil(LEVEL * len(losses)) - 1
print(f"HISTORICAL = {losses[first]:.10f}, {sum(losses[first:]) / len(losses[first:]):.10f}")

total = sum(0.99**age for age in range(1500))
weighted = sorted((1 - math.exp(r), 0.99 ** (1499 - at) / total) for at, r in enumerate(returns))
reached, at = 0.0, -1
while reached < LEVEL:
    at += 1
    reached += weighted[at][1]
tail = weighted[at:]
es = sum(loss * weight for loss, weight in tail) / sum(weight for _, weight in tail)
print(f"AGE_WEIGHTED = {weighted[at][0]:.10f}, {es:.10f}")


def residuals_of(dist: str, o: int) -> tuple[dict[str, float], list[float], float]:
    """Parameters in percent, residuals, and tomorrow's volatility in percent."""
    result = arch_model(
        [100 * r for r in returns], mean="Constant", vol="GARCH", o=o, dist=dist, rescale=False
    ).fit(disp="off")
    p = dict(result.params)
    variance, z = float(result.conditional_volatility[0]) ** 2, []
    for r in returns:
        shock = 100 * r - p["mu"]
        z.append(shock / math.sqrt(variance))
        weight = p["alpha[1]"] + (p.get("gamma[1]", 0.0) if shock < 0 else 0.0)
        variance = p["omega"] + weight * shock**2 + p["beta[1]"] * variance
    return p, z, math.sqrt(variance)


def loss_of(p: dict[str, float], sigma: float, z: float) -> float:
    return 1 - math.exp((p["mu"] + sigma * z) / 100)


for name, dist, o in (("FHS_GARCH", "normal", 0), ("FHS_GJR", "skewt", 1)):
    p, z, sigma = residuals_of(dist, o)
    scenarios = sorted(loss_of(p, sigma, value) for value in z)
    print(
        f"{name} = {scenarios[first]:.10f}, {sum(scenarios[first:]) / len(scenarios[first:]):.10f}"
    )

p, z, sigma = residuals_of("t", 0)
scale = math.sqrt((p["nu"] - 2) / p["nu"])


def student(u: float) -> float:
    return loss_of(p, sigma, scale * float(stats.t.ppf(1 - u, p["nu"])))


es = integrate.quad(student, LEVEL, 1, limit=500)[0] / (1 - LEVEL)
print(f"GARCH_T = {student(LEVEL):.10f}, {es:.10f}")

ordered = sorted(-value for value in z)
threshold = ordered[-151]
y = [mp.mpf(value - threshold) for value in ordered[-150:]]
n, m = len(y), 30 + int(math.sqrt(150))
quarter = y[int(n / 4 + 0.5) - 1]
grid = [1 / y[-1] + (1 - mp.sqrt(m / (mp.mpf(j) - 0.5))) / (3 * quarter) for j in range(1, m + 1)]


def shape(theta: mp.mpf) -> mp.mpf:
    return -sum(mp.log(1 - theta * value) for value in y) / n


profile = [n * (mp.log(theta / shape(theta)) + shape(theta) - 1) for theta in grid]
weights = [1 / sum(mp.exp(other - mine) for other in profile) for mine in profile]
theta = sum(t * w for t, w in zip(grid, weights, strict=True))
xi, beta = -shape(theta), shape(theta) / theta
ml = stats.genpareto.fit([float(value) for value in y], floc=0)
print(f"PARETO = {float(threshold):.10f}, {float(xi):.10f}, {float(beta):.10f}")
print(f"PARETO_ML = {ml[0]:.6f}, {ml[2]:.6f}")


def pareto(beyond: mp.mpf) -> mp.mpf:
    return threshold + beta / xi * ((mp.mpf("0.1") / beyond) ** xi - 1)


beyond = mp.mpf("0.025")
z_es = mp.quad(pareto, [0, 1e-6, 1e-3, beyond]) / beyond
print(f"PARETO_Z = {float(pareto(beyond)):.10f}, {float(z_es):.8f}")


def evt_loss(of: mp.mpf) -> mp.mpf:
    return 1 - mp.exp((p["mu"] - sigma * pareto(of)) / 100)


es = mp.quad(evt_loss, [0, 1e-6, 1e-3, beyond]) / beyond
print(f"EVT = {float(evt_loss(beyond)):.10f}, {float(es):.8f}")
