"""Prints golden numbers of the credit measures: exact fractions, and scipy's own solvers.

Worked examples of textbooks are recomputed here, so that the printed figure can be held
against the book's (given in the comments, rounded as there).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy.optimize import fsolve
from scipy.stats import norm

# Hull, "Risk Management and Financial Institutions", the Z-score example: 5.46.
ca_less_cl, ta, ebit, sales, mve, tl, re = 170, 670, 60, 2200, 380, 240, 300
z = (
    Fraction("1.2") * ca_less_cl / ta
    + Fraction("1.4") * re / ta
    + Fraction("3.3") * ebit / ta
    + Fraction("0.6") * mve / tl
    + Fraction("0.999") * sales / ta
)
print(f"Z = {float(z):.10f}")
be = ta - tl
z_prime = (
    Fraction("0.717") * ca_less_cl / ta
    + Fraction("0.847") * re / ta
    + Fraction("3.107") * ebit / ta
    + Fraction("0.420") * be / tl
    + Fraction("0.998") * sales / ta
)
print(f"Z_PRIME = {float(z_prime):.10f}")
z_double_prime = (
    Fraction("6.56") * ca_less_cl / ta
    + Fraction("3.26") * re / ta
    + Fraction("6.72") * ebit / ta
    + Fraction("1.05") * be / tl
)
print(f"Z_DOUBLE_PRIME = {float(z_double_prime):.10f}")

# Apple's 10-K for the year to 28 September 2024, million dollars as its statements print them.
apple = (
    6.56 * (152_987 - 176_392) / 364_980
    + 3.26 * -19_154 / 364_980
    + 6.72 * 123_216 / 364_980
    + 1.05 * 56_950 / 308_030
)
print(f"APPLE_2024 = {apple:.10f}")

# Ohlson's model 1 on a made company: 500 million dollars of assets, index 500, a loss after a loss.
assets, index, liabilities = 500e6, 500.0, 450e6
current_assets, current_liabilities, ni, before, ffo = 200e6, 160e6, -20e6, -5e6, 9e6
o = (
    -1.32
    - 0.407 * math.log(assets / index)
    + 6.03 * liabilities / assets
    - 1.43 * (current_assets - current_liabilities) / assets
    + 0.0757 * current_liabilities / current_assets
    - 1.72 * 0
    - 2.37 * ni / assets
    - 1.83 * ffo / liabilities
    + 0.285 * 1
    - 0.521 * (ni - before) / (abs(ni) + abs(before))
)
print(f"OHLSON = {o:.10f}")

# Hull, "Options, Futures, and Other Derivatives", Merton example: E 3, volatility 80%, D 10 in
# a year, 5%: V 12.40, volatility 21.23%, probability of default 12.7%.
E, volatility, D, r = 3.0, 0.8, 10.0, 0.05


def equations(x: np.ndarray) -> list[float]:
    V, s = x
    d1 = (math.log(V / D) + r + s * s / 2) / s
    return [
        V * norm.cdf(d1) - D * math.exp(-r) * norm.cdf(d1 - s) - E,
        norm.cdf(d1) * s * V - volatility * E,
    ]


V, s = fsolve(equations, [13.0, 0.2], xtol=1e-13)
d2 = (math.log(V / D) + r - s * s / 2) / s
print(f"HULL = (V {V:.8f}, sigma {s:.8f}, default {norm.cdf(-d2):.8f})")

# Bharath and Shumway's formula written out: E 3, F 10, volatility 80%, a return of -20%.
weight = 3 / 13
sigma = weight * 0.8 + (1 - weight) * (0.05 + 0.25 * 0.8)
naive = (math.log(13 / 10) + -0.2 - sigma**2 / 2) / sigma
print(f"NAIVE = (sigma {sigma:.10f}, distance {naive:.10f})")
