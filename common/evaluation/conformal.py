"""Conformal intervals: coverage that holds for finite samples, whatever the model.

Precondition of every promise here: calibration rows and new rows are exchangeable, and the
model was fitted on neither. Time series that change their level are not exchangeable; there
the coverage is an aim, to be watched. Coverage is marginal: over all rows, not for each kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import InputError

__all__ = [
    "ConformalQuantiles",
    "SplitConformal",
    "conformal_quantile",
    "fit_conformal_quantiles",
    "fit_split_conformal",
    "least_calibration_rows",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SplitConformal:
    """`prediction +- radius`.

    Args:
        radius: Half the width, in the outcome's unit.
        level: Coverage: at least `level`, at most `level + 1 / (n_rows + 1)` without ties.
        n_rows: Calibration rows.
    """

    radius: float
    level: float
    n_rows: int

    def interval(self, prediction: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Returns low and high ends, `(n,)` each."""
        centre = np.asarray(prediction, dtype=np.float64)
        return centre - self.radius, centre + self.radius


@dataclass(frozen=True)
class ConformalQuantiles:
    """`[low quantile - margin, high quantile + margin]`.

    Args:
        margin: What widens the quantiles, in the outcome's unit; negative where they were wide.
        level: Coverage, as in `SplitConformal`.
        n_rows: Calibration rows.
    """

    margin: float
    level: float
    n_rows: int

    def interval(self, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Returns low and high ends; ends that would cross meet in their middle."""
        a = np.asarray(low, dtype=np.float64) - self.margin
        b = np.asarray(high, dtype=np.float64) + self.margin
        middle = (a + b) / 2
        return np.minimum(a, middle), np.maximum(b, middle)


def fit_split_conformal(
    outcome: npt.ArrayLike, prediction: npt.ArrayLike, *, level: float = 0.9
) -> SplitConformal:
    """Returns intervals around a point forecast, calibrated on rows that it was not fitted on.

    Papadopoulos et al. (2002); Lei et al. (2018), "Distribution-free predictive inference for
    regression", theorem 2.2, with the absolute residual as score.

    Args:
        outcome: `(n,)`.
        prediction: `(n,)`.
        level: Coverage.

    Raises:
        InputError: Shapes differ, a value is no finite number, or there are too few rows.
    """
    y, p = _finite(outcome, prediction)
    return SplitConformal(conformal_quantile(np.abs(y - p), level=level), level, len(y))


def fit_conformal_quantiles(
    outcome: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, *, level: float = 0.9
) -> ConformalQuantiles:
    """Returns what makes a pair of quantile forecasts cover as often as it says.

    Romano, Patterson and Candes (2019), "Conformalized quantile regression", theorem 1: the score
    is max(low - y, y - high).

    Args:
        outcome: `(n,)`.
        low: `(n,)` forecast of the lower quantile.
        high: `(n,)` forecast of the upper one.
        level: Coverage.

    Raises:
        InputError: As in `fit_split_conformal`.
    """
    y, a, b = _finite(outcome, low, high)
    margin = conformal_quantile(np.maximum(a - y, y - b), level=level)
    return ConformalQuantiles(margin, level, len(y))


def conformal_quantile(scores: npt.ArrayLike, *, level: float) -> float:
    """Returns the ceil((n + 1) level)-th smallest score.

    A new exchangeable score is at most that with probability `level` or more.

    Raises:
        InputError: The level is out of bounds or there are too few rows for it; the interval
            would be infinite.
    """
    s = np.sort(np.asarray(scores, dtype=np.float64))
    least = least_calibration_rows(level)
    if len(s) < least:
        raise InputError(
            "conformal calibration",
            expected=f"{least} or more rows for a level of {level:g}",
            found=str(len(s)),
            remedy="Set more rows aside, or ask for a lower level.",
        )
    return float(s[_rank(len(s), level) - 1])


def least_calibration_rows(level: float) -> int:
    """Returns how many calibration rows a finite interval of that level needs.

    Raises:
        InputError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(
            "conformal level", expected="between 0 and 1", found=f"{level:g}", remedy="Give 0.9."
        )
    n = max(1, math.ceil(level / (1 - level)) - 1)
    while _rank(n, level) > n:
        n += 1
    return n


def _rank(n: int, level: float) -> int:
    return math.ceil((n + 1) * level - 1e-9)  # 0.9 x 10 is 9, not 9.000000000000002


def _finite(*arrays: npt.ArrayLike) -> tuple[Floats, ...]:
    read = tuple(np.asarray(array, dtype=np.float64) for array in arrays)
    same = all(a.ndim == 1 and a.shape == read[0].shape for a in read)
    if not same or not all(np.isfinite(a).all() for a in read):
        raise InputError(
            "conformal calibration",
            expected="finite arrays (n,) of one length",
            found=", ".join(str(a.shape) for a in read),
            remedy="Leave rows without an outcome or a forecast out.",
        )
    return read
