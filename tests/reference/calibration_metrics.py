"""Prints golden numbers of common.evaluation by routes of their own.

DeLong's variance by its definition (a loop over all pairs), the curve fits by general-purpose
optimisers on the written-out likelihood, the rest by scikit-learn and scipy.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize
from scipy.stats import ks_2samp
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, mean_pinball_loss, roc_auc_score

random = np.random.default_rng(7)
score = np.round(random.normal(size=60), 1)  # with ties
other = np.round(score + random.normal(size=60), 1)
event = random.random(60) < 1 / (1 + np.exp(1 - 1.5 * score))


def psi(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def components(values: np.ndarray) -> tuple[list[float], list[float]]:
    ones, zeros = values[event], values[~event]
    v10 = [sum(psi(x, y) for y in zeros) / len(zeros) for x in ones]
    v01 = [sum(psi(x, y) for x in ones) / len(ones) for y in zeros]
    return v10, v01


def covariance(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def delong(first: np.ndarray, second: np.ndarray) -> float:
    (a1, a0), (b1, b0) = components(first), components(second)
    return covariance(a1, b1) / len(a1) + covariance(a0, b0) / len(a0)


print(f"EVENTS = {event.sum()}")
print(f"AUC = {roc_auc_score(event, score):.10f}")
print(f"AUC_STANDARD_ERROR = {math.sqrt(delong(score, score)):.10f}")
print(f"AUC_DIFFERENCE = {roc_auc_score(event, score) - roc_auc_score(event, other):.10f}")
variance = delong(score, score) + delong(other, other) - 2 * delong(score, other)
print(f"DIFFERENCE_STANDARD_ERROR = {math.sqrt(variance):.10f}")
print(f"KOLMOGOROV_SMIRNOV = {ks_2samp(score[event], score[~event]).statistic:.10f}")

u = 1 / (1 + np.exp(-score))
print(f"BRIER = {brier_score_loss(event, u):.10f}")
print(f"PINBALL = {mean_pinball_loss(score, np.full(60, 0.5), alpha=0.9):.10f}")

ones = event.sum()
target = np.where(event, (ones + 1) / (ones + 2), 1 / (60 - ones + 2))


def loss(x: np.ndarray) -> float:
    return float((np.logaddexp(0, x) - target * x).sum())


options = {"gtol": 1e-10, "maxiter": 10_000}
platt = minimize(lambda c: loss(c[0] + c[1] * score), [0, 1], method="BFGS", options=options).x
print(f"PLATT = ({platt[0]:.6f}, {platt[1]:.6f})")
beta = minimize(
    lambda c: loss(c[0] + c[1] * np.log(u) - c[2] * np.log(1 - u)),
    [0, 1, 1],
    method="L-BFGS-B",
    bounds=[(None, None), (0, None), (0, None)],
    options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000},
).x
print(f"BETA = ({beta[0]:.5f}, {beta[1]:.5f}, {beta[2]:.5f})")
isotonic = IsotonicRegression(y_min=1 / 62, y_max=61 / 62, out_of_bounds="clip").fit(score, event)
print(f"ISOTONIC = {np.round(isotonic.predict([-2.0, -0.55, 0.0, 0.85, 3.0]), 8).tolist()}")
