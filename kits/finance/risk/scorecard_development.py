"""Develops a scorecard: bins and effects on train, method, setting and calibration on dev.

The rows of a test are never given to anything here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from common.errors import ModelError, TableError
from common.evaluation.calibration import choose_calibration
from common.evaluation.logistic import sigmoid
from common.evaluation.metrics import log_loss
from kits.finance.risk.credit_panel import Table, row_count
from kits.finance.risk.scorecard import Characteristic, PointsScale, Scorecard
from kits.finance.risk.scorecard_boosting import fit_bin_effects
from kits.finance.risk.weight_of_evidence import Binning, Trend, bin_column

__all__ = [
    "ALL_METHODS",
    "LEAST_INFORMATION",
    "DevelopmentSample",
    "FitMethod",
    "develop_scorecard",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FitMethod = Literal["weight of evidence", "boosting", "boosting of any shape"]

ALL_METHODS: tuple[FitMethod, ...] = get_args(FitMethod)
LEAST_INFORMATION = 0.02  # Siddiqi (2006): a column below says nothing
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class DevelopmentSample:
    """Rows with their outcomes.

    Args:
        table: Columns `(n,)` by name; see `credit_panel`.
        default: `(n,)`.
        group: `(n,)` what stays together (companies, copies of a row).
    """

    table: Table
    default: Bools
    group: npt.NDArray[np.str_]


def develop_scorecard(
    name: str,
    train: DevelopmentSample,
    dev: DevelopmentSample,
    *,
    methods: Sequence[FitMethod] = ALL_METHODS,
    least_information: float = LEAST_INFORMATION,
    scale: PointsScale | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Scorecard:
    """Returns a card whose every choice was made on train and dev.

    Columns whose information value on train reaches `least_information` enter. "weight of evidence"
    fits their weights by a logistic regression with coefficients not below 0 and a ridge penalty;
    "boosting" fits the bins' effects together (`scorecard_boosting`). Both let the PD only rise or
    only fall with a number, missing values aside; "boosting of any shape" does not. The penalty,
    the number of trees and the method with the smallest log loss on dev win, then the calibration
    with the smallest cross-validated log loss there.

    Args:
        name: Of the portfolio.
        train: Rows to bin and fit on.
        dev: Rows to choose on; none of them may be in `train`.
        methods: What is tried.
        least_information: Columns below are left out.
        scale: Of the points; 600 at 30:1, 20 to double, without it.
        facts: What else the card should say of its origin; JSON values.

    Raises:
        TableError: A group is in both samples, or no column tells anything.
        InputError: Dev has fewer than ten defaults or others.
        ModelError: The regression does not converge.
    """
    if set(train.group.tolist()) & set(dev.group.tolist()):
        raise TableError(
            "development sample",
            expected="train and dev without a common company or copied row",
            found="some in both",
            remedy="Divide them with credit_panel.split_panel.",
        )
    binnings = _telling(train, least_information)
    fits = {method: _FITS[method](binnings, train, dev) for method in methods}
    method = min(methods, key=lambda m: fits[m].dev_log_loss)
    chosen = fits[method]
    choice = choose_calibration(_log_odds(chosen, dev.table), dev.default, groups=dev.group)
    used = [
        c for c in chosen.characteristics if c.coefficient > 0 and len(set(c.binning.weights)) > 1
    ]
    used.sort(key=lambda c: -c.coefficient * c.binning.information_value)
    return Scorecard(
        name=name,
        characteristics=tuple(used),
        baseline_log_odds=_baseline(chosen),
        calibration=choice.calibration,
        scale=scale or PointsScale(),
        facts={
            **(facts or {}),
            "method": method,
            "setting": chosen.setting,
            "dev_log_losses": {m: fit.dev_log_loss for m, fit in fits.items()},
            "train_rows": len(train.default),
            "train_defaults": int(train.default.sum()),
            "dev_rows": len(dev.default),
            "dev_defaults": int(dev.default.sum()),
            "calibration_log_losses": dict(choice.log_losses),
            "information_values": {b.name: b.information_value for b in binnings},
        },
    )


@dataclass(frozen=True)
class _Fit:
    """`constant + sum of coefficient x weight`, before any choice between methods."""

    characteristics: tuple[Characteristic, ...]
    constant: float
    setting: str
    dev_log_loss: float


def _by_evidence(binnings: list[Binning], train: DevelopmentSample, dev: DevelopmentSample) -> _Fit:
    x, x_dev = _weights(binnings, train.table), _weights(binnings, dev.table)
    fits = {p: _fit(x, train.default, p) for p in _PENALTIES}
    losses = {p: log_loss(sigmoid(a + x_dev @ b), dev.default) for p, (a, b) in fits.items()}
    penalty = min(_PENALTIES, key=losses.__getitem__)
    constant, coefficients = fits[penalty]
    pairs = zip(binnings, coefficients, strict=True)
    characteristics = tuple(Characteristic(binning, float(c)) for binning, c in pairs)
    return _Fit(characteristics, constant, f"ridge {penalty:g}", losses[penalty])


def _by_boosting(
    binnings: list[Binning],
    train: DevelopmentSample,
    dev: DevelopmentSample,
    trend: Trend = "monotone",
) -> _Fit:
    fitted, constant = fit_bin_effects(
        binnings, (train.table, train.default), (dev.table, dev.default), trend=trend
    )
    log_odds = constant + _weights(fitted, dev.table).sum(1)
    return _Fit(
        tuple(Characteristic(binning, 1.0) for binning in fitted),
        constant,
        f"one column a tree, {trend}",
        log_loss(sigmoid(log_odds), dev.default),
    )


_FITS: Mapping[FitMethod, Callable[..., _Fit]] = MappingProxyType(
    {
        "weight of evidence": _by_evidence,
        "boosting": _by_boosting,
        "boosting of any shape": partial(_by_boosting, trend="free"),
    }
)


def _baseline(fit: _Fit) -> float:
    return fit.constant + sum(c.coefficient * c.binning.mean_weight for c in fit.characteristics)


def _log_odds(fit: _Fit, table: Table) -> Floats:
    parts = [c.contribution(table[c.binning.name]) for c in fit.characteristics]
    return np.asarray(_baseline(fit) + np.sum(parts, axis=0))


def _telling(train: DevelopmentSample, least: float) -> list[Binning]:
    row_count(train.table)
    found = [bin_column(name, values, train.default) for name, values in train.table.items()]
    kept = [binning for binning in found if binning.information_value >= least]
    if not kept:
        raise TableError(
            "development sample",
            expected=f"a column with an information value of {least:g} or more",
            found=f"none of {len(found)}",
            remedy="These columns do not tell defaults apart; a card of them would be noise.",
        )
    return kept


def _weights(binnings: Sequence[Binning], table: Table) -> Floats:
    """Returns the weights of evidence of each row, `(n, n_columns)`."""
    return np.column_stack([np.array(b.weights)[b.index(table[b.name])] for b in binnings])


def _fit(x: Floats, default: Bools, penalty: float) -> tuple[float, Floats]:
    """Returns intercept and coefficients, none below 0, of the penalised logistic regression."""
    from scipy.optimize import minimize

    y = default.astype(np.float64)
    mean = x.mean(0)
    z = x - mean

    def objective(beta: Floats) -> tuple[float, Floats]:
        s = beta[0] + z @ beta[1:]
        residual = sigmoid(s) - y
        value = np.logaddexp(0.0, s).sum() - y @ s + penalty * (beta[1:] ** 2).sum() / 2
        slope = np.concatenate([[residual.sum()], z.T @ residual + penalty * beta[1:]])
        return float(value) / len(y), slope / len(y)

    start = np.concatenate([[np.log(y.mean() / (1 - y.mean()))], np.full(x.shape[1], 0.1)])
    bounds = [(None, None), *[(0.0, None)] * x.shape[1]]
    options = {"maxiter": 5000, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    if not found.success:
        raise ModelError(
            "scorecard regression",
            expected="convergence",
            found=str(found.message),
            remedy="Look for columns that copy one another or the outcome.",
        )
    return float(found.x[0] - mean @ found.x[1:]), np.asarray(found.x[1:])
