"""Fits the linkage's coefficients and measures what text adds over prices alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from common.evaluation.conformal import fit_split_conformal
from common.evaluation.logistic import fit_logistic, sigmoid
from kits.finance.risk.linkage import Linkage
from kits.finance.weights.calls import WINDOWS_DAYS, CallSet

__all__ = [
    "PriceRidge",
    "area_under_curve",
    "correlation",
    "evaluate",
    "fit_calibration",
    "fit_linkage",
    "fit_price_ridge",
    "fit_text_weight",
    "paired_interval",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EMBARGO_DAYS = 50  # labels span 31 sessions, 45 to 47 calendar days
_PENALTIES = tuple(float(10**power) for power in np.arange(-2, 4.5, 0.5))
_DRAWS = 10_000
_INTERVAL_LEVEL = 0.9
_LEAST_CALLS = 20
_SHUFFLES = 1_000


@dataclass(frozen=True)
class PriceRidge:
    """ln(sd) of the next 30 days from past log-volatilities, in their own units.

    Args:
        intercept: r0.
        coefficients: `(n_windows,)` r.
        penalty: The ridge penalty on standardised features.
        selection_mse: Squared error on the selection calls.
    """

    intercept: float
    coefficients: FloatArray
    penalty: float
    selection_mse: float

    def forecast(self, features: FloatArray) -> FloatArray:
        """Returns the forecast for features `(n, n_windows)`."""
        return np.asarray(self.intercept + features @ self.coefficients, dtype=np.float64)


def fit_price_ridge(calls: CallSet) -> PriceRidge:
    """Fits the ridge on the training calls; the selection calls choose its penalty."""
    train, selection = calls.in_role("train"), calls.in_role("selection")
    x, y = calls.features[train], calls.target[train]
    mean, scale = x.mean(0), x.std(0)
    z = (x - mean) / scale
    fits: list[PriceRidge] = []
    for penalty in _PENALTIES:
        beta = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y - y.mean()))
        ridge = PriceRidge(float(y.mean() - mean @ (beta / scale)), beta / scale, penalty, 0.0)
        error = calls.target[selection] - ridge.forecast(calls.features[selection])
        fits.append(
            PriceRidge(ridge.intercept, ridge.coefficients, penalty, float(np.mean(error**2)))
        )
    return min(fits, key=lambda fit: fit.selection_mse)


def fit_text_weight(residual: FloatArray, signal: FloatArray) -> dict[str, float]:
    """Fits the weight of the text signal by least squares with an intercept, then shrinks it.

    The shrinkage is the positive-part James-Stein factor for one coefficient,
    max(0, 1 - se^2 / slope^2); a negative slope gives 0. The intercept (the period's common
    surprise) is dropped, since no forecast could know it.

    Returns:
        "slope", "standard_error" and the shrunken "weight".
    """
    s = signal - signal.mean()
    r = residual - residual.mean()
    total = float(s @ s)
    if total == 0:
        return {"slope": 0.0, "standard_error": 0.0, "weight": 0.0}
    slope = float(s @ r) / total
    error = float(np.sqrt(np.sum((r - slope * s) ** 2) / (len(s) - 2) / total))
    factor = max(0.0, 1.0 - (error / slope) ** 2) if slope > 0 else 0.0
    return {"slope": slope, "standard_error": error, "weight": slope * factor if factor else 0.0}


def fit_calibration(forecast: FloatArray, event: BoolArray) -> tuple[float, float]:
    """Fits log-odds = a + b forecast by maximum likelihood.

    Returns:
        a and b.

    Raises:
        ModelError: Forecasts separate the events from the others: there is no maximum.
    """
    centre = float(forecast.mean())
    design = np.column_stack([np.ones_like(forecast), forecast - centre])
    intercept, slope = map(float, fit_logistic(design, event).coefficients)
    return intercept - slope * centre, slope


def fit_linkage(
    calls: CallSet, signals: FloatArray, ridge: PriceRidge, *, adapter_digest: str
) -> tuple[Linkage, dict[str, float]]:
    """Fits every coefficient but the test interval, which `evaluate` measures.

    Returns:
        The linkage, with an interval of (0, 0), and how its text weight came about.
    """
    forecast = ridge.forecast(calls.features)
    train, linking = calls.in_role("train"), calls.in_role("linkage")
    reference = np.concatenate([calls.in_role("selection"), linking])
    weight = fit_text_weight((calls.target - forecast)[linking], signals[linking])
    threshold = float(np.quantile(calls.target[train], 0.8))
    intercept, slope = fit_calibration(forecast[train], calls.target[train] > threshold)
    centre = float(signals[reference].mean())
    linked = forecast[reference] + weight["weight"] * (signals[reference] - centre)
    conformal = fit_split_conformal(calls.target[reference], linked, level=_INTERVAL_LEVEL)
    linkage = Linkage(
        windows_days=WINDOWS_DAYS,
        price_intercept=ridge.intercept,
        price_coefficients=tuple(float(c) for c in ridge.coefficients),
        price_centre=float(forecast[train].mean()),
        text_weight=weight["weight"],
        text_centre=centre,
        text_percentiles=tuple(float(q) for q in np.percentile(signals[reference], range(101))),
        calibration_intercept=intercept,
        calibration_slope=slope,
        event_threshold=threshold,
        mse_gain_interval=(0.0, 0.0),
        adapter_digest=adapter_digest,
        interval_radius=conformal.radius,
        interval_level=conformal.level,
        interval_calls=conformal.n_rows,
    )
    return linkage, weight


def evaluate(calls: CallSet, signals: FloatArray, linkage: Linkage) -> dict[str, Any]:
    """Measures prices only, linked and shuffled forecasts on the test calls.

    Returns:
        One block per subset: all test calls; those at least `EMBARGO_DAYS` after the last
        other call; those of companies without any other call. A subset of fewer than
        `_LEAST_CALLS` calls is left out.
    """
    test = calls.in_role("test")
    others = np.flatnonzero(calls.role != "test")
    first_free = calls.day[others].max() + np.timedelta64(EMBARGO_DAYS, "D")
    unseen = ~np.isin(calls.ticker[test], calls.ticker[others])
    subsets = {
        "all": test,
        f"embargo_{EMBARGO_DAYS}_days": test[calls.day[test] >= first_free],
        "unseen_companies": test[unseen],
    }
    return {
        name: _measure(calls, signals, linkage, rows)
        for name, rows in subsets.items()
        if len(rows) >= _LEAST_CALLS or name == "all"
    }


def area_under_curve(score: FloatArray, event: BoolArray) -> float:
    """Returns the probability that an event's score exceeds a non-event's, ties counted half."""
    n_events = int(event.sum())
    n_others = len(event) - n_events
    if not n_events or not n_others:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[event].sum() - n_events * (n_events + 1) / 2) / (n_events * n_others))


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Returns Pearson's correlation, 0 where one side does not vary."""
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def paired_interval(
    gain: FloatArray, company: npt.NDArray[np.str_], *, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95% bootstrap interval of the mean gain, drawing companies whole."""
    _, index = np.unique(company, return_inverse=True)
    sums, counts = np.bincount(index, weights=gain), np.bincount(index)
    draws = np.random.default_rng(seed).integers(len(sums), size=(_DRAWS, len(sums)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _measure(
    calls: CallSet, signals: FloatArray, linkage: Linkage, rows: npt.NDArray[np.int64]
) -> dict[str, Any]:
    target, company = calls.target[rows], calls.ticker[rows]
    event = target > linkage.event_threshold
    price = linkage.price_forecast(calls.features[rows])
    linked = price + linkage.text_term(signals[rows])
    naive = np.full_like(target, calls.target[calls.in_role("train")].mean())
    gain = (target - price) ** 2 - (target - linked) ** 2
    rng = np.random.default_rng(0)
    shuffled = np.array(
        [
            _mse(target, price + linkage.text_term(rng.permutation(signals[rows])))
            for _ in range(_SHUFFLES)
        ]
    )
    found = correlation(signals[rows], target - price)
    by_chance = np.array(
        [correlation(rng.permutation(signals[rows]), target - price) for _ in range(_SHUFFLES)]
    )
    return {
        "n_calls": len(rows),
        "n_companies": len(np.unique(company)),
        "event_rate": float(event.mean()),
        "train_mean": {"mse": _mse(target, naive)},
        "prices_only": _scores(target, price, event, linkage),
        "linked": _scores(target, linked, event, linkage),
        "shuffled_transcripts": {
            "mse_mean": float(shuffled.mean()),
            "share_as_good_as_linked": float(np.mean(shuffled <= _mse(target, linked))),
        },
        "signal_residual_correlation": found,
        "share_of_shuffles_with_such_a_correlation": float(np.mean(by_chance >= found)),
        **_coverage(target, linked, linkage),
        "mse_gain": float(gain.mean()),
        "mse_gain_interval": list(paired_interval(gain, company)),
    }


def _coverage(target: FloatArray, linked: FloatArray, linkage: Linkage) -> dict[str, float]:
    if linkage.interval_radius is None:
        return {}
    return {"interval_coverage": float(np.mean(np.abs(target - linked) <= linkage.interval_radius))}


def _scores(
    target: FloatArray, forecast: FloatArray, event: BoolArray, linkage: Linkage
) -> dict[str, float]:
    p = sigmoid(linkage.log_odds(forecast))
    return {
        "mse": _mse(target, forecast),
        "event_auc": area_under_curve(p, event),
        "event_brier": float(np.mean((p - event) ** 2)),
        "event_accuracy": float(np.mean((p > 0.5) == event)),
        "event_rate_expected": float(p.mean()),
    }


def _mse(target: FloatArray, forecast: FloatArray) -> float:
    return float(np.mean((target - forecast) ** 2))
