"""Whether a later period still looks like the one that a model was built on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.evaluation.logistic import fit_logistic, logit
from common.evaluation.metrics import probabilities_and_events

__all__ = [
    "CalibrationDrift",
    "FeatureDrift",
    "StabilityIndex",
    "calibration_drift",
    "feature_drift",
    "population_stability_index",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Band = Literal["stable", "shifting", "shifted"]

_SHIFTING, _SHIFTED = 0.10, 0.25  # Siddiqi (2006), "Credit risk scorecards", chapter 8
_PSEUDOCOUNT = 0.5  # a bin that one period leaves empty would make the index infinite
_LEAST_EVENTS = 5


@dataclass(frozen=True)
class StabilityIndex:
    """Population stability index of one variable between two periods.

    Args:
        value: `sum (q - p) ln(q / p)` over bins; p shares of the reference, q of the current.
        band: "stable" below 0.10, "shifted" from 0.25 on, "shifting" between: a convention,
            blind to sample size.
        p_value: Of no drift, from value / (1 / n + 1 / m), which is close to chi-squared with
            bins - 1 degrees of freedom then (Yurdakul 2018, "Statistical properties of
            population stability index").
        edges: Inner edges of the bins, rising; a value equal to an edge lies below it.
        reference_shares: Shares by bin, the bin of missing values last if there are any.
        current_shares: The same of the current period.
    """

    value: float
    band: Band
    p_value: float
    edges: tuple[float, ...]
    reference_shares: tuple[float, ...]
    current_shares: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationDrift:
    """Whether probabilities mean in the current period what they meant in the reference.

    Both periods: log-odds of the event = a + b logit(probability); drift is the change of a and b.

    Args:
        intercept_change: a of the current period less a of the reference: the level, in log-odds.
        slope_change: b likewise: below 0 where the model has lost discrimination.
        statistic: Likelihood ratio of both changes against none, chi-squared with 2 degrees.
        p_value: Of no change.
        reference_ratio: Events over expected events in the reference.
        current_ratio: Events over expected events in the current period.
    """

    intercept_change: float
    slope_change: float
    statistic: float
    p_value: float
    reference_ratio: float
    current_ratio: float


@dataclass(frozen=True)
class FeatureDrift:
    """How far one feature's distribution has moved.

    Args:
        kolmogorov_smirnov: Largest distance of the two distribution functions.
        p_value: Of no drift; with many rows the smallest drift has a small one.
        wasserstein: Mean distance that values have to travel, in standard deviations of the
            reference; NaN where the reference does not vary.
        reference_missing: Share of missing values in the reference.
        current_missing: Share of missing values in the current period.
    """

    kolmogorov_smirnov: float
    p_value: float
    wasserstein: float
    reference_missing: float
    current_missing: float


def population_stability_index(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, n_bins: int = 10
) -> StabilityIndex:
    """Returns the index over bins of equal mass in the reference.

    Shares are counts plus one half, over their sum, so that empty bins stay finite. NaN is missing
    and has a bin of its own.

    Args:
        reference: `(n,)` values of the period that the model was built on.
        current: `(m,)` values of the later one.
        n_bins: Bins asked for; ties leave fewer.

    Raises:
        InputError: A period has fewer than `n_bins` values, or a value is infinite.
    """
    a, b = _periods(reference, current, n_bins)
    present = a[~np.isnan(a)]
    levels = np.arange(1, n_bins) / n_bins
    inner = np.unique(np.quantile(present, levels)) if present.size else np.array([])
    edges = inner[inner < present.max()] if present.size else inner
    p, q = _shares(a, b, edges)
    value = float(((q - p) * np.log(q / p)).sum())
    band: Band = "stable" if value < _SHIFTING else "shifting" if value < _SHIFTED else "shifted"
    return StabilityIndex(
        value=value,
        band=band,
        p_value=_chi_squared_tail(value / (1 / len(a) + 1 / len(b)), max(1, len(p) - 1)),
        edges=tuple(float(edge) for edge in edges),
        reference_shares=tuple(float(share) for share in p),
        current_shares=tuple(float(share) for share in q),
    )


def calibration_drift(
    reference: tuple[npt.ArrayLike, npt.ArrayLike], current: tuple[npt.ArrayLike, npt.ArrayLike]
) -> CalibrationDrift:
    """Returns how the probabilities' meaning changed between two periods, with a test.

    The recalibration model of Cox (1958, "Two further applications of a model for binary
    regression"), with a term for the period and one for its interaction.

    Args:
        reference: Probabilities and events of the earlier period.
        current: The same of the later one.

    Raises:
        InputError: Probabilities of 0 or 1, equal ones, or fewer than five rows of a class.
        ModelError: The probabilities separate the classes.
    """
    (p, e), (q, f) = _recalibrated(*reference), _recalibrated(*current)
    x = np.concatenate([logit(p), logit(q)])
    event = np.concatenate([e, f])
    later = np.repeat([0.0, 1.0], [len(p), len(q)])
    base = np.column_stack([np.ones_like(x), x])
    without = fit_logistic(base, event)
    with_change = fit_logistic(np.column_stack([base, later, later * x]), event)
    statistic = max(0.0, 2 * (with_change.log_likelihood - without.log_likelihood))
    return CalibrationDrift(
        intercept_change=float(with_change.coefficients[2]),
        slope_change=float(with_change.coefficients[3]),
        statistic=statistic,
        p_value=_chi_squared_tail(statistic, 2),
        reference_ratio=float(e.sum() / p.sum()),
        current_ratio=float(f.sum() / q.sum()),
    )


def feature_drift(reference: npt.ArrayLike, current: npt.ArrayLike) -> FeatureDrift:
    """Returns distances of a feature's distributions, missing values (NaN) aside.

    Raises:
        InputError: A period has no values, or one that is infinite.
    """
    from scipy.stats import ks_2samp, wasserstein_distance

    a, b = _periods(reference, current, 1)
    here, there = a[~np.isnan(a)], b[~np.isnan(b)]
    if not here.size or not there.size:
        raise _no_values("a value that is not missing in each period", "missing ones alone")
    found = ks_2samp(here, there, method="asymp")
    spread = float(here.std())
    moved = float(wasserstein_distance(here, there))
    return FeatureDrift(
        kolmogorov_smirnov=float(found.statistic),
        p_value=float(found.pvalue),
        wasserstein=moved / spread if spread > 0 else float("nan"),
        reference_missing=1 - here.size / a.size,
        current_missing=1 - there.size / b.size,
    )


def _shares(a: Floats, b: Floats, edges: Floats) -> tuple[Floats, Floats]:
    missing = bool(np.isnan(a).any() or np.isnan(b).any())
    n_bins = len(edges) + 1 + missing
    counts = []
    for values in (a, b):
        index = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values))
        counts.append(np.bincount(index, minlength=n_bins) + _PSEUDOCOUNT)
    return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def _periods(reference: npt.ArrayLike, current: npt.ArrayLike, least: int) -> tuple[Floats, Floats]:
    a, b = (np.asarray(values, dtype=np.float64) for values in (reference, current))
    if least < 1 or a.ndim != 1 or b.ndim != 1 or min(a.size, b.size) < least:
        raise _no_values(f"{max(1, least)} or more values (n,) in each", f"{a.shape}, {b.shape}")
    infinite = int(np.isinf(a).sum() + np.isinf(b).sum())
    if infinite:
        raise _no_values("finite values, NaN for missing ones", f"{infinite} infinite")
    return a, b


def _recalibrated(probability: npt.ArrayLike, event: npt.ArrayLike) -> tuple[Floats, Bools]:
    p, e = probabilities_and_events(probability, event)
    certain = int(((p == 0) | (p == 1)).sum())
    ones = int(e.sum())
    if certain or p.min() == p.max() or min(ones, len(e) - ones) < _LEAST_EVENTS:
        raise _no_values(
            f"differing probabilities within 0 and 1 and {_LEAST_EVENTS} rows of each class",
            f"{certain} of 0 or 1, {ones} events of {len(e)}",
        )
    return p, e


def _chi_squared_tail(statistic: float, degrees: int) -> float:
    from scipy.stats import chi2

    return float(chi2.sf(statistic, degrees))


def _no_values(expected: str, found: str) -> InputError:
    return InputError(
        "two periods",
        expected=expected,
        found=found,
        remedy="Give longer periods, and leave rows without an outcome out.",
    )
