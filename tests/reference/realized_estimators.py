"""Prints volatility estimators of a few days, in plain Python and in the papers' own symbols.

Nothing of the kit is used: u, d and c are the normalised high, low and close of Garman and Klass
(1980), o the normalised opening of Yang and Zhang (2000).
"""

from __future__ import annotations

import itertools
import math

OPEN = (100.0, 101.5, 100.2, 103.0)
HIGH = (102.0, 103.1, 104.4, 103.9)
LOW = (99.2, 100.9, 99.7, 101.1)
CLOSE = (101.0, 101.2, 103.6, 101.9)
INTRADAY = (0.004, -0.002, 0.0, 0.011, -0.006)


def variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


days = list(zip(OPEN, HIGH, LOW, CLOSE, strict=True))
normalised = [(math.log(h / o), math.log(low / o), math.log(c / o)) for o, h, low, c in days]
parkinson = [(u - d) ** 2 / (4 * math.log(2)) for u, d, _ in normalised]
klass = [0.5 * (u - d) ** 2 - (2 * math.log(2) - 1) * c**2 for u, d, c in normalised]
rogers = [u * (u - c) + d * (d - c) for u, d, c in normalised]
nights = [math.log(o / previous) for o, previous in zip(OPEN[1:], CLOSE[:-1], strict=True)]
n = len(nights)
k = 0.34 / (1.34 + (n + 1) / (n - 1))
yang_zhang = (
    variance(nights)
    + k * variance([c for _, _, c in normalised[1:]])
    + (1 - k) * sum(rogers[1:]) / n
)
returns = [math.log(b / a) for a, b in itertools.pairwise(CLOSE)]
for name, values in (
    ("PARKINSON", parkinson),
    ("GARMAN_KLASS", klass),
    ("ROGERS_SATCHELL", rogers),
):
    print(f"{name} = ({', '.join(f'{value:.12e}' for value in values)})")
print(f"YANG_ZHANG = {yang_zhang:.12e}")
print(f"CLOSE_TO_CLOSE = {variance(returns):.12e}")

m = len(INTRADAY)
mu = math.sqrt(2 / math.pi)  # E|z| of a standard normal z
products = [abs(a) * abs(b) for a, b in itertools.pairwise(INTRADAY)]
print(f"REALIZED_VARIANCE = {sum(r * r for r in INTRADAY):.12e}")
print(f"NEGATIVE_SEMIVARIANCE = {sum(r * r for r in INTRADAY if r < 0):.12e}")
print(f"BIPOWER_VARIATION = {mu**-2 * m / (m - 1) * sum(products):.12e}")
print(f"REALIZED_QUARTICITY = {m / 3 * sum(r**4 for r in INTRADAY):.12e}")
