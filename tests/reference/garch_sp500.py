"""Prints GARCH-t and GJR-t of the S&P 500 by a route of its own: recursion and simplex.

The last 1,500 log returns of `arch.data.sp500`, in percent. Nothing of `arch`'s models or of
this project is used: the variance recursion and the density of Student's t are written out,
and `scipy.optimize` finds the maximum by Nelder and Mead's simplex, which needs no gradient,
started twice from where it ended.
"""

from __future__ import annotations

import math

import numpy as np
from arch.data import sp500
from scipy.optimize import minimize

close = sp500.load()["Close"].to_numpy()
returns = (100 * np.diff(np.log(close)))[-1500:]
weights = 0.94 ** np.arange(75)
BACKCAST = float(((returns - returns.mean())[:75] ** 2) @ weights / weights.sum())


def variance(mu, omega, alpha, gamma, beta, days):
    """Returns the conditional variances of `days` days and of the one after them."""
    s2 = omega + (alpha + gamma / 2 + beta) * BACKCAST
    found = [s2]
    for value in returns[:days]:
        e = value - mu
        s2 = omega + (alpha + (gamma if e < 0 else 0.0)) * e * e + beta * s2
        found.append(s2)
    return found


def log_likelihood(mu, omega, alpha, gamma, beta, nu):
    """Returns the log-likelihood of returns in percent."""
    total = len(returns) * (
        math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(math.pi * (nu - 2))
    )
    s2 = variance(mu, omega, alpha, gamma, beta, len(returns))
    for value, v in zip(returns, s2, strict=False):
        total -= 0.5 * math.log(v) + (nu + 1) / 2 * math.log1p((value - mu) ** 2 / (v * (nu - 2)))
    return total


def parameters(x, asymmetric):
    """Returns mu, omega, alpha, gamma, beta, nu of unbounded coordinates."""
    omega, nu = math.exp(x[1]), 2.05 + math.exp(x[4])
    alpha, beta = math.exp(x[2]), 1 / (1 + math.exp(-x[3]))
    if not asymmetric:
        return x[0], omega, alpha, 0.0, beta, nu
    return x[0], omega, alpha, x[5], beta, nu


def loss(x, asymmetric):
    """Returns minus the log-likelihood, or a large number outside the constraints."""
    mu, omega, alpha, gamma, beta, nu = parameters(x, asymmetric)
    if alpha + gamma < 0 or alpha + gamma / 2 + beta > 1:
        return 1e10
    return -log_likelihood(mu, omega, alpha, gamma, beta, nu)


for name, start in (
    ("GARCH", [0.05, -3.5, -2.5, 2.0, 1.5]),
    ("GJR", [0.05, -3.5, -6.0, 2.0, 1.5, 0.2]),
):
    asymmetric = name == "GJR"
    x = np.array(start)
    for _ in range(3):
        options = {"maxiter": 6000, "maxfev": 6000, "xatol": 1e-9, "fatol": 1e-10}
        x = minimize(loss, x, args=(asymmetric,), method="Nelder-Mead", options=options).x
    mu, omega, alpha, gamma, beta, nu = parameters(x, asymmetric)
    path = [variance(mu, omega, alpha, gamma, beta, len(returns))[-1]]
    for _ in range(21):
        path.append(omega + (alpha + gamma / 2 + beta) * path[-1])
    print(f"{name}_LOG_LIKELIHOOD = {-loss(x, asymmetric):.6f}  # returns in percent")
    print(f"{name}_NEXT_VARIANCE = {path[0]:.6f}")
    print(f"{name}_VARIANCE_DAY_22 = {path[21]:.6f}")
