"""Residual learning: what a text says is added to a price forecast, and never replaces it.

    forecast = p + w (z - z0) B          both sides
    forecast = p                         text switched off, or a row without text
    forecast = p0 + w (z - z0) B         prices switched off

p are price-only forecasts of log-volatility at each horizon, z text features (signals of a
tuned model, an embedding, or both), B a ridge fit of the residuals y - p, w a shrunken weight.
The mean residual is dropped: it is the period's common surprise, which no text could know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.errors import InputError

__all__ = [
    "PENALTIES",
    "ResidualLink",
    "Sides",
    "fit_residual_link",
    "fit_signal_link",
    "shrunken_weight",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sides = Literal["both", "prices", "text"]

PENALTIES = tuple(float(10.0**power) for power in np.arange(-1, 5.5, 0.5))
"""Of a row, for features of unit variance: the sum of squares that a coefficient must earn."""
_LEAST_ROWS = 10


@dataclass(frozen=True, eq=False)
class ResidualLink:
    """A fitted correction; see the module's docstring for the symbols.

    Args:
        price_centre: p0, the mean price forecast of the rows that it was fitted on,
            `(n_horizons,)`.
        feature_centre: z0, `(n_features,)`.
        coefficients: B, `(n_features, n_horizons)`.
        weight: w; 0 where the text did not help on rows that nothing was fitted on.
        penalty: The ridge penalty that was chosen.
    """

    price_centre: Floats
    feature_centre: Floats
    coefficients: Floats
    weight: float
    penalty: float

    def signal(self, features: npt.ArrayLike) -> Floats:
        """Returns (z - z0) B, `(n, n_horizons)`; exactly 0 for a row with a NaN (no text)."""
        z = np.asarray(features, dtype=np.float64) - self.feature_centre
        told = np.isfinite(z).all(axis=1)
        found = np.zeros((len(z), self.coefficients.shape[1]))
        found[told] = z[told] @ self.coefficients
        return found

    def forecast(
        self, price: npt.ArrayLike, features: npt.ArrayLike | None = None, *, sides: Sides = "both"
    ) -> Floats:
        """Returns log-volatility, `(n, n_horizons)`.

        Args:
            price: p, `(n, n_horizons)`.
            features: z, `(n, n_features)`, NaN in the rows without text; None where no row
                has any. Then, and with `sides` "prices", the result is p to the last bit.
            sides: Which sides speak.

        Raises:
            InputError: Only the text may speak and there is none.
        """
        p = np.array(price, dtype=np.float64)
        if sides == "text":
            if features is None:
                raise InputError(
                    "linked forecast",
                    expected="text features, with prices switched off",
                    found="none",
                    remedy="Give the features, or let the prices speak.",
                )
            p = np.broadcast_to(self.price_centre, p.shape).copy()
        if features is None or sides == "prices" or self.weight == 0:
            return p
        added = self.weight * self.signal(features)
        return np.where(added == 0, p, p + added)


def fit_residual_link(
    features: npt.ArrayLike,
    price: npt.ArrayLike,
    outcome: npt.ArrayLike,
    *,
    fit: Ints,
    choose: Ints,
    penalties: Sequence[float] = PENALTIES,
) -> ResidualLink:
    """Fits B on some rows; other rows choose its penalty and its weight.

    Args:
        features: z, `(n, n_features)`; rows without text hold NaN and are left out.
        price: p, `(n, n_horizons)`, on the rows of `fit` from models that were not fitted on
            them (out of fold): residuals of a fit to the same rows are too small.
        outcome: y, `(n, n_horizons)`.
        fit: Rows to fit B on.
        choose: Rows, none of them in `fit`, for penalty and weight. Rows elsewhere are not
            looked at.
        penalties: The choices.

    Raises:
        InputError: Too few rows with text, or rows that do both.
    """
    z, p, y = (np.asarray(a, dtype=np.float64) for a in (features, price, outcome))
    told = np.asarray(np.isfinite(z).all(axis=1))
    fit, choose = fit[told[fit]], choose[told[choose]]
    if min(len(fit), len(choose)) < _LEAST_ROWS or np.intersect1d(fit, choose).size:
        raise InputError(
            "rows of a residual fit",
            expected=f"{_LEAST_ROWS} or more with text to fit and to choose on, none in both",
            found=f"{len(fit)}, {len(choose)}, {np.intersect1d(fit, choose).size} in both",
            remedy="Give later rows to choose on.",
        )
    residual = y - p
    wanted = residual[choose] - residual[choose].mean(axis=0)
    centre = z[fit].mean(axis=0)
    best: tuple[float, float, Floats] | None = None
    for penalty, coefficients in _ridges(z[fit] - centre, residual[fit], penalties):
        signal = (z[choose] - centre) @ coefficients
        error = float(np.mean((wanted - (signal - signal.mean(axis=0))) ** 2))
        if best is None or error < best[0]:
            best = (error, penalty, coefficients)
    assert best is not None  # noqa: S101  # there is a penalty
    _, penalty, coefficients = best
    return ResidualLink(
        price_centre=p[fit].mean(axis=0),
        feature_centre=centre,
        coefficients=coefficients,
        weight=shrunken_weight(residual[choose], (z[choose] - centre) @ coefficients),
        penalty=penalty,
    )


def fit_signal_link(
    signals: npt.ArrayLike, price: npt.ArrayLike, outcome: npt.ArrayLike, *, choose: Ints
) -> ResidualLink:
    """Links the signals of a tuned text model, one per horizon, already in the residual's unit.

    B is the identity; only the weight is fitted.

    Args:
        signals: `(n, n_horizons)`; rows without text hold NaN.
        price: p, `(n, n_horizons)`.
        outcome: y, `(n, n_horizons)`.
        choose: Rows that neither the text model nor the price model was fitted on.

    Raises:
        InputError: Too few rows with text.
    """
    z, p, y = (np.asarray(a, dtype=np.float64) for a in (signals, price, outcome))
    told = np.asarray(np.isfinite(z).all(axis=1))
    choose = choose[told[choose]]
    if len(choose) < _LEAST_ROWS:
        raise InputError(
            "rows of a residual fit",
            expected=f"{_LEAST_ROWS} or more with text to choose the weight on",
            found=str(len(choose)),
            remedy="Give more rows.",
        )
    return ResidualLink(
        price_centre=p[choose].mean(axis=0),
        feature_centre=z[choose].mean(axis=0),
        coefficients=np.eye(z.shape[1]),
        weight=shrunken_weight((y - p)[choose], z[choose]),
        penalty=0.0,
    )


def shrunken_weight(residual: npt.ArrayLike, signal: npt.ArrayLike) -> float:
    """Returns one weight for a signal at all horizons, shrunk towards 0.

    Least squares over all horizons, each around its mean, with the standard error that
    rows of correlated horizons have (clustered by row; Liang and Zeger 1986). It is shrunk by the
    positive-part James-Stein factor of one coefficient, max(0, 1 - se^2 / slope^2), and cut to
    0 .. 1: a signal of the wrong sign has no say, and none is amplified.

    Args:
        residual: `(n, n_horizons)`.
        signal: `(n, n_horizons)`, in the residual's unit.
    """
    r, s = (np.asarray(a, dtype=np.float64) for a in (residual, signal))
    r, s = r - r.mean(axis=0), s - s.mean(axis=0)
    total = float((s * s).sum())
    if total == 0:
        return 0.0
    slope = float((s * r).sum()) / total
    if slope <= 0:
        return 0.0
    score = (s * (r - slope * s)).sum(axis=1)
    variance = float((score**2).sum()) / total**2 * len(r) / max(1, len(r) - 2)
    return float(min(1.0, slope * max(0.0, 1.0 - variance / slope**2)))


def _ridges(z: Floats, residual: Floats, penalties: Sequence[float]) -> list[tuple[float, Floats]]:
    """Returns coefficients for each penalty, from one decomposition of the smaller side."""
    scale = float(np.sqrt((z**2).mean(axis=0).mean())) or 1.0
    x, r = z / scale, residual - residual.mean(axis=0)
    if x.shape[1] > len(x):  # x'(xx' + penalty)^-1 r, the same as the other to rounding
        values, vectors = np.linalg.eigh(x @ x.T)
        left, seen = x.T @ vectors, vectors.T @ r
    else:
        values, left = np.linalg.eigh(x.T @ x)
        seen = left.T @ (x.T @ r)
    shrunk = [seen / (np.maximum(values, 0.0) + penalty)[:, None] for penalty in penalties]
    return [(penalty, left @ one / scale) for penalty, one in zip(penalties, shrunk, strict=True)]
