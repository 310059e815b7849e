"""What `finance.credit` compares: our scorecard, a plain logistic floor, boosting, a control.

Each is fitted on train, chosen and calibrated on dev by the same rule, and scores the test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from common.evaluation.calibration import choose_calibration
from common.evaluation.metrics import area_under_curve, log_loss
from kits.finance.risk.credit_panel import CreditPanel, PanelSplit, Table, rows_of
from kits.finance.risk.scorecard_development import (
    ALL_METHODS,
    DevelopmentSample,
    FitMethod,
    develop_scorecard,
)

__all__ = ["MODELS", "CreditProtocol", "Scored", "control_areas", "score_fold"]

Floats = npt.NDArray[np.float64]

_WINSOR = (0.01, 0.99)  # ratios have outliers that would make the floor a straw man


@dataclass(frozen=True)
class CreditProtocol:
    """The benchmark's configuration; see benchmarks/configs/finance.credit.json."""

    panels: tuple[str, ...]
    folds: int
    first_test_day: Mapping[str, str]
    shuffles: int
    boosting: tuple[Mapping[str, Any], ...]
    logistic_c: float
    bins: int
    draws: int
    seed: int


@dataclass(frozen=True)
class Scored:
    """A model's answer on the test rows of a fold.

    Args:
        log_odds: `(n,)` before calibration: what ranks.
        probability: `(n,)` calibrated.
        chosen: What was chosen on dev, in words.
    """

    log_odds: Floats
    probability: Floats
    chosen: str


def score_fold(
    model: str, panel: CreditPanel, split: PanelSplit, protocol: CreditProtocol
) -> Scored:
    """Returns what one of `MODELS` says of the fold's test rows."""
    samples = tuple(
        DevelopmentSample(rows_of(panel.columns, rows), panel.default[rows], panel.group[rows])
        for rows in (split.train, split.dev)
    )
    return MODELS[model](samples[0], samples[1], rows_of(panel.columns, split.test), protocol)


def _scorecard(
    train: DevelopmentSample,
    dev: DevelopmentSample,
    test: Table,
    protocol: CreditProtocol,
    methods: Sequence[FitMethod] = ALL_METHODS,
) -> Scored:
    del protocol  # a card has no settings outside its development
    card = develop_scorecard("benchmark", train, dev, methods=methods)
    scored = card.apply(test)
    calibration = card.calibration.to_json()["method"]
    chosen = f"{card.facts['method']}, {len(card.characteristics)} columns, {calibration}"
    return Scored(scored.log_odds, scored.probability_of_default, chosen)


def control_areas(panel: CreditPanel, split: PanelSplit, protocol: CreditProtocol) -> list[float]:
    """Returns the areas of scorecards developed on outcomes that were dealt out anew.

    They may tell nobody apart: their mean is about a half. One shuffle alone may be far from it,
    where borrowers differ mostly along one line.
    """
    random = np.random.default_rng(protocol.seed)
    areas = []
    for _ in range(protocol.shuffles):
        train, dev = (
            DevelopmentSample(
                rows_of(panel.columns, rows),
                random.permutation(panel.default[rows]),
                panel.group[rows],
            )
            for rows in (split.train, split.dev)
        )
        card = develop_scorecard(
            "control", train, dev, methods=["weight of evidence"], least_information=0.0
        )
        scored = card.apply(rows_of(panel.columns, split.test))
        areas.append(area_under_curve(scored.log_odds, panel.default[split.test]).value)
    return areas


def _logistic(
    train: DevelopmentSample, dev: DevelopmentSample, test: Table, protocol: CreditProtocol
) -> Scored:
    """Winsorised, median-imputed, standardised numbers, flags of missing values, one-hot text."""
    from sklearn.linear_model import LogisticRegression

    design = _linear_design(train.table)
    model = LogisticRegression(C=protocol.logistic_c, max_iter=5000)
    model.fit(design(train.table), train.default)
    return _calibrated(
        model.decision_function(design(dev.table)),
        model.decision_function(design(test)),
        dev,
        f"C {protocol.logistic_c:g}",
    )


def _boosting(
    train: DevelopmentSample, dev: DevelopmentSample, test: Table, protocol: CreditProtocol
) -> Scored:
    """scikit-learn's histogram boosting; its settings are chosen by log loss on dev."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    design, is_text = _tree_design(train.table)
    fits = []
    for settings in protocol.boosting:
        model = HistGradientBoostingClassifier(
            **settings,
            categorical_features=is_text,
            early_stopping=False,
            random_state=protocol.seed,
        )
        model.fit(design(train.table), train.default)
        loss = log_loss(model.predict_proba(design(dev.table))[:, 1], dev.default)
        fits.append((loss, model, settings))
    _, best, settings = min(fits, key=lambda fit: fit[0])
    return _calibrated(
        best.decision_function(design(dev.table)),
        best.decision_function(design(test)),
        dev,
        ", ".join(f"{name} {value}" for name, value in settings.items()),
    )


def _calibrated(of_dev: Floats, of_test: Floats, dev: DevelopmentSample, chosen: str) -> Scored:
    choice = choose_calibration(of_dev, dev.default, groups=dev.group)
    probability = choice.calibration.probability(of_test)
    return Scored(of_test, probability, f"{chosen}, {choice.method}")


def _linear_design(train: Table) -> Callable[[Table], Floats]:
    numbers = [name for name, values in train.items() if values.dtype.kind == "f"]
    texts = {name: np.unique(v) for name, v in train.items() if v.dtype.kind == "U"}
    present = {name: train[name][~np.isnan(train[name])] for name in numbers}
    numbers = [name for name in numbers if present[name].size]
    limits = {name: np.quantile(present[name], _WINSOR) for name in numbers}
    facts = {}
    for name in numbers:
        cut = np.clip(present[name], *limits[name])
        facts[name] = (float(np.median(cut)), float(cut.mean()), float(cut.std()) or 1.0)

    def design(table: Table) -> Floats:
        columns: list[Floats] = []
        for name in numbers:
            median, mean, spread = facts[name]
            missing = np.isnan(table[name])
            filled = np.where(missing, median, np.clip(table[name], *limits[name]))
            columns += [(filled - mean) / spread, missing.astype(np.float64)]
        for name, levels in texts.items():
            columns += [(table[name] == level).astype(np.float64) for level in levels]
        return np.column_stack(columns)

    return design


def _tree_design(train: Table) -> tuple[Callable[[Table], Floats], list[bool]]:
    codes = {
        name: {level: float(i) for i, level in enumerate(np.unique(values).tolist())}
        for name, values in train.items()
        if values.dtype.kind == "U"
    }

    def design(table: Table) -> Floats:
        columns = []
        for name in train:
            values = table[name]
            if name in codes:
                coded = [codes[name].get(level, np.nan) for level in values.tolist()]
                values = np.array(coded, dtype=np.float64)
            columns.append(values)
        return np.column_stack(columns)

    return design, [name in codes for name in train]


_Model = Callable[[DevelopmentSample, DevelopmentSample, Table, CreditProtocol], Scored]

MODELS: Mapping[str, _Model] = MappingProxyType(
    {
        "scorecard": _scorecard,
        "scorecard, weight of evidence": partial(_scorecard, methods=["weight of evidence"]),
        "logistic": _logistic,
        "boosting": _boosting,
    }
)
