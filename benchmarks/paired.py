"""Scores of several seeds on the same test rows: their intervals (`common.evaluation`), and F1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.evaluation.intervals import Interval, crossed_interval

__all__ = ["Interval", "crossed_interval", "weighted_f1"]


def weighted_f1(
    labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], n_classes: int
) -> float:
    """Returns the mean F1 of the classes, weighted by how many rows each one has."""
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (labels, predictions), 1.0)
    right, support = np.diag(confusion), confusion.sum(axis=1)
    f1 = 2 * right / np.maximum(support + confusion.sum(axis=0), 1e-12)
    return float((f1 * support).sum() / support.sum())
