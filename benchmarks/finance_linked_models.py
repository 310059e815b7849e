"""Price-only models of the calls' volatility, and the choice among them.

A candidate is fitted to rows of one set and one kind of label, all four horizons alike. It is
judged on train and dev alone, going forward: the train calls are cut into parts by date,
each later part and then dev is predicted from all parts before it.

- "har": ridge on past log-volatility over 3 to 250 days.
- "ridge": ridge on all price features.
- "panel ridge": a ridge fitted to the panel of earlier quarters, and a second one on the calls
  that corrects its residuals; a large second penalty leaves the first as it is.
- "kernel ridge": with a Gaussian kernel, on all price features.
- "boosting": gradient-boosted trees on all price features (scikit-learn's histogram method).
- "mean": the mean of other candidates' forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_calls import Label, LinkedCalls
from benchmarks.finance_linked_panel import PriceRows

__all__ = [
    "Candidate",
    "Judged",
    "PriceProblem",
    "best_of_families",
    "candidates",
    "forward_error",
    "out_of_fold",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_FAR = 5.0  # standard deviations beyond which a feature is cut, so that no line runs away
Predict = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Candidate:
    """A family and its settings; of a mean, its members."""

    family: str
    settings: tuple[float, ...] = ()
    members: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A candidate and its mean squared error going forward in train and dev."""

    candidate: Candidate
    error: float
    dev_error: float


class PriceProblem:
    """One set and one kind of label, ready to be fitted by any candidate.

    Args:
        calls: The set.
        prices: Its features.
        label: Which label.
        seed: Of the boosting.
    """

    def __init__(
        self, calls: LinkedCalls, prices: PriceRows, label: Label, *, seed: int = 0
    ) -> None:
        self.calls, self.prices, self.label, self.seed = calls, prices, label, seed
        self.outcome = calls.labels[label]
        self._of_panel: dict[float, Floats] = {}

    def forecast(self, candidate: Candidate, fit: Ints, rows: Ints) -> Floats:
        """Fits to some rows and returns forecasts of others, `(len(rows), 4)`."""
        if candidate.members:
            found = [self.forecast(member, fit, rows) for member in candidate.members]
            return np.asarray(np.mean(found, axis=0))
        y = self.outcome[fit]
        x = self.prices.har if candidate.family == "har" else self.prices.calls
        if candidate.family in ("har", "ridge"):
            return ridge(x[fit], y, candidate.settings[0])(x[rows])
        if candidate.family == "panel ridge":
            panel_penalty, penalty = candidate.settings
            first = self._panel_forecast(panel_penalty)
            return first[rows] + ridge(x[fit], y - first[fit], penalty)(x[rows])
        if candidate.family == "kernel ridge":
            return _kernel(x[fit], y, *candidate.settings)(x[rows])
        return _boosting(x[fit], y, int(candidate.settings[0]), self.seed)(x[rows])

    def _panel_forecast(self, penalty: float) -> Floats:
        if penalty not in self._of_panel:
            labels = self.prices.panel_labels[self.label]
            fitted = ridge(self.prices.panel, labels, penalty)
            self._of_panel[penalty] = fitted(self.prices.calls)
        return self._of_panel[penalty]


def candidates(choices: Mapping[str, Sequence[Any]]) -> list[Candidate]:
    """Returns the candidates that a configuration names: family -> settings to try."""
    return [
        Candidate(family, tuple(float(x) for x in (one if isinstance(one, list) else [one])))
        for family, tried in choices.items()
        for one in tried
    ]


def forward_error(
    problem: PriceProblem, candidate: Candidate, train: Ints, dev: Ints, *, parts: int
) -> Judged:
    """Returns the error of the forecasts of each later part of train, and of dev, made before it.

    Args:
        problem: The set and label.
        candidate: What is judged.
        train: Rows by date.
        dev: Later rows.
        parts: Parts of train; the first two are never predicted.
    """
    blocks = [*np.array_split(train, parts), dev]
    errors = []
    for at in range(2, len(blocks)):
        rows = blocks[at]
        found = problem.forecast(candidate, np.concatenate(blocks[:at]), rows)
        errors.append((found - problem.outcome[rows]) ** 2)
    return Judged(candidate, float(np.concatenate(errors).mean()), float(errors[-1].mean()))


def best_of_families(judged: Sequence[Judged], *, by_dev: Sequence[str] = ("har",)) -> list[Judged]:
    """Returns each family's best, the best of all first; families of `by_dev` by dev alone."""
    best: dict[str, Judged] = {}
    for one in judged:
        family = one.candidate.family

        def score(j: Judged) -> float:
            return j.dev_error if j.candidate.family in by_dev else j.error

        if family not in best or score(one) < score(best[family]):
            best[family] = one
    return sorted(best.values(), key=lambda j: j.error)


def out_of_fold(
    problem: PriceProblem, candidate: Candidate, train: Ints, others: Ints, *, parts: int
) -> Floats:
    """Returns forecasts of all rows, `(n, 4)`: train rows out of fold, others from all of train.

    Rows in neither are NaN. Folds are runs of consecutive train rows.
    """
    found = np.full_like(problem.outcome, np.nan)
    for part in np.array_split(train, parts):
        found[part] = problem.forecast(candidate, np.setdiff1d(train, part), part)
    found[others] = problem.forecast(candidate, train, others)
    return found


def ridge(x: Floats, y: Floats, penalty: float) -> Predict:
    """Fits a ridge with intercept; the penalty is per row, of features of unit variance."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = _scaled(x, mean, scale)
    z_mean, y_mean = z.mean(axis=0), y.mean(axis=0)
    apart = z - z_mean
    gram = apart.T @ apart / len(z) + penalty * np.eye(z.shape[1])
    beta = np.linalg.solve(gram, apart.T @ (y - y_mean) / len(z))
    return lambda new: (_scaled(new, mean, scale) - z_mean) @ beta + y_mean


def _kernel(x: Floats, y: Floats, alpha: float, width: float) -> Predict:
    from sklearn.kernel_ridge import KernelRidge

    mean, scale, y_mean = x.mean(axis=0), x.std(axis=0) + 1e-9, y.mean(axis=0)
    gamma = 1.0 / (width * x.shape[1])
    model = KernelRidge(alpha=alpha, kernel="rbf", gamma=gamma)
    model.fit(_scaled(x, mean, scale), y - y_mean)
    return lambda new: np.asarray(model.predict(_scaled(new, mean, scale)) + y_mean)


def _boosting(x: Floats, y: Floats, leaves: int, seed: int) -> Predict:
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = [
        HistGradientBoostingRegressor(
            max_iter=120,
            learning_rate=0.04,
            max_leaf_nodes=leaves,
            min_samples_leaf=25,
            l2_regularization=10.0,
            max_features=0.3,
            random_state=seed,
        ).fit(x, column)
        for column in y.T
    ]
    return lambda new: np.column_stack([model.predict(new) for model in models])


def _scaled(x: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.clip((x - mean) / scale, -_FAR, _FAR)
