"""Bin effects fitted together: boosting with one column a tree gives a sum of step functions.

Weights of evidence look at each column alone; here the columns' steps are fitted beside one
another. No tree sees two columns, so the result is a scorecard like any other: a table of bins
with what each adds to the log-odds, exactly. scikit-learn is needed to fit, not to apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from common.evaluation.metrics import log_loss
from kits.finance.risk.credit_panel import Table
from kits.finance.risk.weight_of_evidence import Binning, Trend, bin_column

__all__ = ["fit_bin_effects"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FINEST_BINS, _SMALLEST_SHARE = 60, 0.01
_LEARNING_RATE, _MOST_TREES, _LEAST_LEAF = 0.1, 400, 20


def fit_bin_effects(
    binnings: Sequence[Binning],
    train: tuple[Table, Bools],
    dev: tuple[Table, Bools],
    *,
    trend: Trend = "monotone",
) -> tuple[list[Binning], float]:
    """Returns bins whose weights are their effects on the log-odds, and the constant.

    `log-odds = constant + sum of weights`. The number of trees with the smallest log loss on dev is
    kept. With "monotone", the effect of a number rises or falls as its weights of evidence do;
    missing values are free.

    Args:
        binnings: The columns that enter, each with its weights of evidence.
        train: Columns and outcomes to fit on.
        dev: Columns and outcomes to choose on.
        trend: "monotone" or "free".
    """
    table, default = train
    fine = [
        bin_column(
            b.name, table[b.name], default, trend="free", finest=_FINEST_BINS,
            smallest_share=_SMALLEST_SHARE,
        )
        for b in binnings
    ]  # fmt: skip
    signs = [_sign(b) if trend == "monotone" else 0 for b in binnings]
    is_text = [b.is_text for b in fine]
    x, x_dev = _codes(fine, table), _codes(fine, dev[0])
    model = _fit((x, default), is_text, signs, _MOST_TREES)
    losses = [log_loss(p[:, 1], dev[1]) for p in model.staged_predict_proba(x_dev)]
    model = _fit((x, default), is_text, signs, int(np.argmin(losses)) + 1)
    effects, constant = _effects(model, fine)
    pairs = zip(fine, effects, strict=True)
    return [_merged(binning, effect) for binning, effect in pairs], constant


def _fit(sample: tuple[Floats, Bools], is_text: list[bool], signs: list[int], trees: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        learning_rate=_LEARNING_RATE,
        max_iter=trees,
        max_leaf_nodes=3,
        min_samples_leaf=_LEAST_LEAF,
        interaction_cst="no_interactions",
        monotonic_cst=signs,
        categorical_features=is_text,
        early_stopping=False,
        random_state=0,  # it samples nothing here
    )
    return model.fit(*sample)


def _sign(binning: Binning) -> int:
    """Returns 1 where the weights of a number rise, -1 where they fall, 0 where it has no trend."""
    stated = np.array(binning.weights[:-2])
    if binning.is_text or len(stated) < 2:
        return 0
    return 1 if stated[-1] > stated[0] else -1


def _codes(fine: Sequence[Binning], table: Table) -> Floats:
    """Returns bin numbers, `(n, n_columns)`; a missing number is NaN, missing text a level."""
    columns = []
    for binning in fine:
        index = binning.index(table[binning.name]).astype(np.float64)
        if not binning.is_text:
            index[index >= len(binning.weights) - 2] = np.nan
        columns.append(index)
    return np.column_stack(columns)


def _effects(model: Any, fine: Sequence[Binning]) -> tuple[list[Floats], float]:
    """Returns each bin's step by asking the model, which is additive, for one bin at a time."""
    start = np.zeros((1, len(fine)))
    constant = float(model.decision_function(start)[0])
    effects = []
    for column, binning in enumerate(fine):
        n_bins = len(binning.weights)
        probes = np.repeat(start, n_bins, axis=0)
        probes[:, column] = np.arange(n_bins)
        if not binning.is_text:
            probes[-2:, column] = np.nan
        effects.append(np.asarray(model.decision_function(probes) - constant, dtype=np.float64))
    return effects, constant


def _merged(binning: Binning, effect: Floats) -> Binning:
    """Returns the bins with their effects; neighbours of a number that add the same become one."""
    if binning.is_text:
        return replace(binning, weights=tuple(effect.tolist()))
    stated = effect[:-2]
    ends = [i for i in range(len(stated) - 1) if abs(stated[i + 1] - stated[i]) > 1e-9]
    starts = [0, *(end + 1 for end in ends)]

    def joined(counts: tuple[int, ...]) -> tuple[int, ...]:
        sums = np.add.reduceat(np.array(counts[:-2]), starts)
        return (*(int(total) for total in sums), *counts[-2:])

    return Binning(
        name=binning.name,
        edges=tuple(binning.edges[end] for end in ends),
        levels=(),
        weights=(*(float(stated[start]) for start in starts), *effect[-2:].tolist()),
        rows=joined(binning.rows),
        defaults=joined(binning.defaults),
    )
